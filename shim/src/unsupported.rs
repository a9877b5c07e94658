//! Limits that the configuration knows and that nothing enforces yet.

use curfew_config::PodPolicy;

/// The annotation of the first of them that is set for the pod, be it by its class.
pub(crate) fn unsupported_limit(policy: &PodPolicy) -> Option<&'static str> {
    policy.opt_in().into_iter().find_map(|(key, limit)| limit.map(|_| key))
}

//! Annotations: some of runsc's own move the sandbox out of its cgroup or open files of the host.

use curfew_config::NodePolicy;
use serde_json::Value;

use super::{Object, Refusal, malformed};
use crate::pod::group::RUNSC_NEEDS;

/// Keeps what runsc needs to tell a pod's sandbox from its containers, and what the node allows by its whole key.
pub(super) fn confine(spec: &mut Object, policy: &NodePolicy) -> Result<(), Refusal> {
    match spec.get_mut("annotations") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(annotations)) => {
            annotations.retain(|key, _| {
                RUNSC_NEEDS.contains(&key.as_str()) || policy.annotations.allow.contains(key)
            });
            Ok(())
        }
        Some(_) => Err(malformed("annotations")),
    }
}

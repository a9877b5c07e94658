//! The memory of a pod that nobody above has limited: what its containers may use, and what a sandbox needs for itself.
//!
//! kubelet limits a pod whose containers all have limits, and then this stays out of its way. Elsewhere only the node's
//! ceiling would hold, and a container that grows faster than it is looked at could take all of that.

use super::Pod;
use crate::{
    resources::{self, Limit, Resources},
    stats::memory_limit,
};

/// What a sandbox uses beyond its guests' memory: the sentry itself and its caches, and a gofer for each container.
const SANDBOX_OVERHEAD: u64 = 64 << 20;
const CONTAINER_OVERHEAD: u64 = 16 << 20;

impl Pod {
    /// Gives the sandbox's cgroup as much memory as the pod's containers may use together. Where one of them has no limit,
    /// or the pod's cgroup above has, the cgroup keeps what its root container's spec says.
    pub(super) fn limit_pod_memory(&self) {
        let Some(sandbox) = &self.sandbox else { return };
        let root = self.record.sandbox.root_container();
        let Some(most) = self.containers.get(&root).and_then(|root| root.ceilings.memory) else { return };
        let others = self.containers.iter().filter(|(id, _)| **id != root);
        let limits: Vec<Option<u64>> = others.map(|(_, container)| container.ceilings.memory).collect();
        if limits.is_empty() || sandbox.cgroup.parents().any(|above| memory_limit(&above).is_some()) {
            return;
        }
        let memory = with_overhead(&limits).unwrap_or(most).min(most);
        if memory_limit(&sandbox.cgroup) == Some(memory) {
            return;
        }
        // At once: these are in order then. A limit below what is in use is refused, so nothing has to be reclaimed.
        let resources =
            Resources { memory: Some(Limit::At(memory)), check_usage: true, ..Resources::default() };
        if let Err(error) = resources::apply(&resources, &sandbox.cgroup) {
            log::warn!(pod = root.as_str(); "its memory stays as it is: {error}");
        }
    }
}

/// The memory of a sandbox whose containers have these limits; `None` if one has none.
fn with_overhead(limits: &[Option<u64>]) -> Option<u64> {
    limits.iter().try_fold(SANDBOX_OVERHEAD, |sum, limit| {
        Some(sum.saturating_add((*limit)?).saturating_add(CONTAINER_OVERHEAD))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_may_use_what_its_containers_may_and_a_documented_overhead() {
        const MIB: u64 = 1 << 20;
        assert_eq!(with_overhead(&[Some(64 * MIB), Some(64 * MIB)]), Some(224 * MIB));
        assert_eq!(with_overhead(&[Some(64 * MIB), None]), None);
        assert_eq!(with_overhead(&[Some(u64::MAX), Some(1)]), Some(u64::MAX));
    }
}

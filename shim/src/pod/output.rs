//! The end of a container that has written more than it may, where the node limits that (`limits.log_size`).

use std::sync::Arc;

use runsc_bridge::ContainerId;

use super::{Input, Pod};
use crate::stdio::budget::OutputBudget;

impl Pod {
    /// A budget for the output of container `id`, if the node has one; the pod is told when it is used up.
    pub(super) fn limit_output(&self, id: &ContainerId) -> Option<Arc<OutputBudget>> {
        let (budget, exceeded) = OutputBudget::new(self.record.policy.limits.log_size?);
        let (id, outcomes) = (id.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            // An error is the container's own end.
            if exceeded.await.is_ok() {
                let _ = outcomes.send(Input::OverOutput(id));
            }
        });
        Some(budget)
    }

    /// The container has written more than it may. What is beyond that was lost already.
    pub(super) fn end_for_output(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.init.has_ended() {
            return;
        }
        container.over_output = true;
        let most = self.record.policy.limits.log_size.unwrap_or_default();
        log::warn!(container = id.as_str(); "LogSizeExceeded: it has written more than {most} bytes, limits.log_size: ending it");
        self.kill_all_of(id);
    }
}

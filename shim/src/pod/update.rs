//! Update: new limits for a container's own cgroup, written by the shim itself and never above the node's. A limit of
//! processes is kept inside the sandbox.
//!
//! Of a plain container that is the sandbox's cgroup. A pod's containers share the sandbox, whose limits are the pod's
//! and kubelet's to set: their own cgroups have no members, and what is written there shows and limits nothing.

use runsc_bridge::ContainerId;

use super::{Input, Pod, process::Responder};
use crate::{
    cgroup::Cgroup,
    command::Reply,
    error::Error,
    lifecycle::Phase,
    resources::{self, Limit, Resources},
};

impl Pod {
    pub(super) fn update(&mut self, id: &ContainerId, mut resources: Resources, responder: Responder) {
        let cgroup = match self.may_update(id) {
            Ok(cgroup) => cgroup,
            Err(error) => return drop(responder.send(Err(error))),
        };
        resources.hold_below(&self.record.policy.limits);
        let pids = resources.take_pids(self.most_pids());
        let control = self.control().ok();
        self.take_memory(id, resources.memory);
        let running = self.containers.get_mut(id).is_some_and(|container| {
            // One that hasn't started gets it then.
            container.ceilings.pids = pids.unwrap_or(container.ceilings.pids);
            container.init.phase != Phase::Created
        });
        let (id, limit) = (id.clone(), self.tools.calls.signal);
        self.spawn(async move {
            // The kernel may have to reclaim memory first.
            let applied = tokio::task::spawn_blocking(move || resources::apply(&resources, &cgroup)).await;
            let mut result = match applied {
                Ok(result) => result.map_err(Error::from),
                Err(_) => Err(Error::Internal("the shim ends")),
            };
            if let (Ok(()), Some(pids), Some(control), true) = (&result, pids, control, running) {
                result = control.limit_pids(&id, pids, limit).await.map_err(Error::from);
            }
            Input::Answered(responder, result.map(|()| Reply::Done))
        });
    }

    /// A new limit of a container that shares its sandbox holds inside; the kernel doesn't know it.
    fn take_memory(&mut self, id: &ContainerId, memory: Option<Limit>) {
        let (Some(container), Some(Limit::At(memory))) = (self.containers.get_mut(id), memory) else {
            return;
        };
        container.ceilings.memory = Some(memory);
        if container.role.is_root() {
            return;
        }
        if container.init.phase != Phase::Created {
            self.watch_container_memory(id);
        }
        self.limit_pod_memory();
    }

    fn may_update(&mut self, id: &ContainerId) -> Result<Cgroup, Error> {
        let container = self.container_mut(id)?;
        let phase = container.init.phase;
        match phase {
            Phase::Creating | Phase::CreatingKilled => {
                Err(Error::Phase { id: id.to_string(), phase, request: "Update" })
            }
            Phase::Stopped | Phase::Deleting => {
                Err(Error::NotFound { what: "running container", id: id.to_string() })
            }
            Phase::Created | Phase::Starting | Phase::Running => Ok(container.cgroup.clone()),
            Phase::Pausing | Phase::Paused | Phase::Resuming => Ok(container.cgroup.clone()),
        }
    }
}

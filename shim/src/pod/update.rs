//! Update: new limits for a container's own cgroup, written by the shim itself.
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
    resources::{self, Resources},
};

impl Pod {
    pub(super) fn update(&mut self, id: &ContainerId, resources: Resources, responder: Responder) {
        let cgroup = match self.may_update(id) {
            Ok(cgroup) => cgroup,
            Err(error) => return drop(responder.send(Err(error))),
        };
        self.spawn(async move {
            // The kernel may have to reclaim memory first.
            let applied = tokio::task::spawn_blocking(move || resources::apply(&resources, &cgroup)).await;
            let result = match applied {
                Ok(result) => result.map(|()| Reply::Done).map_err(Error::from),
                Err(_) => Err(Error::Internal("the shim ends")),
            };
            Input::Answered(responder, result)
        });
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

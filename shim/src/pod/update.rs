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
    resources::{self, Limit, Resources, ResourcesError},
};

/// What an Update brings for a container's life in the sandbox.
pub(super) struct Updated {
    id: ContainerId,
    memory: Option<Limit>,
    pids: Option<u64>,
}

impl Pod {
    pub(super) fn update(&mut self, id: &ContainerId, mut resources: Resources, responder: Responder) {
        let cgroup = match self.may_update(id) {
            Ok(cgroup) => cgroup,
            Err(error) => return drop(responder.send(Err(error))),
        };
        resources.hold_below(&self.record.policy.limits);
        let pids = resources.take_pids(self.most_pids());
        let control = self.control().ok();
        let is_running = self.containers.get(id).is_some_and(|c| c.init.phase != Phase::Created);
        let (id, limit, memory) = (id.clone(), self.tools.calls.signal, resources.memory);
        self.spawn(async move {
            // The kernel may have to reclaim memory first.
            let applied = tokio::task::spawn_blocking(move || apply(&resources, &cgroup)).await;
            let mut result = match applied {
                Ok(result) => result.map_err(Error::from),
                Err(_) => Err(Error::Internal("the shim ends")),
            };
            // One that hasn't started gets it then.
            if let (Ok(()), Some(pids), Some(control), true) = (&result, pids, control, is_running) {
                result = control.limit_pids(&id, pids, limit).await.map_err(Error::from);
            }
            Input::Updated(Updated { id, memory, pids }, responder, result)
        });
    }

    /// What an Update has changed holds from now on; one that failed has changed nothing.
    pub(super) fn updated(&mut self, updated: Updated, responder: Responder, result: Result<(), Error>) {
        if result.is_ok() {
            self.take_limits(&updated);
        }
        let _ = responder.send(result.map(|()| Reply::Done));
    }

    /// A container that shares its sandbox has its limits inside; the kernel doesn't know them.
    fn take_limits(&mut self, Updated { id, memory, pids }: &Updated) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.ceilings.pids = pids.unwrap_or(container.ceilings.pids);
        let Some(Limit::At(memory)) = *memory else { return };
        container.ceilings.memory = Some(memory);
        if container.role.is_root() {
            return;
        }
        if matches!(container.init.phase, Phase::Running | Phase::Pausing | Phase::Paused | Phase::Resuming) {
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

/// Writes to a cgroup, if there is one: runsc makes none for a container of a pod whose cgroups are systemd's.
fn apply(resources: &Resources, cgroup: &Cgroup) -> Result<(), ResourcesError> {
    match cgroup.directory_with("cgroup.procs") {
        Some(_) => resources::apply(resources, cgroup),
        None => Ok(()),
    }
}

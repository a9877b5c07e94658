//! Delete: after it nothing of the container is left on the node.

use std::{path::PathBuf, sync::Arc, time::Duration};

use runsc_bridge::ContainerId;

use super::{Input, Pod, Tools, process::Responder};
use crate::{
    cgroup::Cgroup,
    command::Reply,
    error::Error,
    events::Event,
    lifecycle::{Effect, Phase, Trigger},
    priority,
    process::{Exit, PidFd, STATUS_KILLED},
    rootfs,
    stdio::ending::Ending,
};

/// How long processes of a sandbox that has ended may take to be gone before they are killed.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long killed processes may take.
const KILLING: Duration = Duration::from_secs(5);

impl Pod {
    pub(super) fn delete(&mut self, id: &ContainerId, responder: Responder) {
        let never_started = self.containers.get(id).is_some_and(|c| c.init.phase == Phase::Created);
        let effect = self.container_mut(id).and_then(|container| container.init.transition(Trigger::Delete));
        match effect {
            Err(error) => drop(responder.send(Err(error))),
            Ok(effect) => {
                if let Some(container) = self.containers.get_mut(id) {
                    container.init.waiting.push(responder);
                    if never_started {
                        container.init.set_exit(Exit::now(STATUS_KILLED));
                    }
                }
                if effect == Effect::RunDelete {
                    self.run_delete(id);
                }
            }
        }
    }

    fn run_delete(&mut self, id: &ContainerId) {
        // runsc is to be started.
        priority::keep();
        let sandbox = self.sandbox.as_ref().map(|sandbox| sandbox.process.clone());
        let is_root = self.containers.get(id).is_some_and(|container| container.role.is_root());
        let cpu_note = self.cpu_note().filter(|_| is_root);
        let Some(container) = self.containers.get_mut(id) else { return };
        container.close_streams();
        let work = DeleteWork {
            id: id.clone(),
            rootfs: rootfs::mount_point(&container.bundle),
            cgroup: container.cgroup.clone(),
            endings: std::mem::take(&mut container.endings),
            gofer: container.gofer.clone(),
            is_root,
            sandbox,
        };
        let tools = self.tools.clone();
        self.spawn(async move {
            if let Some(note) = cpu_note {
                note.write().await;
            }
            let result = work.run(&tools).await;
            // What was written last may still be on its way to where it is kept.
            for ending in work.endings {
                ending.over().await;
            }
            Input::Deleted(work.id, result)
        });
    }

    pub(super) fn deleted(&mut self, id: &ContainerId, result: Result<(), Error>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let trigger = if result.is_ok() { Trigger::DeleteSucceeded } else { Trigger::DeleteFailed };
        match (container.init.transition(trigger), result) {
            (Ok(Effect::AnnounceDeleted), _) => {
                let exit = container.init.exit.borrow().unwrap_or_else(|| Exit::now(STATUS_KILLED));
                let pid = container.init.pid;
                self.events.publish(Event::Delete { id: id.to_string(), pid, exit });
                container.init.answer(Reply::Deleted { pid, exit });
                if container.role.is_root() {
                    self.sandbox = None;
                    self.add_cpu_used();
                    self.record.forget_sandbox();
                    self.watchdog.forget();
                    if self.ledger.is_none() {
                        // Its time was its own, and goes with it.
                        self.record.span = None;
                    }
                }
                self.containers.remove(id);
                self.forget_record(id);
                self.limit_pod_memory();
                // The rest of the pod mostly waits.
                crate::memory::trim();
            }
            (Ok(_), Err(error)) => {
                log::error!(container = id.as_str(); "delete failed: {error}");
                let mut waiting = std::mem::take(&mut container.init.waiting).into_iter();
                if let Some(first) = waiting.next() {
                    let _ = first.send(Err(error));
                }
                for other in waiting {
                    let _ = other.send(Err(Error::Internal("the delete that this one joined has failed")));
                }
            }
            (transition, _) => {
                if let Err(error) = transition {
                    log::error!(container = id.as_str(); "{error}");
                }
            }
        }
    }
}

/// What is to be removed.
struct DeleteWork {
    id: ContainerId,
    rootfs: PathBuf,
    cgroup: Cgroup,
    endings: Vec<Ending>,
    gofer: Option<Arc<PidFd>>,
    /// Whether its end is the sandbox's.
    is_root: bool,
    sandbox: Option<Arc<PidFd>>,
}

impl DeleteWork {
    /// Ends with our own look at the host, not with runsc's word.
    async fn run(&self, tools: &Tools) -> Result<(), Error> {
        if let Some(sandbox) = self.sandbox.as_ref().filter(|_| self.is_root) {
            // Already dead, unless the container was never started.
            end(sandbox, Duration::ZERO).await?;
        }
        if let Err(error) = tools.cli.delete(&self.id, tools.calls.delete).await {
            if !self.sandbox_is_gone().await {
                return Err(error.into());
            }
            // What there was of it went with the sandbox, and what is left is looked for below.
            log::warn!(container = self.id.as_str(); "{error}");
        }
        if let Some(gofer) = &self.gofer {
            end(gofer, PATIENCE).await?;
        }
        let removed = match self.is_root && self.sandbox.is_some() {
            true => self.cgroup.end(KILLING).await,
            false => self.cgroup.remove(KILLING).await,
        };
        removed.map_err(Error::system("removing the cgroup"))?;
        rootfs::unmount_elsewhere(self.rootfs.clone()).await?;
        Ok(())
    }

    /// Then runsc had nothing left to do but to remove its own notes. One that is being killed answers nobody any more.
    async fn sandbox_is_gone(&self) -> bool {
        match &self.sandbox {
            Some(sandbox) => self.is_root || sandbox.ended_within(PATIENCE).await,
            None => true,
        }
    }
}

/// Waits for a process to end, and kills it after `patience`.
async fn end(process: &PidFd, patience: Duration) -> Result<(), Error> {
    if process.ended_within(patience).await {
        return Ok(());
    }
    process.kill();
    if process.ended_within(KILLING).await {
        return Ok(());
    }
    Err(Error::Internal("a process of the sandbox survives SIGKILL"))
}

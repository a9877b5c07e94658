//! Kill: a signal reaches its process, or the caller learns that there is none.

use std::{sync::Arc, time::Duration};

use runsc_bridge::{ContainerId, ControlSocket, Kind, SignalScope};

use super::{Pod, process::Responder};
use crate::{
    command::{ProcessId, Reply, Signal},
    deadline::escalate::Target,
    error::Error,
    lifecycle::{Effect, Phase, Trigger},
    process::{PidFd, STATUS_KILLED},
};

impl Pod {
    pub(super) fn kill(&mut self, id: &ProcessId, signal: Signal, all: bool, responder: Responder) {
        let effect = self.process_mut(id).and_then(|process| process.transition(Trigger::Kill));
        match (effect, &id.exec) {
            (Err(error), _) => drop(responder.send(Err(error))),
            (Ok(Effect::EndUnstarted), exec) => {
                match exec {
                    None => self.end_unstarted(&id.container),
                    Some(exec) => self.exec_exited(&id.container, exec, STATUS_KILLED),
                }
                let _ = responder.send(Ok(Reply::Done));
            }
            (Ok(Effect::SendSignal), _) => self.signal_started(id, signal, all, responder),
            (Ok(Effect::SendSignalPaused), _) => self.send_signal(id, signal, all, responder),
            (Ok(_), _) => {
                if let Some(container) = self.containers.get_mut(&id.container) {
                    container.waiting_kill.push(responder);
                }
            }
        }
    }

    fn signal_started(&mut self, id: &ProcessId, signal: Signal, all: bool, responder: Responder) {
        let ends_sandbox = signal == Signal::KILL && self.is_root_init(id);
        let target = self.target();
        let Ok(process) = self.process_mut(id) else { return };
        if process.phase == Phase::Running {
            return self.send_signal(id, signal, all, responder);
        }
        // While it is being started there may be no process yet; only the end of everything can't wait.
        match target {
            Some(target) if ends_sandbox => {
                target.kill_processes();
                let _ = responder.send(Ok(Reply::Done));
            }
            _ => process.held_signals.push((signal, all, responder)),
        }
    }

    fn is_paused(&self) -> bool {
        let paused = |phase| matches!(phase, Phase::Pausing | Phase::Paused | Phase::Resuming);
        self.saving || self.containers.values().any(|container| paused(container.init.phase))
    }

    /// Whether the process is the one whose end is the sandbox's.
    fn is_root_init(&self, id: &ProcessId) -> bool {
        id.exec.is_none()
            && self.containers.get(&id.container).is_some_and(|container| container.role.is_root())
    }

    /// Ends a container whose program never ran, with 137. What there is of it goes at Delete.
    pub(super) fn end_unstarted(&mut self, id: &ContainerId) {
        let target = self.target();
        let Some(container) = self.containers.get_mut(id) else { return };
        for responder in container.waiting_kill.drain(..) {
            let _ = responder.send(Ok(Reply::Done));
        }
        match target {
            // The exit follows when the sandbox is reaped.
            Some(target) if container.role.is_root() => target.kill_processes(),
            _ => self.exited(id, STATUS_KILLED),
        }
    }

    pub(super) fn send_signal(&self, id: &ProcessId, signal: Signal, all: bool, responder: Responder) {
        let Some(sandbox) = &self.sandbox else {
            let _ = responder.send(Err(Error::NoSandbox(self.record.sandbox.to_string())));
            return;
        };
        let exec = id.exec.as_ref().and_then(|exec| self.containers.get(&id.container)?.execs.get(exec));
        let scope = match exec {
            Some(exec) => exec.scope(),
            None if all => Some(SignalScope::All),
            None => Some(SignalScope::Init),
        };
        let Some(scope) = scope else {
            let name = id.exec.as_ref().map_or(id.container.as_str(), |exec| exec.as_str());
            let _ = responder.send(Err(Error::NotFound { what: "process", id: name.to_owned() }));
            return;
        };
        let delivery = Delivery {
            control: sandbox.control.clone(),
            sandbox: sandbox.process.clone(),
            // Only the root container's end is the sandbox's: for the others nothing on the host may be killed.
            last_resort: self.target().filter(|_| signal == Signal::KILL && self.is_root_init(id)),
            id: id.container.clone(),
            signal,
            scope,
            limit: self.tools.calls.signal,
            // To a paused sandbox a kill would only land once somebody else lets it go on.
            then_resume: signal == Signal::KILL && self.is_paused(),
        };
        tokio::spawn(async move {
            let _ = responder.send(delivery.run().await.map(|()| Reply::Done));
        });
    }
}

/// One signal on its way.
struct Delivery {
    control: ControlSocket,
    sandbox: Arc<PidFd>,
    last_resort: Option<Target>,
    id: ContainerId,
    signal: Signal,
    scope: SignalScope,
    limit: Duration,
    then_resume: bool,
}

impl Delivery {
    async fn run(self) -> Result<(), Error> {
        let sent = self.control.signal(&self.id, self.signal.number(), self.scope, self.limit).await;
        let Err(error) = sent else {
            if self.then_resume {
                self.control.resume(self.limit).await?;
            }
            return Ok(());
        };
        if self.sandbox.has_ended() {
            return Err(Error::NotFound { what: "process of container", id: self.id.to_string() });
        }
        match (self.last_resort, error.kind) {
            (Some(target), Kind::TimedOut | Kind::SandboxGone) => {
                log::warn!(container = self.id.as_str(); "the sandbox doesn't answer, killing it: {error}");
                target.kill_processes();
                Ok(())
            }
            _ => Err(error.into()),
        }
    }
}

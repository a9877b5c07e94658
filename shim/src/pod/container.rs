//! One container of the pod, as the pod task holds it.

use std::{path::PathBuf, sync::Arc};

use runsc_bridge::ContainerId;
use tokio::sync::{oneshot, watch};

use super::{group::Role, view::ContainerView};
use crate::{
    cgroup::Cgroup,
    command::{Create, Reply, Signal},
    error::Error,
    lifecycle::{self, Effect, Phase, Refusal, Trigger},
    process::{Exit, PidFd},
    rootfs::RootfsMount,
    stdio::{StdioPaths, fifo::ContainerStdio},
};

/// Where a reply goes. The caller may have gone away: the work goes on regardless.
pub(super) type Responder = oneshot::Sender<Result<Reply, Error>>;

/// Everything the pod task knows of a container.
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) role: Role,
    pub(super) phase: Phase,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: Vec<RootfsMount>,
    pub(super) stdio_paths: StdioPaths,
    /// The open streams; a call of runsc that needs them holds them until its outcome.
    pub(super) stdio: Option<ContainerStdio>,
    /// Whether containerd has closed stdin, also while a call holds the streams.
    pub(super) stdin_closed: bool,
    pub(super) cgroup: Cgroup,
    pub(super) pid: u32,
    pub(super) gofer: Option<Arc<PidFd>>,
    pub(super) exit: watch::Sender<Option<Exit>>,
    /// An exit that came before the outcome of `runsc start`.
    pub(super) held_exit: Option<u32>,
    /// Signals that came before the outcome of `runsc start`.
    pub(super) held_signals: Vec<(Signal, bool, Responder)>,
    /// Who waits for Create, Start, Kill or Delete to be done.
    pub(super) waiting: Vec<Responder>,
    /// Who waits for a container that is killed while it is created.
    pub(super) waiting_kill: Vec<Responder>,
}

impl Container {
    /// A container whose `runsc create` is about to run.
    pub(super) fn creating(request: Create, role: Role, cgroup: Cgroup) -> Self {
        Self {
            id: request.id,
            role,
            phase: Phase::Creating,
            bundle: request.bundle,
            rootfs: request.rootfs,
            stdio_paths: request.stdio,
            stdio: None,
            stdin_closed: false,
            cgroup,
            pid: 0,
            gofer: None,
            exit: watch::Sender::new(None),
            held_exit: None,
            held_signals: Vec::new(),
            waiting: Vec::new(),
            waiting_kill: Vec::new(),
        }
    }

    /// Asks the lifecycle and takes the phase it gives.
    ///
    /// # Errors
    /// The refusal, as containerd gets it.
    pub(super) fn transition(&mut self, trigger: Trigger) -> Result<Effect, Error> {
        match lifecycle::next(self.phase, trigger) {
            Ok((phase, effect)) => {
                self.phase = phase;
                Ok(effect)
            }
            Err(Refusal::Precondition) => {
                let request = match trigger {
                    Trigger::Start => "Start",
                    Trigger::Kill => "Kill",
                    Trigger::Delete => "Delete",
                    Trigger::CreateSucceeded
                    | Trigger::CreateFailed
                    | Trigger::StartSucceeded
                    | Trigger::StartFailed
                    | Trigger::Exited
                    | Trigger::DeleteSucceeded
                    | Trigger::DeleteFailed => "this",
                };
                Err(Error::Phase { id: self.id.to_string(), phase: self.phase, request })
            }
            Err(Refusal::NotFound) => {
                Err(Error::NotFound { what: "running process of container", id: self.id.to_string() })
            }
            Err(Refusal::Unexpected) => Err(Error::Internal("an outcome came that nothing had asked for")),
        }
    }

    /// Whether the program has ended or never will run.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Stopped | Phase::Deleting)
    }

    /// Takes the streams back from a call that has returned.
    pub(super) fn keep_stdio(&mut self, mut stdio: ContainerStdio) {
        if self.stdin_closed {
            stdio.close_stdin();
        }
        self.stdio = Some(stdio);
    }

    /// Has the guest see the end of its stdin once every writer has gone.
    pub(super) fn close_stdin(&mut self) {
        self.stdin_closed = true;
        if let Some(stdio) = &mut self.stdio {
            stdio.close_stdin();
        }
    }

    /// Answers everybody who waits for the phase that was reached.
    pub(super) fn answer(&mut self, reply: Reply) {
        for responder in self.waiting.drain(..) {
            let _ = responder.send(Ok(reply));
        }
    }

    /// What readers see.
    pub(super) fn view(&self) -> ContainerView {
        ContainerView {
            phase: self.phase,
            bundle: self.bundle.clone(),
            stdio: self.stdio_paths.clone(),
            pid: self.pid,
            exit: self.exit.subscribe(),
        }
    }
}

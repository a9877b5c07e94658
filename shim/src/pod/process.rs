//! A process as containerd knows it: a container's init or an exec. Both go through the same lifecycle.

use runsc_bridge::Kind;
use tokio::sync::{oneshot, watch};

use super::view::ProcessView;
use crate::{
    command::{Reply, Signal},
    error::Error,
    lifecycle::{self, Effect, Phase, Refusal, Trigger},
    process::Exit,
    stdio::StdioPaths,
};

/// What a shell answers for a program that isn't there.
const STATUS_NO_PROGRAM: u32 = 127;

/// Where a reply goes. The caller may have gone away: the work goes on regardless.
pub(super) type Responder = oneshot::Sender<Result<Reply, Error>>;

/// The part of a container or an exec that the lifecycle is about.
pub(super) struct Process {
    /// What to call it in an error: its container's id, or its own.
    name: String,
    pub(super) phase: Phase,
    /// The sandbox's host pid: the only one that means something on the node.
    pub(super) pid: u32,
    pub(super) stdio_paths: StdioPaths,
    pub(super) terminal: bool,
    pub(super) exit: watch::Sender<Option<Exit>>,
    /// An exit that came before the outcome of its start.
    pub(super) held_exit: Option<u32>,
    /// Signals that came before the outcome of its start.
    pub(super) held_signals: Vec<(Signal, bool, Responder)>,
    /// Who waits for the work that is under way.
    pub(super) waiting: Vec<Responder>,
}

impl Process {
    /// A process in its first phase.
    pub(super) fn new(name: String, phase: Phase, pid: u32, stdio_paths: StdioPaths, terminal: bool) -> Self {
        Self {
            name,
            phase,
            pid,
            stdio_paths,
            terminal,
            exit: watch::Sender::new(None),
            held_exit: None,
            held_signals: Vec::new(),
            waiting: Vec::new(),
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
                    Trigger::Exec => "Exec",
                    Trigger::Pause => "Pause",
                    Trigger::Resume => "Resume",
                    Trigger::CreateSucceeded
                    | Trigger::CreateFailed
                    | Trigger::StartSucceeded
                    | Trigger::StartFailed
                    | Trigger::PauseSucceeded
                    | Trigger::PauseFailed
                    | Trigger::ResumeSucceeded
                    | Trigger::ResumeFailed
                    | Trigger::Exited
                    | Trigger::DeleteSucceeded
                    | Trigger::DeleteFailed => "this",
                };
                Err(Error::Phase { id: self.name.clone(), phase: self.phase, request })
            }
            Err(Refusal::NotFound) => Err(Error::NotFound { what: "running process", id: self.name.clone() }),
            Err(Refusal::Unexpected) => Err(Error::Internal("an outcome came that nothing had asked for")),
        }
    }

    /// Whether the program has ended or never will run.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Stopped | Phase::Deleting)
    }

    /// Answers everybody who waits for the phase that was reached.
    pub(super) fn answer(&mut self, reply: Reply) {
        for responder in self.waiting.drain(..) {
            let _ = responder.send(Ok(reply));
        }
    }

    /// Tells whoever still waits with a signal that there is nothing to receive it.
    pub(super) fn refuse_held_signals(&mut self) {
        for (_, _, responder) in self.held_signals.drain(..) {
            let _ = responder.send(Err(Error::NotFound { what: "process", id: self.name.clone() }));
        }
    }

    /// Records an exit for whoever waits.
    pub(super) fn set_exit(&mut self, exit: Exit) {
        self.exit.send_replace(Some(exit));
        self.refuse_held_signals();
    }

    /// What readers see.
    pub(super) fn view(&self) -> ProcessView {
        ProcessView {
            phase: self.phase,
            stdio: self.stdio_paths.clone(),
            terminal: self.terminal,
            pid: self.pid,
            exit: self.exit.subscribe(),
        }
    }
}

/// The exit code of a process that never ran: a shell's where its program isn't there, else `otherwise`.
pub(super) fn failed_start_status(error: &Error, otherwise: u32) -> u32 {
    let no_program = matches!(error, Error::Runsc(e) if e.kind == Kind::ProgramNotFound);
    if no_program { STATUS_NO_PROGRAM } else { otherwise }
}

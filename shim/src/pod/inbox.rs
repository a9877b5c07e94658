//! What the pod task is told, and who of it acts on that.

use std::{path::PathBuf, process::ExitStatus};

use runsc_bridge::{ContainerId, ExecId, RunscError};
use tokio::sync::mpsc;

use super::{Pod, create, exec, extend, pause, process::Responder, start, update};
use crate::{
    command::{self, Command, Reply},
    deadline::{claim::Claim, escalate::Step},
    error::Error,
    last_checkpoint::LastCheckpointError,
    ledger::Reason,
    stdio::fifo::ContainerStdio,
};

/// What the pod task is told.
pub(super) enum Input {
    Request(Command, Responder),
    /// Work that changed nothing in the pod has its answer.
    Updated(update::Updated, Responder, Result<(), Error>),
    Created(ContainerId, ContainerStdio, Result<create::Created, Error>),
    Started(ContainerId, ContainerStdio, start::Started),
    Exited(ContainerId, u32),
    /// `None` if its exit status is lost.
    SandboxExited(Option<ExitStatus>),
    /// What is to be written down of a sandbox's end must wait no longer.
    WriteDownEnd,
    TimeLimitEnforced(Step),
    OutOfMemory,
    OutOfProcesses,
    /// A container and the bytes that it uses, more than it may.
    OverMemory(ContainerId, u64),
    /// A container that has written more than it may.
    OverOutput(ContainerId),
    Deleted(ContainerId, Result<(), Error>),
    ExecStarted(ContainerId, ExecId, Result<exec::StartedExec, Error>),
    ExecExited(ContainerId, ExecId, u32),
    Checkpointed(command::Checkpoint, Result<(), RunscError>),
    /// The pod has used up something that it may have no more of.
    UsedUp(Reason),
    /// The deadline file says something.
    Claimed(Claim),
    /// A pod whose time is up has been written down, there.
    Saved(Result<PathBuf, LastCheckpointError>),
    ExecTimeIsUp(ContainerId, ExecId),
    Extended(extend::Extension, Result<(), Error>),
    PauseDone(ContainerId, pause::Direction, Result<(), RunscError>),
}

/// Those who have asked for a pod's end: the one with whom it began, and whoever asks until it is answered.
pub(crate) struct Shutdowns {
    pub(super) first: Option<Responder>,
    pub(super) inbox: mpsc::UnboundedReceiver<Input>,
}

impl Shutdowns {
    /// Tells all of them that it is done; says whether there was anybody. Whoever asks for something else, or later, learns
    /// that nobody is there.
    pub(crate) fn answer(mut self) -> bool {
        let mut all = Vec::from_iter(self.first);
        while let Ok(input) = self.inbox.try_recv() {
            if let Input::Request(Command::Shutdown, responder) = input {
                all.push(responder);
            }
        }
        let is_any = !all.is_empty();
        for responder in all {
            // Who has gone doesn't need it.
            let _ = responder.send(Ok(Reply::Done));
        }
        is_any
    }
}

impl Pod {
    pub(super) fn handle(&mut self, input: Input) {
        self.write_down_unwritten_end();
        match input {
            Input::WriteDownEnd => {}
            Input::Request(command, responder) => self.request(command, responder),
            Input::Updated(updated, responder, result) => self.updated(updated, responder, result),
            Input::Created(id, stdio, result) => self.created(&id, stdio, result),
            Input::Started(id, stdio, started) => self.started(&id, stdio, started),
            Input::Exited(id, status) => self.exited(&id, status),
            Input::SandboxExited(status) => self.sandbox_exited(status),
            Input::TimeLimitEnforced(step) => self.time_limit_enforced(step),
            Input::OutOfMemory => self.out_of_memory(),
            Input::OutOfProcesses => self.out_of_processes(),
            Input::OverMemory(id, used) => self.end_for_memory(&id, used),
            Input::OverOutput(id) => self.end_for_output(&id),
            Input::Deleted(id, result) => self.deleted(&id, result),
            Input::ExecStarted(container, id, result) => self.exec_started(&container, &id, result),
            Input::Checkpointed(request, result) => self.checkpointed(request, result),
            Input::UsedUp(reason) => self.used_up(reason),
            Input::Claimed(claim) => self.claimed(claim),
            Input::Saved(result) => self.saved(result),
            Input::ExecTimeIsUp(container, id) => self.exec_time_is_up(&container, &id),
            Input::Extended(extension, known) => self.extended(extension, known),
            Input::PauseDone(id, direction, result) => self.pause_done(&id, direction, result),
            Input::ExecExited(container, id, status) => self.exec_exited(&container, &id, status),
        }
    }

    fn request(&mut self, command: Command, responder: Responder) {
        match command {
            Command::Create(create) => self.create(create, responder),
            Command::Exec(exec) => self.add_exec(exec, responder),
            Command::Start { id } => match &id.exec {
                None => self.start(&id.container, responder),
                Some(exec) => self.start_exec(&id.container, exec, responder),
            },
            Command::Kill { id, signal, all } => self.kill(&id, signal, all, responder),
            Command::Delete { id } => match &id.exec {
                None => self.delete(&id.container, responder),
                Some(exec) => drop(responder.send(self.delete_exec(&id.container, exec))),
            },
            Command::CloseStdin { id } => drop(responder.send(self.close_stdin(&id).map(|()| Reply::Done))),
            Command::Update { id, resources } => self.update(&id, resources, responder),
            Command::Checkpoint(request) => self.checkpoint(request, responder),
            Command::Pause { id } => self.pause_or_resume(&id, pause::Direction::Pause, responder),
            Command::Resume { id } => self.pause_or_resume(&id, pause::Direction::Resume, responder),
            Command::Resize { id, size } => {
                drop(responder.send(self.resize(&id, size).map(|()| Reply::Done)))
            }
            Command::Extend { by } => self.extend(by, responder),
            Command::End => drop(responder.send(self.end_by_operator().map(|()| Reply::Done))),
            // containerd asks after each container; only an empty pod has nothing left to do.
            Command::Shutdown if self.containers.is_empty() => self.shut_down = Some(responder),
            Command::Shutdown => drop(responder.send(Ok(Reply::Done))),
        }
    }
}

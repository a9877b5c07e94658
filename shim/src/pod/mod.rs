//! The pod: one task owns its state, everybody else sends it requests and reads what it publishes.
//!
//! The task never waits for runsc, for the sandbox or for a caller. It starts the work, moves the container to a phase
//! that says so, and takes the outcome as one more message. So a Kill is seen while a slow create runs, and `State`
//! never queues behind one. A caller that goes away changes nothing.

mod checkpoint;
mod container;
mod create;
mod delete;
mod exec;
mod exit;
pub(crate) mod group;
mod handle;
mod kill;
mod memory;
mod memory_limit;
mod output;
mod pause;
mod pids_limit;
mod process;
mod sandbox;
mod start;
mod streams;
mod time_limit;
mod update;
pub(crate) mod usage;
pub(crate) mod view;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use curfew_config::Calls;
use runsc_bridge::{Cli, ContainerId, ControlSocket, ExecId, RunscError, SandboxId};
use tokio::sync::{mpsc, watch};

pub(crate) use self::handle::PodHandle;
use self::{container::Container, process::Responder, sandbox::Sandbox, view::PodView};
use crate::{
    command::{self, Command, ProcessId, Reply},
    confine::Rlimits,
    connections::Connections,
    deadline::{
        Deadline, Stage,
        escalate::{Step, Target},
    },
    error::Error,
    events::EventQueue,
    reaper::Reaper,
    record::SandboxRecord,
    sandbox_dir::SandboxDir,
    stdio::{fifo::ContainerStdio, logger::LoggedProcess},
};

/// A shim whose pod is empty, and to which nobody has been connected for so long, was forgotten: containerd connects
/// as soon as it has the address, and one that died in between would never ask it to shut down.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// The same with a connection that nobody uses: a containerd that was started while a pod was made connects to its shim,
/// gives it up, and may keep the connection.
const UNUSED: Duration = Duration::from_secs(30);

/// What the pod task is told.
enum Input {
    Request(Command, Responder),
    /// Work that changed nothing in the pod has its answer.
    Updated(update::Updated, Responder, Result<(), Error>),
    Created(ContainerId, ContainerStdio, Result<create::Created, Error>),
    Started(ContainerId, ContainerStdio, start::Started),
    Exited(ContainerId, u32),
    SandboxExited(u32),
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
    PauseDone(ContainerId, pause::Direction, Result<(), RunscError>),
}

/// What the work that the pod task starts needs, and never changes once there is a sandbox.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) namespace: String,
    pub(crate) sandbox: SandboxId,
    pub(crate) dir: SandboxDir,
    pub(crate) cli: Cli,
    pub(crate) calls: Calls,
    pub(crate) reaper: Reaper,
}

impl Tools {
    /// A container or exec as a logger knows it.
    fn logged(&self, id: &str) -> LoggedProcess {
        LoggedProcess { namespace: self.namespace.clone(), id: id.to_owned() }
    }
}

/// The state of one pod.
pub(crate) struct Pod {
    tools: Arc<Tools>,
    record: SandboxRecord,
    containers: BTreeMap<ContainerId, Container>,
    sandbox: Option<Sandbox>,
    deadline: Deadline,
    /// What the containers' programs have by now.
    rlimits: Option<Rlimits>,
    events: EventQueue,
    inbox: mpsc::UnboundedReceiver<Input>,
    outcomes: mpsc::UnboundedSender<Input>,
    view: watch::Sender<PodView>,
    connections: Connections,
    shut_down: Option<Responder>,
}

impl Pod {
    /// An empty pod.
    ///
    /// # Errors
    /// The deadline's timer cannot be made.
    pub(crate) fn new(
        tools: Tools,
        record: SandboxRecord,
        events: EventQueue,
        connections: Connections,
    ) -> std::io::Result<(Self, PodHandle)> {
        let (outcomes, inbox) = mpsc::unbounded_channel();
        let (view, view_receiver) = watch::channel(PodView::default());
        let handle = PodHandle { inbox: outcomes.clone(), view: view_receiver };
        let pod = Self {
            tools: Arc::new(tools),
            record,
            containers: BTreeMap::new(),
            sandbox: None,
            deadline: Deadline::new()?,
            rlimits: None,
            events,
            inbox,
            outcomes,
            view,
            connections,
            shut_down: None,
        };
        Ok((pod, handle))
    }

    /// Serves the pod until it is empty and containerd asks to shut down. Returns whom to tell that it is done.
    pub(crate) async fn run(mut self) -> Option<Responder> {
        loop {
            let empty = self.containers.is_empty();
            tokio::select! {
                input = self.inbox.recv() => match input {
                    Some(input) => self.handle(input),
                    None => return None,
                },
                () = self.deadline.due() => self.time_is_up(),
                () = self.connections.none_for(FORGOTTEN), if empty => {
                    log::warn!("nobody has asked for the empty pod in {FORGOTTEN:?}: shutting down");
                    return None;
                }
                // Anew after each input.
                () = tokio::time::sleep(UNUSED), if empty => {
                    log::warn!("nobody has used the empty pod in {UNUSED:?}: shutting down");
                    return None;
                }
            }
            self.publish_view();
            if self.shut_down.is_some() {
                return self.shut_down;
            }
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Request(command, responder) => self.request(command, responder),
            Input::Updated(updated, responder, result) => self.updated(updated, responder, result),
            Input::Created(id, stdio, result) => self.created(&id, stdio, result),
            Input::Started(id, stdio, started) => self.started(&id, stdio, started),
            Input::Exited(id, status) => self.exited(&id, status),
            Input::SandboxExited(status) => self.sandbox_exited(status),
            Input::TimeLimitEnforced(step) => {
                log::info!(pod = self.record.sandbox.as_str(); "the sandbox is gone, by {step:?}");
            }
            Input::OutOfMemory => self.out_of_memory(),
            Input::OutOfProcesses => self.out_of_processes(),
            Input::OverMemory(id, used) => self.end_for_memory(&id, used),
            Input::OverOutput(id) => self.end_for_output(&id),
            Input::Deleted(id, result) => self.deleted(&id, result),
            Input::ExecStarted(container, id, result) => self.exec_started(&container, &id, result),
            Input::Checkpointed(request, result) => self.checkpointed(request, result),
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
            // containerd asks after each container; only an empty pod has nothing left to do.
            Command::Shutdown if self.containers.is_empty() => self.shut_down = Some(responder),
            Command::Shutdown => drop(responder.send(Ok(Reply::Done))),
        }
    }

    fn publish_view(&self) {
        let view = self.containers.values().map(|c| (c.id.clone(), c.view(self.usage_of(c)))).collect();
        self.view.send_replace(Arc::new(view));
    }

    /// Has `work` done and its outcome sent back.
    fn spawn(&self, work: impl Future<Output = Input> + Send + 'static) {
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            let outcome = work.await;
            // The pod is gone: nobody is left to tell.
            let _ = outcomes.send(outcome);
        });
    }

    /// The phase and the rest of what the lifecycle knows of a container's init or of an exec.
    fn process_mut(&mut self, id: &ProcessId) -> Result<&mut process::Process, Error> {
        match &id.exec {
            None => self.container_mut(&id.container).map(|container| &mut container.init),
            Some(exec) => self.exec_mut(&id.container, exec).map(|exec| &mut exec.process),
        }
    }

    fn control(&self) -> Result<ControlSocket, Error> {
        let sandbox =
            self.sandbox.as_ref().ok_or_else(|| Error::NoSandbox(self.record.sandbox.to_string()))?;
        Ok(sandbox.control.clone())
    }

    fn container_mut(&mut self, id: &ContainerId) -> Result<&mut Container, Error> {
        self.containers.get_mut(id).ok_or_else(|| Error::NotFound { what: "container", id: id.to_string() })
    }

    /// What is needed to end the sandbox, whatever state it is in.
    fn target(&self) -> Option<Target> {
        let sandbox = self.sandbox.as_ref()?;
        Some(Target {
            control: sandbox.control.clone(),
            root: self.record.sandbox.root_container(),
            sandbox: sandbox.process.clone(),
            gofers: self.containers.values().filter_map(|c| c.gofer.clone()).collect(),
            cgroup: self.record.cgroup.clone(),
        })
    }

    /// Writes the record down. Without it `delete` would not find what to end, so the caller decides what that means.
    fn write_record(&self) -> Result<(), Error> {
        self.record.write(&self.tools.dir).map_err(Error::system("writing the sandbox record"))
    }
}

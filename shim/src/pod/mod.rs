//! The pod: one task owns its state, everybody else sends it requests and reads what it publishes.
//!
//! The task never waits for runsc, for the sandbox or for a caller. It starts the work, moves the container to a phase
//! that says so, and takes the outcome as one more message. So a Kill is seen while a slow create runs, and `State`
//! never queues behind one. A caller that goes away changes nothing.

mod checkpoint;
mod claim;
mod clocks;
mod container;
mod cpu_budget;
mod create;
mod delete;
mod exec;
mod exec_limit;
mod exit;
mod expose;
mod extend;
pub(crate) mod group;
mod handle;
mod inbox;
mod kill;
mod memory;
mod memory_limit;
pub(crate) mod message;
mod on_timeout;
mod output;
mod pause;
mod pids_limit;
mod pod_ledger;
mod process;
mod sandbox;
mod span;
mod start;
mod streams;
mod time_limit;
mod update;
pub(crate) mod usage;
pub(crate) mod view;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use curfew_config::Calls;
use runsc_bridge::{Cli, ContainerId, ControlSocket, SandboxId};
use tokio::sync::{mpsc, watch};

pub(crate) use self::handle::PodHandle;
use self::{
    container::Container,
    inbox::{Input, Shutdowns},
    pod_ledger::PodLedger,
    process::Responder,
    sandbox::Sandbox,
    time_limit::LastCounts,
    view::PodView,
};
use crate::{
    command::ProcessId,
    confine::Rlimits,
    connections::Connections,
    deadline::{Deadline, Stage, escalate::Target},
    error::Error,
    events::EventQueue,
    ledger::Reason,
    reaper::Reaper,
    record::SandboxRecord,
    sandbox_dir::SandboxDir,
    stdio::logger::LoggedProcess,
    termination::Usage,
    watchdog::Watchdog,
};

/// A shim whose pod is empty, and to which nobody has been connected for so long, was forgotten: containerd connects
/// as soon as it has the address, and one that died in between would never ask it to shut down.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// The same with a connection that nobody uses: a containerd that was started while a pod was made connects to its shim,
/// gives it up, and may keep the connection.
const UNUSED: Duration = Duration::from_secs(30);

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

/// What is left of a pod that has ended.
pub(crate) struct Ended {
    /// Whom to tell that it is done.
    pub(crate) shutdowns: Shutdowns,
    /// To be released.
    pub(crate) watchdog: Watchdog,
    /// To be finished.
    pub(crate) ledger: Option<PodLedger>,
    /// Whether the ledger must know what the record says of the pod's end. A deadline that has passed shows by itself.
    pub(crate) has_verdict: bool,
}

/// The state of one pod.
pub(crate) struct Pod {
    tools: Arc<Tools>,
    record: SandboxRecord,
    containers: BTreeMap<ContainerId, Container>,
    sandbox: Option<Sandbox>,
    deadline: Deadline,
    watchdog: Watchdog,
    /// Why its time is up, once it is.
    end_reason: Reason,
    /// Its other clocks run as long as they are here.
    clocks: Vec<memory::AbortOnDrop>,
    /// What its deadline file has to do with it.
    claim: claim::PodClaim,
    /// Of what its containers see of its time.
    order: expose::Order,
    /// Whether watchdog and ledger know the pod's time, without which nothing starts.
    time_is_known: bool,
    /// Whether an extension is being written down.
    extending: bool,
    /// Whether its sandbox is being written down before it is killed.
    saving: bool,
    /// CPU time of the present sandbox.
    cpu_used: cpu_budget::CpuUsed,
    /// What the pod had used when its time was up.
    usage_at_the_end: Option<Usage>,
    /// What is still to be written down of an end that began.
    unwritten_end: Option<LastCounts>,
    /// `None` for a container without a pod UID, whose time is in its record alone.
    ledger: Option<PodLedger>,
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
        watchdog: Watchdog,
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
            watchdog,
            end_reason: Reason::DeadlineExceeded,
            clocks: Vec::new(),
            claim: claim::PodClaim::default(),
            order: expose::Order::default(),
            time_is_known: false,
            extending: false,
            saving: false,
            cpu_used: cpu_budget::CpuUsed::default(),
            usage_at_the_end: None,
            unwritten_end: None,
            ledger: None,
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

    /// Serves the pod until it is empty and containerd asks to shut down.
    pub(crate) async fn run(mut self) -> Ended {
        loop {
            let empty = self.containers.is_empty();
            tokio::select! {
                // An exit that comes with the limit comes after it.
                biased;
                () = self.deadline.due() => self.time_is_up(),
                input = self.inbox.recv() => match input {
                    Some(input) => self.handle(input),
                    None => break,
                },
                () = self.connections.none_for(FORGOTTEN), if empty => {
                    log::warn!("nobody has asked for the empty pod in {FORGOTTEN:?}: shutting down");
                    break;
                }
                // Anew after each input.
                () = tokio::time::sleep(UNUSED), if empty => {
                    log::warn!("nobody has used the empty pod in {UNUSED:?}: shutting down");
                    break;
                }
            }
            self.publish_view();
            if self.shut_down.is_some() {
                break;
            }
        }
        let reason = self.record.verdict.as_ref().map(|verdict| verdict.reason);
        Ended {
            shutdowns: Shutdowns { first: self.shut_down, inbox: self.inbox },
            watchdog: self.watchdog,
            ledger: self.ledger,
            has_verdict: reason.is_some_and(|reason| reason != Reason::DeadlineExceeded),
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

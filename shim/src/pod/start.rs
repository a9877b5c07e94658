//! Start: the program runs, and its end will be noticed.

use std::{path::Path, sync::Arc, time::Duration};

use runsc_bridge::{ContainerId, ControlSocket, Kind, SignalScope, StartCall};

use super::{
    Input, Pod, Tools,
    create::{Gofer, work::find_gofer},
    process::{Responder, failed_start_status},
    span::Provisional,
    streams::tell_foreground,
};
use crate::{
    command::{ProcessId, Reply, Signal},
    deadline::{Stage, escalate::Target},
    error::Error,
    events::Event,
    lifecycle::{Effect, Trigger},
    process::{Exit, PidFd, STATUS_KILLED, exit_code},
    stdio::{exec::ExecStreams, fifo::ContainerStdio},
};

/// What runc and kubelet answer for a container that failed to start.
const STATUS_START_FAILED: u32 = 128;
/// The sandbox may be a moment behind its control socket, or the other way round.
const WAIT_AGAIN: Duration = Duration::from_millis(20);

/// What came of `runsc start`.
pub(super) struct Started {
    /// Whether runsc was called, which watchdog and ledger must have known of before.
    is_begun: bool,
    gofer: Option<Gofer>,
    /// The copies to and from a sub-container's terminal.
    streams: Option<ExecStreams>,
    result: Result<(), Error>,
}

impl Started {
    /// Of a container that wasn't begun with.
    fn never(error: Error) -> Self {
        Self { is_begun: false, gofer: None, streams: None, result: Err(error) }
    }
}

/// A start that may begin.
struct Beginning {
    stdio: ContainerStdio,
    is_root: bool,
    /// The pod's time, if it is the first workload.
    provisional: Result<Option<Provisional>, Error>,
}

impl Pod {
    pub(super) fn start(&mut self, id: &ContainerId, responder: Responder) {
        match self.begin_start(id) {
            Err(error) => drop(responder.send(Err(error))),
            Ok(Beginning { mut stdio, is_root, provisional }) => {
                if let Some(container) = self.containers.get_mut(id) {
                    container.init.waiting.push(responder);
                }
                let restore_from =
                    self.containers.get(id).and_then(|container| container.restore_from.clone());
                let pids = self.containers.get(id).map_or(u64::MAX, |container| container.ceilings.pids);
                let (tools, control, id) = (self.tools.clone(), self.control().ok(), id.clone());
                self.spawn(async move {
                    let known = match provisional {
                        Ok(Some(provisional)) => provisional.everywhere().await,
                        Ok(None) => Ok(()),
                        Err(error) => Err(error),
                    };
                    if let Err(error) = known {
                        return Input::Started(id, stdio, Started::never(error));
                    }
                    let mut started = if is_root {
                        start_root(&tools, &id, restore_from.as_deref()).await
                    } else {
                        start_sub_container(&tools, control.clone(), &id, &mut stdio).await
                    };
                    // A restored one keeps the limit that it was checkpointed with.
                    if started.result.is_ok() && restore_from.is_none() {
                        started.result = limit_pids(control, &id, pids, tools.calls.signal).await;
                    }
                    Input::Started(id, stdio, started)
                });
            }
        }
    }

    fn begin_start(&mut self, id: &ContainerId) -> Result<Beginning, Error> {
        let expired = self.refuse_if_expired();
        let container = self.container_mut(id)?;
        if !container.init.has_ended() {
            expired?;
        }
        let is_workload = container.role.is_workload();
        if is_workload {
            self.refuse_uncounted_cpu()?;
        }
        let container = self.container_mut(id)?;
        container.init.transition(Trigger::Start)?;
        let (stdio, is_root) = (container.stdio.take().unwrap_or_default(), container.role.is_root());
        let provisional = if is_workload { self.plan_span() } else { Ok(None) };
        Ok(Beginning { stdio, is_root, provisional })
    }

    pub(super) fn started(&mut self, id: &ContainerId, mut stdio: ContainerStdio, started: Started) {
        stdio.release_guest_ends();
        if started.gofer.is_some() {
            self.take_gofer(id, started.gofer);
            self.write_record_or_log(id);
        }
        let Some(container) = self.containers.get_mut(id) else { return };
        container.keep_stdio(stdio);
        if let Some(streams) = started.streams {
            container.keep_streams(streams);
        }
        self.time_is_known |= started.is_begun && container.role.is_workload();
        let trigger = if started.result.is_ok() { Trigger::StartSucceeded } else { Trigger::StartFailed };
        match (container.init.transition(trigger), started.result) {
            (Ok(Effect::EndFailedStart), Err(error)) => self.end_failed_start(id, started.is_begun, error),
            (Ok(_), _) => self.announce_started(id),
            (Err(error), _) => log::error!(container = id.as_str(); "{error}"),
        }
    }

    fn announce_started(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        self.events.publish(Event::Start { id: id.to_string(), pid: container.init.pid });
        container.init.answer(Reply::Pid(container.init.pid));
        let (is_root, is_workload) = (container.role.is_root(), container.role.is_workload());
        let held_exit = container.init.held_exit.take();
        let held_signals = std::mem::take(&mut container.init.held_signals);
        if is_workload {
            self.arm_time_limit();
        }
        let process = ProcessId { container: id.clone(), exec: None };
        for (signal, all, responder) in held_signals {
            self.send_signal(&process, signal, all, responder);
        }
        self.watch_container_memory(id);
        // From here on the shim mostly waits.
        crate::memory::trim();
        if self.deadline.stage() == Stage::Grace {
            // Its time was up while it started.
            self.ask_workloads_to_end();
        }
        match (held_exit, &self.sandbox) {
            (Some(status), _) => self.exited(id, status),
            (None, Some(sandbox)) if !is_root => {
                let wait = wait_for_exit(sandbox.control.clone(), sandbox.process.clone(), id.clone());
                let (outcomes, id) = (self.outcomes.clone(), id.clone());
                tokio::spawn(async move {
                    if let Some(status) = wait.await {
                        // The pod is gone: nobody is left to tell.
                        let _ = outcomes.send(Input::Exited(id, status));
                    }
                });
            }
            // The root container's end is the sandbox's, which is reaped.
            (None, _) => {}
        }
    }

    /// A program that never ran has no start and no exit event, but whoever waits is told.
    fn end_failed_start(&mut self, id: &ContainerId, is_begun: bool, error: Error) {
        log::warn!(container = id.as_str(); "start failed: {error}");
        let status = failed_start_status(&error, STATUS_START_FAILED);
        if is_begun {
            // A runsc that was killed at its limit may have started the program already.
            self.arm_time_limit();
        }
        let Some(container) = self.containers.get_mut(id) else { return };
        let status = container.init.held_exit.take().unwrap_or(status);
        container.init.set_exit(Exit::now(status));
        container.close_streams();
        let is_root = container.role.is_root();
        let responder = container.init.waiting.pop();
        if let Some(target) = self.target() {
            if is_root {
                target.kill_processes();
            } else {
                tokio::spawn(end_half_started(target, id.clone(), self.tools.calls.signal));
            }
        }
        if let Some(responder) = responder {
            let _ = responder.send(Err(error));
        }
    }
}

async fn start_root(tools: &Tools, id: &ContainerId, restore_from: Option<&Path>) -> Started {
    let result = match restore_from {
        Some(image) => tools.cli.restore(id, image, tools.calls.checkpoint).await,
        None => tools.cli.start(StartCall { container: id, stdio: None, limit: tools.calls.start }).await,
    };
    let result = result.map_err(Error::from);
    // It has had its gofer and its terminal since Create.
    Started { is_begun: true, gofer: None, streams: None, result }
}

/// Limits the processes of a container that has just started: its cgroup in the sandbox is there from then on. One that
/// has ended already needs no limit.
async fn limit_pids(
    control: Option<ControlSocket>,
    id: &ContainerId,
    pids: u64,
    limit: Duration,
) -> Result<(), Error> {
    let Some(control) = control else { return Ok(()) };
    match control.limit_pids(id, pids, limit).await {
        Err(error) if error.kind == Kind::SandboxGone => Ok(()),
        result => result.map_err(Error::from),
    }
}

async fn start_sub_container(
    tools: &Tools,
    control: Option<ControlSocket>,
    id: &ContainerId,
    stdio: &mut ContainerStdio,
) -> Started {
    let call = StartCall { container: id, stdio: Some(stdio.guest()), limit: tools.calls.start };
    let mut result = tools.cli.start(call).await.map_err(Error::from);
    let mut streams = None;
    if let (Ok(()), Some(console), Some(control)) = (&result, stdio.take_console(), control) {
        let (limit, id) = (tools.calls.signal, id.clone());
        // Nobody's controlling terminal on the host: keys are told to the sandbox.
        let on_signal = move |signal| tell_foreground(&control, &id, 0, signal, limit);
        match console.attach(limit, on_signal).await {
            Ok(attached) => streams = Some(attached),
            Err(error) => result = Err(error.into()),
        }
    }
    Started { is_begun: true, gofer: find_gofer(tools, id), streams, result }
}

/// Ends what a failed start may have started. A sandbox that doesn't even say that there is nothing goes as a whole: a
/// program without a container must not run on in it.
async fn end_half_started(target: Target, id: ContainerId, limit: Duration) {
    let ended = target.control.signal(&id, Signal::KILL.number(), SignalScope::All, limit).await;
    if let Err(error) = ended
        && !matches!(error.kind, Kind::NoSuchProcess | Kind::NotStarted | Kind::NoSuchContainer)
    {
        log::error!(container = id.as_str(); "cannot end what was started, ending the sandbox: {error}");
        target.kill_processes();
    }
}

/// Waits for a sub-container's end through the control socket; a connection that waits costs nothing. `None` if that comes
/// with the sandbox's own, which says how.
async fn wait_for_exit(control: ControlSocket, sandbox: Arc<PidFd>, id: ContainerId) -> Option<u32> {
    loop {
        match control.wait(&id).await {
            Ok(status) => {
                // With a shared PID namespace its children live on, and hold its streams open.
                let limit = Duration::from_secs(1);
                let _ = control.signal(&id, Signal::KILL.number(), SignalScope::All, limit).await;
                return Some(exit_code(status));
            }
            Err(_) if sandbox.has_ended() => return None,
            Err(error) if error.kind == Kind::SandboxGone => tokio::time::sleep(WAIT_AGAIN).await,
            Err(error) => {
                log::error!(container = id.as_str(); "lost sight of the container, ending it: {error}");
                let limit = Duration::from_secs(1);
                let _ = control.signal(&id, Signal::KILL.number(), SignalScope::All, limit).await;
                return Some(STATUS_KILLED);
            }
        }
    }
}

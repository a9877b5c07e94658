//! Execs: further processes in a running container, without a process on the host.

mod work;

use std::sync::Arc;

use runsc_bridge::{ContainerId, ControlSocket, ExecId, ExecProcess, SignalScope};

use self::work::{ExecWork, wait_for_exit};
use super::{
    Input, Pod,
    memory::AbortOnDrop,
    process::{Process, Responder, failed_start_status},
    streams::tell_foreground,
};
use crate::{
    command::{self, ProcessId, Reply},
    error::Error,
    events::Event,
    lifecycle::{Effect, Phase, Trigger},
    process::{Exit, PidFd, STATUS_KILLED, STATUS_TIMED_OUT},
    spec::{TerminalSize, exec_process},
    stdio::exec::ExecStreams,
};

/// What runc answers for a process that could not be set up.
const STATUS_START_FAILED: u32 = 126;

/// One exec of a container.
pub(super) struct Exec {
    pub(super) process: Process,
    description: Arc<ExecProcess>,
    size: Option<TerminalSize>,
    stdin_closed: bool,
    /// Its pid in the container, while it runs.
    pub(super) guest_pid: Option<i32>,
    streams: Option<ExecStreams>,
    /// Its clock, or its end, as long as this is there.
    pub(super) time_limit: Option<AbortOnDrop>,
    pub(super) timed_out: bool,
}

/// What starting an exec made.
pub(super) struct StartedExec {
    guest_pid: i32,
    streams: ExecStreams,
}

impl Exec {
    /// Whom a signal goes to.
    pub(super) fn scope(&self) -> Option<SignalScope> {
        self.guest_pid.map(SignalScope::Process)
    }

    pub(super) fn close_stdin(&mut self) {
        self.stdin_closed = true;
        if let Some(streams) = &self.streams {
            streams.close_stdin();
        }
    }
}

impl Pod {
    pub(super) fn add_exec(&mut self, request: command::Exec, responder: Responder) {
        let _ = responder.send(self.try_add_exec(request).map(|()| Reply::Done));
    }

    fn try_add_exec(&mut self, request: command::Exec) -> Result<(), Error> {
        let expired = self.refuse_if_expired();
        let container = self.container_mut(&request.container)?;
        container.init.transition(Trigger::Exec)?;
        expired?;
        if container.execs.contains_key(&request.id) {
            return Err(Error::ExecExists(request.id.to_string()));
        }
        self.check_logger(&request.stdio)?;
        let container = self.container_mut(&request.container)?;
        let (description, size) =
            exec_process::parse(&request.process, request.terminal, container.ceilings.exec)?;
        let process = Process::new(
            request.id.to_string(),
            Phase::Created,
            container.init.pid,
            request.stdio,
            request.terminal,
        );
        let exec = Exec {
            process,
            description: Arc::new(description),
            size,
            stdin_closed: false,
            guest_pid: None,
            streams: None,
            time_limit: None,
            timed_out: false,
        };
        let added = Event::ExecAdded { id: request.container.to_string(), exec: request.id.to_string() };
        container.execs.insert(request.id, exec);
        self.events.publish(added);
        Ok(())
    }

    pub(super) fn exec_mut(&mut self, container: &ContainerId, id: &ExecId) -> Result<&mut Exec, Error> {
        let container = self.container_mut(container)?;
        container.execs.get_mut(id).ok_or_else(|| Error::NotFound { what: "exec", id: id.to_string() })
    }

    pub(super) fn start_exec(&mut self, container: &ContainerId, id: &ExecId, responder: Responder) {
        match self.begin_exec(container, id) {
            Err(error) => drop(responder.send(Err(error))),
            Ok(work) => {
                if let Ok(exec) = self.exec_mut(container, id) {
                    exec.process.waiting.push(responder);
                }
                let (container, id) = (container.clone(), id.clone());
                self.spawn(async move {
                    let result = work.run(&container).await;
                    Input::ExecStarted(container, id, result)
                });
            }
        }
    }

    fn begin_exec(&mut self, container: &ContainerId, id: &ExecId) -> Result<ExecWork, Error> {
        self.exec_mut(container, id)?;
        self.refuse_if_expired()?;
        let limit = self.tools.calls.start;
        let (control, tools) = (self.control()?, self.tools.clone());
        self.container_mut(container)?.init.transition(Trigger::Exec)?;
        let exec = self.exec_mut(container, id)?;
        exec.process.transition(Trigger::Start)?;
        Ok(ExecWork {
            control,
            tools,
            id: id.clone(),
            description: exec.description.clone(),
            paths: exec.process.stdio_paths.clone(),
            size: exec.size,
            limit,
        })
    }

    pub(super) fn exec_started(
        &mut self,
        container: &ContainerId,
        id: &ExecId,
        result: Result<StartedExec, Error>,
    ) {
        let sandbox = self.sandbox.as_ref().map(|sandbox| (sandbox.control.clone(), sandbox.process.clone()));
        let Ok(exec) = self.exec_mut(container, id) else { return };
        let trigger = if result.is_ok() { Trigger::StartSucceeded } else { Trigger::StartFailed };
        if let Err(error) = exec.process.transition(trigger) {
            return log::error!(container = container.as_str(), exec = id.as_str(); "{error}");
        }
        match result {
            Err(error) => end_failed_exec(container, id, exec, error),
            Ok(started) => {
                if exec.stdin_closed {
                    started.streams.close_stdin();
                }
                exec.guest_pid = Some(started.guest_pid);
                exec.streams = Some(started.streams);
                let pid = exec.process.pid;
                exec.process.answer(Reply::Pid(pid));
                self.announce_exec(container, id, pid, started.guest_pid, sandbox);
            }
        }
    }

    fn announce_exec(
        &mut self,
        container: &ContainerId,
        id: &ExecId,
        pid: u32,
        guest_pid: i32,
        sandbox: Option<(ControlSocket, Arc<PidFd>)>,
    ) {
        self.events.publish(Event::ExecStarted { id: container.to_string(), exec: id.to_string(), pid });
        let Ok(exec) = self.exec_mut(container, id) else { return };
        let held_exit = exec.process.held_exit.take();
        let held_signals = std::mem::take(&mut exec.process.held_signals);
        let process = ProcessId { container: container.clone(), exec: Some(id.clone()) };
        for (signal, all, responder) in held_signals {
            self.send_signal(&process, signal, all, responder);
        }
        match (held_exit, sandbox) {
            (Some(status), _) => self.exec_exited(container, id, status),
            (None, Some((control, sandbox))) => {
                self.limit_exec(container, id);
                let (container, id) = (container.clone(), id.clone());
                self.spawn(wait_for_exit(control, sandbox, container, id, guest_pid));
            }
            (None, None) => self.exec_exited(container, id, STATUS_KILLED),
        }
    }

    /// The exec has ended with `status`.
    pub(super) fn exec_exited(&mut self, container: &ContainerId, id: &ExecId, status: u32) {
        let is_over = self.deadline.has_expired();
        let Ok(exec) = self.exec_mut(container, id) else { return };
        let status = if is_over || exec.timed_out { STATUS_TIMED_OUT } else { status };
        match exec.process.transition(Trigger::Exited) {
            Ok(Effect::RecordExit) => {
                let exit = Exit::now(status);
                exec.guest_pid = None;
                exec.time_limit = None;
                let endings = exec.streams.take().map(ExecStreams::finish).unwrap_or_default();
                exec.process.set_exit(exit);
                let pid = exec.process.pid;
                if let Ok(container) = self.container_mut(container) {
                    container.endings.retain(|ending| !ending.is_over());
                    container.endings.extend(endings);
                }
                let exec = Some(id.to_string());
                self.events.publish(Event::Exit { id: container.to_string(), exec, pid, exit });
            }
            Ok(Effect::HoldExit) => exec.process.held_exit = Some(status),
            Ok(_) => {}
            Err(error) => log::error!(container = container.as_str(), exec = id.as_str(); "{error}"),
        }
    }

    /// The container has ended, and its execs with it: their exits come before its own.
    pub(super) fn end_execs(&mut self, container: &ContainerId) {
        let Some(held) = self.containers.get(container) else { return };
        let running: Vec<ExecId> = held.execs.keys().cloned().collect();
        for id in running {
            let started =
                self.exec_mut(container, &id).is_ok_and(|exec| exec.process.phase != Phase::Created);
            if started {
                self.exec_exited(container, &id, STATUS_KILLED);
            }
        }
    }

    /// An exec leaves nothing behind but its place in the list.
    pub(super) fn delete_exec(&mut self, container: &ContainerId, id: &ExecId) -> Result<Reply, Error> {
        let exec = self.exec_mut(container, id)?;
        exec.process.transition(Trigger::Delete)?;
        let exit = exec.process.exit.borrow().unwrap_or_else(|| Exit::now(STATUS_KILLED));
        let pid = exec.process.pid;
        exec.process.set_exit(exit);
        self.container_mut(container)?.execs.remove(id);
        Ok(Reply::Deleted { pid, exit })
    }

    /// Gives an exec's terminal a new size, and tells the programs in it.
    pub(super) fn resize_exec(
        &mut self,
        container: &ContainerId,
        id: &ExecId,
        size: TerminalSize,
    ) -> Result<(), Error> {
        let (control, limit) = (self.control()?, self.tools.calls.signal);
        let exec = self.exec_mut(container, id)?;
        if !exec.description.terminal {
            return Err(Error::NoTerminal(id.to_string()));
        }
        exec.size = Some(size);
        let Some(terminal) = exec.streams.as_ref().and_then(ExecStreams::terminal) else { return Ok(()) };
        terminal.resize(size).map_err(Error::system("resizing the terminal"))?;
        if let Some(pid) = exec.guest_pid {
            tell_foreground(&control, container, pid, libc::SIGWINCH, limit);
        }
        Ok(())
    }
}

fn end_failed_exec(container: &ContainerId, id: &ExecId, exec: &mut Exec, error: Error) {
    log::warn!(container = container.as_str(), exec = id.as_str(); "exec failed: {error}");
    let status = failed_start_status(&error, STATUS_START_FAILED);
    let status = exec.process.held_exit.take().unwrap_or(status);
    exec.process.set_exit(Exit::now(status));
    if let Some(responder) = exec.process.waiting.pop() {
        let _ = responder.send(Err(error));
    }
}

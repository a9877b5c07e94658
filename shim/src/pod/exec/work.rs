//! The part of an exec that takes its time.

use std::{sync::Arc, time::Duration};

use runsc_bridge::{ContainerId, ControlSocket, ExecId, ExecProcess, Kind};

use super::StartedExec;
use crate::{
    error::Error,
    pod::{Input, Tools, streams::tell_foreground},
    process::{PidFd, STATUS_KILLED, exit_code},
    spec::TerminalSize,
    stdio::{
        StdioPaths,
        exec::ExecStdio,
        logger::{LoggerPipes, LoggerProgram},
    },
};

/// One exec to start.
pub(super) struct ExecWork {
    pub(super) control: ControlSocket,
    pub(super) tools: Arc<Tools>,
    pub(super) id: ExecId,
    pub(super) description: Arc<ExecProcess>,
    pub(super) paths: StdioPaths,
    pub(super) size: Option<TerminalSize>,
    pub(super) limit: Duration,
}

impl ExecWork {
    pub(super) async fn run(self, container: &ContainerId) -> Result<StartedExec, Error> {
        let Some(program) = LoggerProgram::of(&self.paths)? else {
            return self.execute(container, None).await;
        };
        let logger = program.start(&self.tools.logged(self.id.as_str()), &self.tools.reaper).await?;
        let (pipes, running) = logger.split();
        match self.execute(container, Some(pipes)).await {
            Ok(mut started) => {
                started.streams.keep_logger(running);
                Ok(started)
            }
            Err(error) => {
                // It has nothing to log, and must not stay.
                running.finish().over().await;
                Err(error)
            }
        }
    }

    async fn execute(
        self,
        container: &ContainerId,
        logger: Option<LoggerPipes>,
    ) -> Result<StartedExec, Error> {
        let stdio = ExecStdio::open(&self.paths, self.description.terminal, logger)?;
        if let (Some(terminal), Some(size)) = (stdio.terminal(), self.size) {
            terminal.resize(size).map_err(Error::system("setting the terminal's size"))?;
        }
        let guest_pid = self.control.execute(container, &self.description, &stdio.guest, self.limit).await?;
        let (control, container, limit) = (self.control, container.clone(), self.limit);
        let on_signal = move |signal| tell_foreground(&control, &container, guest_pid, signal, limit);
        let streams = stdio.start(on_signal).map_err(Error::system("watching the exec's streams"))?;
        Ok(StartedExec { guest_pid, streams })
    }
}

/// Waits for an exec's end. The sentry answers once and then forgets it.
pub(super) async fn wait_for_exit(
    control: ControlSocket,
    sandbox: Arc<PidFd>,
    container: ContainerId,
    id: ExecId,
    guest_pid: i32,
) -> Input {
    let status = match control.wait_exec(&container, guest_pid).await {
        Ok(status) => exit_code(status),
        Err(error) => {
            if !sandbox.has_ended() && error.kind != Kind::SandboxGone {
                log::error!(container = container.as_str(), exec = id.as_str(); "lost sight of the exec: {error}");
            }
            STATUS_KILLED
        }
    };
    Input::ExecExited(container, id, status)
}

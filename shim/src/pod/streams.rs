//! CloseIO and ResizePty, of containers and of execs.

use std::time::Duration;

use runsc_bridge::{ContainerId, ControlSocket, SignalScope};

use super::{Pod, container::Container, exec::Exec};
use crate::{command::ProcessId, error::Error, spec::TerminalSize, stdio::exec::ExecStreams};

impl Pod {
    pub(super) fn close_stdin(&mut self, id: &ProcessId) -> Result<(), Error> {
        match &id.exec {
            None => self.container_mut(&id.container).map(Container::close_stdin),
            Some(exec) => self.exec_mut(&id.container, exec).map(Exec::close_stdin),
        }
    }

    pub(super) fn resize(&mut self, id: &ProcessId, size: TerminalSize) -> Result<(), Error> {
        match &id.exec {
            None => self.resize_container(&id.container, size),
            Some(exec) => self.resize_exec(&id.container, exec, size),
        }
    }

    /// Gives a container's terminal a new size. The sandbox sees that of its root container by itself.
    fn resize_container(&mut self, id: &ContainerId, size: TerminalSize) -> Result<(), Error> {
        let (control, limit) = (self.control(), self.tools.calls.signal);
        let container = self.container_mut(id)?;
        if !container.init.terminal {
            return Err(Error::NoTerminal(id.to_string()));
        }
        let Some(terminal) = container.streams.as_ref().and_then(ExecStreams::terminal) else {
            return Ok(());
        };
        terminal.resize(size).map_err(Error::system("resizing the terminal"))?;
        if !container.role.is_root() {
            tell_foreground(&control?, id, 0, libc::SIGWINCH, limit);
        }
        Ok(())
    }
}

/// Tells the programs in front on a container's or exec's terminal a signal, beside whatever else is under way.
/// `guest_pid` is the exec's process in the sandbox, or 0 for the container's own.
pub(super) fn tell_foreground(
    control: &ControlSocket,
    container: &ContainerId,
    guest_pid: i32,
    signal: i32,
    limit: Duration,
) {
    let (control, container) = (control.clone(), container.clone());
    tokio::spawn(async move {
        // A terminal without a program in front has nobody to tell.
        let _ = control.signal(&container, signal, SignalScope::Foreground(guest_pid), limit).await;
    });
}

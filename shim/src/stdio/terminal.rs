//! A terminal that the shim makes for an exec.
//!
//! The sandbox gets the terminal's inner side as a file. It isn't anybody's controlling terminal on the host, so an
//! interrupt key and a new size raise no signal there: the shim sees them and tells the sandbox.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use nix::{
    pty::openpty,
    sys::termios::{LocalFlags, SpecialCharacterIndices, tcgetattr},
};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::spec::TerminalSize;

/// The outer side of a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Terminal(Arc<OwnedFd>);

impl Terminal {
    /// Makes a terminal. Returns the outer and the inner side.
    ///
    /// # Errors
    /// The system has no terminal left.
    pub(crate) fn open() -> io::Result<(Self, OwnedFd)> {
        let pty = openpty(None, None)?;
        for side in [&pty.master, &pty.slave] {
            rustix::io::fcntl_setfd(side, rustix::io::FdFlags::CLOEXEC)?;
        }
        rustix::io::ioctl_fionbio(&pty.master, true)?;
        Ok((Self(Arc::new(pty.master)), pty.slave))
    }

    /// A terminal that runsc has made, by its outer side.
    ///
    /// # Errors
    /// It is no terminal.
    pub(super) fn received(master: OwnedFd) -> io::Result<Self> {
        tcgetattr(&master)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self(Arc::new(master)))
    }

    /// The outer side.
    pub(crate) fn master(&self) -> &OwnedFd {
        &self.0
    }

    /// Sets the size in characters.
    ///
    /// # Errors
    /// The inner side has gone.
    pub(crate) fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.0.as_fd(), size)?)
    }

    /// The signals that keys in this input ask for, if the terminal is set to raise them.
    pub(crate) fn signals_in(&self, input: &[u8]) -> impl Iterator<Item = i32> + use<> {
        let mut signals = Vec::new();
        if let Ok(settings) = tcgetattr(self.0.as_fd())
            && settings.local_flags.contains(LocalFlags::ISIG)
        {
            let keys = [
                (SpecialCharacterIndices::VINTR, libc::SIGINT),
                (SpecialCharacterIndices::VQUIT, libc::SIGQUIT),
                (SpecialCharacterIndices::VSUSP, libc::SIGTSTP),
            ];
            let signal_of = |byte: &u8| {
                let pressed = |(key, _): &&(SpecialCharacterIndices, i32)| {
                    let set = settings.control_chars[*key as usize];
                    // Zero means that there is no such key.
                    set != 0 && set == *byte
                };
                keys.iter().find(pressed).map(|(_, signal)| *signal)
            };
            signals.extend(input.iter().filter_map(signal_of));
        }
        signals.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ask_for_signals_only_where_the_terminal_raises_them() {
        let (terminal, inner) = Terminal::open().unwrap();
        assert_eq!(terminal.signals_in(b"a\x03b\x1c").collect::<Vec<_>>(), [libc::SIGINT, libc::SIGQUIT]);
        let mut raw = tcgetattr(&inner).unwrap();
        nix::sys::termios::cfmakeraw(&mut raw);
        nix::sys::termios::tcsetattr(&inner, nix::sys::termios::SetArg::TCSANOW, &raw).unwrap();
        assert_eq!(terminal.signals_in(b"\x03").count(), 0);
    }

    #[test]
    fn a_new_size_is_seen_inside() {
        let (terminal, inner) = Terminal::open().unwrap();
        terminal.resize(TerminalSize { height: 24, width: 80 }).unwrap();
        let size = rustix::termios::tcgetwinsize(&inner).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (24, 80));
    }
}

//! A containerd that goes and comes back, and a shim that is replaced meanwhile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rpc::poll;

use super::{Containerd, EVENTS, config, daemon, pid_of};

const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Where containerd hears events while no shim knows where that is. (The leftover check knows what it begins with.)
const EVENTS_ELSEWHERE: &str = "c.sock.elsewhere";

impl Containerd {
    /// Ends containerd as a crash does, and leaves it down.
    pub fn kill9(&self) {
        self.stop(Signal::SIGKILL);
    }

    /// Starts containerd again, ending the one that runs as its service manager would.
    #[track_caller]
    pub fn restart(&self) {
        self.stop(Signal::SIGTERM);
        if let Err(error) = self.start_again() {
            panic!("failed to start containerd again: {error}");
        }
    }

    /// As a crash and [`restart`](Self::restart), but what shims publish reaches nobody, and so has to wait, until
    /// [`hear`](Self::hear): after a restart nobody could subscribe before the first event comes.
    #[track_caller]
    pub fn restart_deaf(&self) {
        self.kill9();
        self.hear_at(EVENTS_ELSEWHERE);
        self.restart();
    }

    /// Lets the shims' events through again.
    #[track_caller]
    pub fn hear(&self) {
        let renamed = fs::rename(self.dir.join(EVENTS_ELSEWHERE), self.dir.join(EVENTS));
        renamed.expect("containerd has made its socket");
        self.hear_at(EVENTS);
    }

    fn hear_at(&self, socket: &str) {
        let text = config::containerd(&self.dir, &self.options, socket);
        fs::write(self.dir.join("containerd.toml"), text).expect("it could be written before");
    }

    /// Stops the process in its tracks, as a machine out of memory or disk does, until [`resume`](Self::resume).
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen containerd run again.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Puts a copy of a shim where containerd looks first, as an installer does: beside its place, and renamed.
    #[track_caller]
    pub fn install_shim(&self, from: &Path) -> PathBuf {
        let shim = self.dir.join("bin/containerd-shim-curfew-v1");
        let new = shim.with_extension("new");
        let installed = fs::copy(from, &new).and_then(|_| fs::rename(&new, &shim));
        match installed {
            Ok(()) => shim,
            Err(error) => panic!("failed to install {}: {error}", shim.display()),
        }
    }

    fn start_again(&self) -> io::Result<()> {
        let process = daemon::spawn(&self.wire, &self.dir, &self.options)?;
        let (client, process) = daemon::connect(&self.wire, &self.dir, process)?;
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = client.channel();
        *self.process() = Some(process);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // A containerd that has ended is what the next call finds.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    pub(super) fn stop(&self, signal: Signal) {
        if let Some(mut child) = self.process().take() {
            let _ = kill(Pid::from_raw(pid_of(&child)), signal);
            if poll(STOP_LIMIT, || child.try_wait().ok().flatten()).is_none() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

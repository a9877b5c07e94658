//! The one place that waits for children.
//!
//! The shim is a subreaper: sandboxes and gofers become its children when the runsc that made them ends, and an
//! unreaped sandbox makes `runsc delete` fail. So everything is reaped at once, known or not, and statuses go to
//! whoever asked.

use std::{
    collections::{HashMap, VecDeque},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};
use runsc_bridge::ChildExits;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// A sandbox may end before anyone knows its pid; so many strangers are remembered.
const REMEMBERED: usize = 64;

#[derive(Default)]
struct Table {
    asked: HashMap<i32, oneshot::Sender<ExitStatus>>,
    unasked: VecDeque<(i32, ExitStatus)>,
}

/// Reaps every child of this process.
#[derive(Clone, Default)]
pub(crate) struct Reaper(Arc<Mutex<Table>>);

impl Reaper {
    /// Starts reaping.
    ///
    /// # Errors
    /// What kept the SIGCHLD handler from being installed.
    pub(crate) fn start() -> std::io::Result<Self> {
        let reaper = Self::default();
        let sigchld = signal(SignalKind::child())?;
        tokio::spawn(reaper.clone().run(sigchld));
        Ok(reaper)
    }

    async fn run(self, mut sigchld: Signal) {
        loop {
            self.reap_all();
            if sigchld.recv().await.is_none() {
                return;
            }
        }
    }

    fn reap_all(&self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.deliver(pid, ExitStatus::from_raw(code << 8)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.deliver(pid, ExitStatus::from_raw(signal as i32));
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                // Nothing else is asked for; an interrupted call is made again.
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, pid: Pid, status: ExitStatus) {
        let mut table = self.table();
        match table.asked.remove(&pid.as_raw()) {
            // Whoever asked may have lost interest.
            Some(asked) => drop(asked.send(status)),
            None => {
                table.unasked.push_back((pid.as_raw(), status));
                if table.unasked.len() > REMEMBERED {
                    table.unasked.pop_front();
                }
            }
        }
    }

    /// The exit of a process that became our child by adoption, even if it has been reaped already.
    pub(crate) fn exit_of_adopted(&self, pid: i32) -> oneshot::Receiver<ExitStatus> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        match table.unasked.iter().rposition(|(unasked, _)| *unasked == pid) {
            Some(index) => {
                if let Some((_, status)) = table.unasked.remove(index) {
                    let _ = sender.send(status);
                }
            }
            None => drop(table.asked.insert(pid, sender)),
        }
        receiver
    }
}

impl ChildExits for Reaper {
    fn exit_of(&self, pid: Pid) -> oneshot::Receiver<ExitStatus> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table();
        // A status remembered under this pid is that of an earlier process.
        table.unasked.retain(|(unasked, _)| *unasked != pid.as_raw());
        table.asked.insert(pid.as_raw(), sender);
        receiver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_exit_of_an_adopted_child_is_told_before_or_after_it_was_reaped() {
        let reaper = Reaper::default();
        let early = reaper.exit_of_adopted(1_000_001);
        reaper.deliver(Pid::from_raw(1_000_001), ExitStatus::from_raw(3 << 8));
        reaper.deliver(Pid::from_raw(1_000_002), ExitStatus::from_raw(9));
        let late = reaper.exit_of_adopted(1_000_002);
        assert_eq!(early.await.unwrap().code(), Some(3));
        assert_eq!(late.await.unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn a_started_child_never_gets_the_status_of_an_earlier_process() {
        let reaper = Reaper::default();
        reaper.deliver(Pid::from_raw(1_000_003), ExitStatus::from_raw(9));
        let mut exit = reaper.exit_of(Pid::from_raw(1_000_003));
        assert!(exit.try_recv().is_err());
        reaper.deliver(Pid::from_raw(1_000_003), ExitStatus::from_raw(0));
        assert!(exit.await.unwrap().success());
    }

    #[tokio::test]
    async fn strangers_are_remembered_up_to_a_bound() {
        let reaper = Reaper::default();
        for pid in 1..1000 {
            reaper.deliver(Pid::from_raw(pid), ExitStatus::from_raw(0));
        }
        assert_eq!(reaper.table().unasked.len(), REMEMBERED);
    }
}

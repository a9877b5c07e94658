//! Ending a sandbox for good: each step has its own limit, and none trusts the one before.

use std::{sync::Arc, time::Duration};

use runsc_bridge::{ContainerId, ControlSocket, SignalScope};
use serde::{Deserialize, Serialize};

use crate::{cgroup::Cgroup, command::Signal, process::PidFd};

/// The sentry gets this long to end its guests in order.
const SOCKET_LIMIT: Duration = Duration::from_millis(200);
/// How long a killed process may take to be gone before the next step.
const STEP: Duration = Duration::from_millis(20);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const AT_LEISURE: Duration = Duration::from_millis(100);
/// A process in uninterruptible sleep is killed again, this often.
const AGAIN: Duration = Duration::from_secs(1);

/// Everything by which a sandbox can be ended.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) control: ControlSocket,
    /// The root container, whose end is the sandbox's.
    pub(crate) root: ContainerId,
    pub(crate) sandbox: Arc<PidFd>,
    pub(crate) gofers: Vec<Arc<PidFd>>,
    pub(crate) cgroup: Cgroup,
}

/// What ended a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Nobody had to: the workload has ended, with TERM or by itself.
    Workload,
    /// SIGKILL, through its control socket.
    Socket,
    /// SIGKILL to its processes.
    Process,
    /// SIGKILL to all that is in its cgroup, thawed.
    Cgroup,
    /// The watchdog: its shim had gone, or was late.
    Watchdog,
    /// `delete`, for a shim that had gone.
    Delete,
}

impl Step {
    /// As it is written down.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Socket => "socket",
            Self::Process => "process",
            Self::Cgroup => "cgroup",
            Self::Watchdog => "watchdog",
            Self::Delete => "delete",
        }
    }
}

impl Target {
    /// Ends the sandbox and returns once none of its processes is left. Never gives up.
    pub(crate) async fn end(self) -> Step {
        if self.is_gone() {
            return Step::Workload;
        }
        let _ = self.control.signal(&self.root, Signal::KILL.number(), SignalScope::All, SOCKET_LIMIT).await;
        if self.is_gone_within(STEP, LOOK_AGAIN).await {
            return Step::Socket;
        }
        self.kill_processes();
        if self.is_gone_within(STEP, LOOK_AGAIN).await {
            return Step::Process;
        }
        let mut announced = false;
        loop {
            self.kill_processes();
            self.cgroup.kill();
            // What survives the first second may take long, and is looked at in peace.
            let pause = if announced { AT_LEISURE } else { LOOK_AGAIN };
            if self.is_gone_within(AGAIN, pause).await {
                return Step::Cgroup;
            }
            if !announced {
                announced = true;
                log::error!("the sandbox survives SIGKILL, in uninterruptible sleep perhaps: trying on");
            }
        }
    }

    /// Sends SIGKILL to the sandbox and its gofers.
    pub(crate) fn kill_processes(&self) {
        self.sandbox.kill();
        self.gofers.iter().for_each(|gofer| gofer.kill());
    }

    fn is_gone(&self) -> bool {
        self.sandbox.has_ended() && self.gofers.iter().all(|g| g.has_ended()) && !self.cgroup.is_populated()
    }

    async fn is_gone_within(&self, limit: Duration, pause: Duration) -> bool {
        let gone = async {
            while !self.is_gone() {
                tokio::time::sleep(pause).await;
            }
        };
        tokio::time::timeout(limit, gone).await.is_ok()
    }
}

//! Ending a sandbox for good: each step has its own limit, and none trusts the one before.
//!
//! The sandbox isn't asked through its control socket to end its guests: one that hangs costs the whole limit of that call,
//! and one that doesn't takes longer to obey than to be killed. Nothing of the guests' is lost by that: what they wrote to a
//! volume is in the host's file by the time their call returns.

use std::{sync::Arc, time::Duration};

use runsc_bridge::ControlSocket;
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::{Cgroup, Condemned},
    process::PidFd,
};

/// How long killed processes may take to be gone before the next step.
const STEP: Duration = Duration::from_millis(10);
/// Between two looks at the cgroup, at first. It doubles.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);
/// The same once a second has passed.
const AT_LEISURE: Duration = Duration::from_millis(100);
/// How long they may take after the second step, before every hierarchy is looked at.
const LATE: Duration = Duration::from_millis(240);
/// A process in uninterruptible sleep is killed again, this often.
const AGAIN: Duration = Duration::from_secs(1);

/// Everything by which a sandbox can be ended.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) control: ControlSocket,
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
    /// SIGKILL to its processes, once.
    Process,
    /// SIGKILL again, to all that is in its cgroup, which is thawed.
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
            Self::Process => "process",
            Self::Cgroup => "cgroup",
            Self::Watchdog => "watchdog",
            Self::Delete => "delete",
        }
    }
}

impl Target {
    /// Sees to it that a sandbox whose processes have been killed ends, and returns once none of them is left. Never gives
    /// up.
    pub(crate) async fn ended(self) -> Step {
        // Once the sandbox is deleted its cgroup's place is anybody's.
        let inodes = self.cgroup.inodes();
        let cgroup = || self.cgroup.still(&inodes);
        if self.is_gone_within(STEP, LONGEST_PAUSE, cgroup).await {
            return Step::Process;
        }
        // With many that end in the same moment they may only be late, so this is little work.
        cgroup().thaw();
        self.kill_with(cgroup().condemned());
        if self.is_gone_within(LATE, LONGEST_PAUSE, cgroup).await {
            return Step::Cgroup;
        }
        let mut announced = false;
        loop {
            self.kill_with(None);
            cgroup().kill();
            // What survives the first second may take long, and is looked at in peace.
            let pause = if announced { AT_LEISURE } else { LONGEST_PAUSE };
            if self.is_gone_within(AGAIN, pause, cgroup).await {
                return Step::Cgroup;
            }
            if !announced {
                announced = true;
                log::error!("the sandbox survives SIGKILL, in uninterruptible sleep perhaps: trying on");
            }
        }
    }

    /// Sends SIGKILL to the sandbox, its gofers, and all that it has started: a guest's thread that runs on would have to
    /// be stopped by the sandbox, which needs the processor that it has. The cgroup of a sandbox that has ended may be
    /// another's, or soon be.
    pub(crate) fn kill_processes(&self) {
        self.kill_with(if self.sandbox.has_ended() { None } else { self.cgroup.condemned() });
    }

    fn kill_with(&self, members: Option<Condemned>) {
        self.sandbox.kill();
        self.gofers.iter().for_each(|gofer| gofer.kill());
        if let Some(members) = members {
            members.kill();
        }
    }

    async fn is_gone_within(
        &self,
        limit: Duration,
        longest_pause: Duration,
        cgroup: impl Fn() -> Cgroup,
    ) -> bool {
        let gone = async {
            self.sandbox.ended().await;
            for gofer in &self.gofers {
                gofer.ended().await;
            }
            // What the sandbox has started ends with it, a moment later.
            let mut pause = LOOK_AGAIN;
            while cgroup().is_populated() {
                tokio::time::sleep(pause).await;
                pause = longest_pause.min(pause * 2);
            }
        };
        tokio::time::timeout(limit, gone).await.is_ok()
    }
}

//! The time that an exec has: it ends with all that came from it, and its container lives on.

use std::{collections::BTreeSet, time::Duration};

use runsc_bridge::{ContainerId, ControlSocket, ExecId, Kind, SignalScope, tree_of};

use super::{Input, Pod, memory::AbortOnDrop};
use crate::{
    command::Signal,
    deadline::{clock::Boottime, timer::BoottimeTimer},
};

/// How often an exec is killed that doesn't end, and with which pause.
const KILLS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

impl Pod {
    /// Starts the clock of an exec that has just started, if it has one.
    pub(super) fn limit_exec(&mut self, container: &ContainerId, id: &ExecId) {
        let Some(limit) = self.record.pod_policy.as_ref().and_then(|policy| policy.exec_timeout) else {
            return;
        };
        let outcomes = self.outcomes.clone();
        let (up, due) = ((container.clone(), id.clone()), Boottime::now().after(limit));
        let clock = tokio::spawn(async move {
            let timer = BoottimeTimer::new().and_then(|timer| timer.set(Some(due)).map(|()| timer));
            match timer {
                Ok(timer) => timer.expired().await,
                // A limit that cannot be measured is none that anybody may rely on.
                Err(error) => log::error!("cannot measure an exec's time, ending it: {error}"),
            }
            let _ = outcomes.send(Input::ExecTimeIsUp(up.0, up.1));
        });
        match self.exec_mut(container, id) {
            Ok(exec) => exec.time_limit = Some(AbortOnDrop::new(clock)),
            Err(_) => clock.abort(),
        }
    }

    pub(super) fn exec_time_is_up(&mut self, container: &ContainerId, id: &ExecId) {
        let (control, limit) = (self.control(), self.tools.calls.signal);
        let Ok(exec) = self.exec_mut(container, id) else { return };
        let (Some(pid), Ok(control)) = (exec.guest_pid, control) else { return };
        exec.timed_out = true;
        log::info!(container = container.as_str(), exec = id.as_str(); "its time is up");
        tokio::spawn(kill_tree(control, container.clone(), pid, limit));
    }
}

/// Kills a process and whatever came from it, also what is made meanwhile.
async fn kill_tree(control: ControlSocket, container: ContainerId, root: i32, limit: Duration) {
    let mut tree = BTreeSet::from([root]);
    for _ in 0..KILLS {
        match control.processes(&container, limit).await {
            Ok(all) => {
                // What has ended may have left children, whose parent is another by now; a number may be somebody else's soon.
                tree = tree.iter().flat_map(|pid| tree_of(*pid, &all)).collect();
                tree.retain(|pid| all.iter().any(|process| process.pid == *pid));
                if tree.is_empty() {
                    return;
                }
            }
            Err(error) if error.kind == Kind::SandboxGone => return,
            // What is known is killed all the same.
            Err(_) => {}
        }
        for pid in &tree {
            // One that has ended is what is wanted.
            let _ =
                control.signal(&container, Signal::KILL.number(), SignalScope::Process(*pid), limit).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
    log::error!(container = container.as_str(); "an exec whose time is up survives SIGKILL: {} processes", tree.len());
}

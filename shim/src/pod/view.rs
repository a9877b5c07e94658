//! What readers see of a pod: published after each change, read without waiting for anybody's work.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use runsc_bridge::{ContainerId, ExecId};
use tokio::sync::watch;

use super::usage::{LastStats, UsageSource};
use crate::{error::Error, lifecycle::Phase, process::Exit, stdio::StdioPaths};

/// A container's init or an exec as `State` and `Wait` answer it.
#[derive(Debug, Clone)]
pub(crate) struct ProcessView {
    pub(crate) phase: Phase,
    pub(crate) stdio: StdioPaths,
    pub(crate) terminal: bool,
    /// The sandbox's host pid; 0 until it is known.
    pub(crate) pid: u32,
    /// Holds the exit once there is one, and keeps it for whoever still waits when the process is gone.
    pub(crate) exit: watch::Receiver<Option<Exit>>,
}

impl ProcessView {
    /// How the process ended, if it has.
    pub(crate) fn exit_so_far(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// It was given up before it ever was one.
    pub(crate) async fn wait(mut self) -> Result<Exit, Error> {
        match self.exit.wait_for(Option::is_some).await.map(|exit| *exit) {
            Ok(Some(exit)) => Ok(exit),
            Ok(None) | Err(_) => Err(Error::NotFound { what: "process", id: "given up".to_owned() }),
        }
    }
}

/// A container as readers see it.
#[derive(Debug, Clone)]
pub(crate) struct ContainerView {
    pub(crate) init: ProcessView,
    pub(crate) bundle: PathBuf,
    /// Once there is a sandbox.
    pub(crate) usage: Option<UsageSource>,
    pub(crate) last_stats: LastStats,
    pub(crate) execs: BTreeMap<ExecId, ProcessView>,
}

impl ContainerView {
    /// The container's init, or one of its execs.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an exec that there is none of.
    pub(crate) fn process(&self, exec: Option<&ExecId>) -> Result<ProcessView, Error> {
        match exec {
            None => Ok(self.init.clone()),
            Some(exec) => {
                let unknown = || Error::NotFound { what: "exec", id: exec.to_string() };
                self.execs.get(exec).cloned().ok_or_else(unknown)
            }
        }
    }
}

/// All containers of a pod.
pub(crate) type PodView = Arc<BTreeMap<ContainerId, ContainerView>>;

//! What readers see of a pod: published after each change, read without waiting for anybody's work.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use runsc_bridge::ContainerId;
use tokio::sync::watch;

use crate::{error::Error, lifecycle::Phase, process::Exit, stdio::StdioPaths};

/// A container as `State`, `Wait` and `Pids` answer it.
#[derive(Debug, Clone)]
pub(crate) struct ContainerView {
    pub(crate) phase: Phase,
    pub(crate) bundle: PathBuf,
    pub(crate) stdio: StdioPaths,
    /// The sandbox's host pid; 0 until it is known.
    pub(crate) pid: u32,
    /// Holds the exit once there is one, and keeps it for whoever still waits when the container is gone.
    pub(crate) exit: watch::Receiver<Option<Exit>>,
}

impl ContainerView {
    /// How the container ended, if it has.
    pub(crate) fn exit_so_far(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until the container has ended.
    ///
    /// # Errors
    /// It was given up before it ever was one.
    pub(crate) async fn wait(mut self, id: &ContainerId) -> Result<Exit, Error> {
        match self.exit.wait_for(Option::is_some).await.map(|exit| *exit) {
            Ok(Some(exit)) => Ok(exit),
            Ok(None) | Err(_) => Err(Error::NotFound { what: "container", id: id.to_string() }),
        }
    }
}

/// All containers of a pod.
pub(crate) type PodView = Arc<BTreeMap<ContainerId, ContainerView>>;

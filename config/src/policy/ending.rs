//! What is left of a pod that has ended.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a container's termination message says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Termination {
    /// Whether one is written at every end, with what the pod has used, and not only where something ended the container.
    pub receipts: bool,
}

/// Where a pod is written to whose time is up, if its timeout says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// `None` where no pod is to be written. A class cannot change it.
    pub dir: Option<PathBuf>,
    /// Bytes of one pod; what would be larger is given up. A class may lower it.
    pub max_size: u64,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { dir: None, max_size: 4 << 30 }
    }
}

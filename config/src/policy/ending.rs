//! What is left of a pod that has ended.

use serde::{Deserialize, Serialize};

/// What a container's termination message says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Termination {
    /// Whether one is written at every end, with what the pod has used, and not only where something ended the container.
    pub receipts: bool,
}

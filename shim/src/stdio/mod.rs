//! A container's standard streams.

pub(crate) mod budget;
pub(crate) mod console;
mod copier;
mod drain;
pub(crate) mod ending;
pub(crate) mod error;
pub(crate) mod exec;
pub(crate) mod fifo;
pub(crate) mod logger;
mod open;
mod release;
mod splice;
pub(crate) mod terminal;

use serde::{Deserialize, Serialize};

/// The paths that containerd names for a container's streams; empty where it wants none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StdioPaths {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

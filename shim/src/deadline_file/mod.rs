//! A pod's deadline file: a file of a volume that kubelet keeps up to date, which the pod's containers have read-only.
//!
//! kubelet's volume is a directory in which `NAME` leads to `..data/NAME` and `..data` to a directory with a new name for
//! each content, so every reading starts from the volume's directory, and no link leads out of it.

mod follow;
mod place;
mod volume;

use std::path::PathBuf;

use curfew_config::DEADLINE_FILE;
use thiserror::Error;

pub(crate) use self::{
    follow::{FirstReading, Follower},
    place::{Place, overlaps_any, writable_sources},
};

/// A deadline file that a pod cannot have.
#[derive(Debug, Error)]
pub(crate) enum DeadlineFileError {
    #[error(
        "{DEADLINE_FILE}: the mount at {} isn't read-only, and a workload must not set its own deadline",
        target.display()
    )]
    Writable { target: PathBuf },
    #[error(
        "{DEADLINE_FILE}: a container of the pod can write to {}, and a workload must not set its own deadline",
        volume.display()
    )]
    Exposed { volume: PathBuf },
    #[error(
        "{DEADLINE_FILE}: the mount at {} is a subPath's, which kubelet doesn't keep up to date",
        target.display()
    )]
    Subpath { target: PathBuf },
    #[error("{DEADLINE_FILE}: cannot open {}: {source}", volume.display())]
    Unopenable { volume: PathBuf, source: std::io::Error },
}

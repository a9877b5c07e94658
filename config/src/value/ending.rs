//! The sections about what is left of a pod that has ended: `[checkpoint]` and `[termination]`.

use super::{Reader, confinement::positive_size, path};
use crate::{
    error::ConfigError,
    file,
    policy::{Checkpoint, Termination},
};

impl Reader<'_> {
    pub(super) fn checkpoint(&self, file: file::Checkpoint) -> Result<Checkpoint, ConfigError> {
        let built_in = Checkpoint::default();
        Ok(Checkpoint {
            dir: self.take("checkpoint.dir", file.dir, built_in.dir, |text| path(text).map(Some))?,
            max_size: self.take("checkpoint.max_size", file.max_size, built_in.max_size, positive_size)?,
        })
    }

    pub(super) fn termination(&self, file: &file::Termination) -> Termination {
        let built_in = Termination::default();
        Termination { receipts: file.receipts.unwrap_or(built_in.receipts) }
    }
}

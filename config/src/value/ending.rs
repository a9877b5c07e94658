//! The sections about what is left of a pod that has ended: `[termination]`.

use super::Reader;
use crate::{file, policy::Termination};

impl Reader<'_> {
    pub(super) fn termination(&self, file: &file::Termination) -> Termination {
        let built_in = Termination::default();
        Termination { receipts: file.receipts.unwrap_or(built_in.receipts) }
    }
}

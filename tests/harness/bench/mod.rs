//! The parts of `bench`: what is measured, on what, and how it is shown.

pub(crate) mod bare;
pub(crate) mod footprint;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod meter;
pub(crate) mod notes;
pub(crate) mod peer;
pub(crate) mod rootfs;
pub(crate) mod sentry;
pub(crate) mod shims;
pub(crate) mod table;
pub(crate) mod target;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// After this long no further round begins.
    pub(crate) limit: std::time::Duration,
    /// How often a quick call is made in a round.
    pub(crate) calls: usize,
    /// How much a container or an exec writes when its output is measured.
    pub(crate) output_mib: u64,
    /// Output is measured in each round of which the number is a multiple of this.
    pub(crate) output_every: usize,
}

/// A program that writes so much to its stdout.
pub(crate) fn writer(mib: u64) -> [String; 3] {
    // In blocks of the size of a pipe.
    ["sh".into(), "-c".into(), format!("exec dd if=/dev/zero bs=65536 count={} 2>/dev/null", mib * 16)]
}

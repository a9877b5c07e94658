//! A sandbox's limits, changed while it runs: what Update brings, checked, and then written to the cgroup's files.
//!
//! The message is the spec's `linux.resources`. Of its keys CPU, cpusets, memory with swap, and pids count; the others
//! are ignored, since containerd sends the whole of it: devices, huge pages and block I/O among it.

mod hold;
mod parse;
mod plan;
mod write;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

use thiserror::Error;

pub(crate) use self::{
    hold::{PERIOD, hold_quota},
    parse::parse,
};
use crate::cgroup::Cgroup;

/// Limits to change. What is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    /// The weight against other cgroups, on version 1's scale: 2 to 262144, where 1024 is the default.
    pub(crate) cpu_shares: Option<u64>,
    /// CPU time for each period, in microseconds.
    pub(crate) cpu_quota: Option<Limit>,
    /// The period, in microseconds.
    pub(crate) cpu_period: Option<u64>,
    /// CPUs as a list like `0-3,7`.
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes as such a list.
    pub(crate) cpuset_mems: Option<String>,
    /// Memory in bytes.
    pub(crate) memory: Option<Limit>,
    /// Memory and swap together, in bytes; not below `memory`.
    pub(crate) memory_and_swap: Option<Limit>,
    /// Whether to refuse a memory limit that is below usage. On version 2 the kernel takes one, and may kill for it.
    pub(crate) check_usage: bool,
    /// Processes and threads.
    pub(crate) pids: Option<Limit>,
}

/// A limit, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Unlimited,
    At(u64),
}

/// Limits that cannot be read or cannot be set.
#[derive(Debug, Error)]
pub(crate) enum ResourcesError {
    #[error("resources of type {0:?} are not supported: the type ends in {suffix}", suffix = parse::TYPE_SUFFIX)]
    Type(String),
    #[error("resources of {0} bytes are more than {limit}", limit = parse::MAX_BYTES)]
    TooLong(usize),
    #[error("resources are no JSON object: {0}")]
    Malformed(String),
    #[error("resources: {key} is {value} but must be {rule}")]
    Value { key: &'static str, value: String, rule: &'static str },
    #[error("{key} of {limit} is not above the {usage} bytes in use")]
    BelowUsage { key: &'static str, limit: u64, usage: u64 },
    #[error("{key} cannot be changed: no directory of the sandbox's cgroup has {file}")]
    NoController { key: &'static str, file: &'static str },
    #[error("reading {} for {key}: {source}", file.display())]
    Read { key: &'static str, file: PathBuf, source: io::Error },
    #[error("writing {value:?} for {key} to {}: {source}", file.display())]
    Write { key: &'static str, value: String, file: PathBuf, source: io::Error },
    #[error("{first}; what was written before stays, since it could not be taken back: {remaining}")]
    NotUndone { first: Box<Self>, remaining: String },
}

/// Writes `resources` to the files of `cgroup`: all of them, or after an error none.
///
/// To take memory away the kernel may have to reclaim it, which can take a while: this is nothing for a task that others
/// wait for.
///
/// # Errors
/// A controller that isn't there, a limit below usage, or a file that the kernel refuses; it names the key and the file.
pub(crate) fn apply(resources: &Resources, cgroup: &Cgroup) -> Result<(), ResourcesError> {
    write::all(plan::writes(resources, cgroup)?)
}

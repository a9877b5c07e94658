//! A pod's own wishes and what it gets of them. The keys under `curfew.dev/` are known here and nowhere else.

mod weigh;

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::error::{AnnotationError, Fault};
use crate::policy::{Limits, NodePolicy};
use crate::units::parse_duration;
use crate::value::{guest_file, pids_limit, positive, shm_size};

pub use self::weigh::{Setting, Why};

#[cfg(test)]
mod tests;

const PREFIX: &str = "curfew.dev/";
const TIMEOUT: &str = "curfew.dev/timeout";
const GRACE: &str = "curfew.dev/grace";
const IDLE_TIMEOUT: &str = "curfew.dev/idle-timeout";
const CPU_BUDGET: &str = "curfew.dev/cpu-budget";
const EXEC_TIMEOUT: &str = "curfew.dev/exec-timeout";
const PIDS: &str = "curfew.dev/pids";
const SHM_SIZE: &str = "curfew.dev/shm-size";
/// The key of [`PodPolicy::deadline_file`].
pub const DEADLINE_FILE: &str = "curfew.dev/deadline-file";
const KNOWN: [&str; 8] =
    [TIMEOUT, GRACE, IDLE_TIMEOUT, CPU_BUDGET, EXEC_TIMEOUT, PIDS, SHM_SIZE, DEADLINE_FILE];

/// What holds for one pod: its wishes under the node's ceilings. Made at its first Create, then frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPolicy {
    /// Wall-clock time from the workload's start to TERM. Longer than zero, at most the node's `timeout.max`.
    pub timeout: Duration,
    /// Time from TERM to KILL. May be zero; at most the node's `timeout.max_grace`.
    pub grace: Duration,
    /// How long the pod may do nothing; `None` is no limit. At most the node's `idle.max`.
    #[serde(default)]
    pub idle_timeout: Option<Duration>,
    /// CPU time of the whole pod; `None` is no limit. At most the node's `cpu_budget.max`.
    #[serde(default)]
    pub cpu_budget: Option<Duration>,
    /// Wall-clock time of each exec; `None` is no limit but the pod's own. At most the node's `exec.max`.
    #[serde(default)]
    pub exec_timeout: Option<Duration>,
    /// Processes and threads of each container, at least one; at most the node's `limits.pids`.
    #[serde(default = "default_pids")]
    pub pids: u64,
    /// Bytes of `/dev/shm`, at least a page; at most the node's `limits.shm`.
    #[serde(default = "default_shm")]
    pub shm: u64,
    /// Whether the pod asked for that size, or it is what every pod gets.
    #[serde(default)]
    pub shm_asked: bool,
    /// A file inside the pod that carries its deadline. Until it says one the pod has `timeout`, which is then the node's
    /// `timeout.max` unless the pod asks for another; from then on it has what the file says, at most `timeout.max`.
    #[serde(default)]
    pub deadline_file: Option<PathBuf>,
    /// The wishes that were cut, to be logged and shown.
    pub clamped: Vec<Clamp>,
}

fn default_pids() -> u64 {
    Limits::default().pids
}

fn default_shm() -> u64 {
    Limits::default().shm_default
}

/// One wish above its ceiling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clamp {
    /// The annotation's key.
    pub key: String,
    /// Both as they would be written.
    pub asked: String,
    pub got: String,
    /// The node's key that made the difference, such as `timeout.max` or `timeout.raise`.
    pub rule: String,
}

impl fmt::Display for Clamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} lowered from {} to {} by {}", self.key, self.asked, self.got, self.rule)
    }
}

impl NodePolicy {
    /// Weighs a pod's annotations, given as pairs of key and value, against this policy.
    ///
    /// Keys outside `curfew.dev/` are not ours and are passed over. A wish above a ceiling is cut and noted
    /// in [`PodPolicy::clamped`]. Fails on a key under the prefix that is unknown, on a value that is no
    /// duration, number or size, and on one of zero where zero would be no pod.
    pub fn for_pod<'a>(
        &self,
        annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<PodPolicy, AnnotationError> {
        Ok(weigh::weigh(self, &Wishes::read(annotations)?).0)
    }

    /// What such a pod gets, setting by setting, and why.
    ///
    /// # Errors
    /// As [`NodePolicy::for_pod`].
    pub fn explain<'a>(
        &self,
        annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<Setting>, AnnotationError> {
        Ok(weigh::weigh(self, &Wishes::read(annotations)?).1)
    }
}

impl PodPolicy {
    /// The limits that a pod has only where its class or its annotations set them, by annotation.
    pub fn opt_in(&self) -> [(&'static str, Option<Duration>); 3] {
        [(IDLE_TIMEOUT, self.idle_timeout), (CPU_BUDGET, self.cpu_budget), (EXEC_TIMEOUT, self.exec_timeout)]
    }
}

/// What a pod asks for, understood and not yet weighed.
#[derive(Debug, Default)]
struct Wishes {
    timeout: Option<Duration>,
    grace: Option<Duration>,
    idle_timeout: Option<Duration>,
    cpu_budget: Option<Duration>,
    exec_timeout: Option<Duration>,
    pids: Option<u64>,
    shm: Option<u64>,
    deadline_file: Option<PathBuf>,
}

impl Wishes {
    fn read<'a>(annotations: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, AnnotationError> {
        let mut wishes = Self::default();
        for (key, value) in annotations {
            match key {
                TIMEOUT => wishes.timeout = Some(read(key, value, positive)?),
                GRACE => wishes.grace = Some(read(key, value, |text| Ok(parse_duration(text)?))?),
                IDLE_TIMEOUT => wishes.idle_timeout = Some(read(key, value, positive)?),
                CPU_BUDGET => wishes.cpu_budget = Some(read(key, value, positive)?),
                EXEC_TIMEOUT => wishes.exec_timeout = Some(read(key, value, positive)?),
                PIDS => wishes.pids = Some(read(key, value, pids_limit)?),
                SHM_SIZE => wishes.shm = Some(read(key, value, shm_size)?),
                DEADLINE_FILE => wishes.deadline_file = Some(read(key, value, guest_file)?),
                _ if key.starts_with(PREFIX) => {
                    return Err(AnnotationError::Unknown { key: key.to_owned(), known: KNOWN.to_vec() });
                }
                _ => {}
            }
        }
        Ok(wishes)
    }
}

fn read<T>(
    key: &str,
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, Fault>,
) -> Result<T, AnnotationError> {
    parse(value).map_err(|fault| AnnotationError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        fault,
    })
}

//! Limits of which a pod has none unless its class or its annotations set them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_hours(24);

/// How long a pod may do nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Idle {
    /// For a pod that asks for nothing; `None` is no limit. At most `max`.
    pub timeout: Option<Duration>,
    /// The most that a pod can ask for; a class may lower it.
    pub max: Duration,
    /// Thousandths of a CPU: who uses less does nothing.
    pub cpu: u64,
    /// Whether an exec that runs counts as doing something.
    pub execs: bool,
    /// Whether what an exec reads counts, also where execs don't.
    pub stdin: bool,
    /// Whether bytes on the pod's interfaces count.
    pub network: bool,
}

impl Default for Idle {
    fn default() -> Self {
        Self { timeout: None, max: DAY, cpu: 20, execs: true, stdin: true, network: true }
    }
}

/// CPU time of a whole pod, over its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuBudget {
    /// For a pod that asks for nothing; `None` is no limit. At most `max`.
    pub default: Option<Duration>,
    /// The most that a pod can ask for; a class may lower it.
    pub max: Duration,
}

impl Default for CpuBudget {
    /// What two CPUs can do in the longest life.
    fn default() -> Self {
        Self { default: None, max: 2 * DAY }
    }
}

/// Wall-clock time of each exec in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// For a pod that asks for nothing; `None` is no limit but the pod's own. At most `max`.
    pub timeout: Option<Duration>,
    /// The most that a pod can ask for; a class may lower it.
    pub max: Duration,
}

impl Default for Exec {
    fn default() -> Self {
        Self { timeout: None, max: DAY }
    }
}

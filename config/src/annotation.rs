//! A pod's own wishes and what it gets of them. The keys under `curfew.dev/` are known here and nowhere else.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::error::{AnnotationError, Fault};
use crate::policy::{Limits, NodePolicy};
use crate::units::{format_duration, parse_duration};
use crate::value::{pids_limit, positive};

#[cfg(test)]
mod tests;

const PREFIX: &str = "curfew.dev/";
const TIMEOUT: &str = "curfew.dev/timeout";
const GRACE: &str = "curfew.dev/grace";
const PIDS: &str = "curfew.dev/pids";
const KNOWN: [&str; 3] = [TIMEOUT, GRACE, PIDS];

/// What holds for one pod: its wishes under the node's ceilings. Made at its first Create, then frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPolicy {
    /// Wall-clock time from the workload's start to TERM. Longer than zero, at most the node's `timeout.max`.
    pub timeout: Duration,
    /// Time from TERM to KILL. May be zero; at most the node's `timeout.max_grace`.
    pub grace: Duration,
    /// Processes and threads of each container, at least one; at most the node's `limits.pids`.
    #[serde(default = "default_pids")]
    pub pids: u64,
    /// The wishes that were cut, to be logged and shown.
    pub clamped: Vec<Clamp>,
}

fn default_pids() -> u64 {
    Limits::default().pids
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
    /// duration or no number, and on a timeout or a number of zero.
    pub fn for_pod<'a>(
        &self,
        annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<PodPolicy, AnnotationError> {
        let (mut timeout, mut grace, mut pids) = (None, None, None);
        for (key, value) in annotations {
            match key {
                TIMEOUT => timeout = Some(read(key, value, positive)?),
                GRACE => grace = Some(read(key, value, |text| Ok(parse_duration(text)?))?),
                PIDS => pids = Some(read(key, value, pids_limit)?),
                _ if key.starts_with(PREFIX) => {
                    return Err(AnnotationError::Unknown { key: key.to_owned(), known: KNOWN.to_vec() });
                }
                _ => {}
            }
        }
        let node = &self.timeout;
        let (ceiling, rule) = match node.raise {
            true => (node.max, "timeout.max"),
            false => (node.default, "timeout.raise"),
        };
        let most_pids = self.limits.pids;
        let mut pod =
            PodPolicy { timeout: node.default, grace: node.grace, pids: most_pids, clamped: Vec::new() };
        if let Some(asked) = timeout {
            pod.timeout = asked.min(ceiling);
            pod.note(TIMEOUT, asked, pod.timeout, rule, format_duration);
        }
        if let Some(asked) = grace {
            pod.grace = asked.min(node.max_grace);
            pod.note(GRACE, asked, pod.grace, "timeout.max_grace", format_duration);
        }
        if let Some(asked) = pids {
            pod.pids = asked.min(most_pids);
            pod.note(PIDS, asked, pod.pids, "limits.pids", |pids| pids.to_string());
        }
        Ok(pod)
    }
}

impl PodPolicy {
    /// Notes a wish that was cut; one that was met leaves no trace.
    fn note<T: PartialOrd>(&mut self, key: &str, asked: T, got: T, rule: &str, write: fn(T) -> String) {
        if got < asked {
            let (asked, got) = (write(asked), write(got));
            self.clamped.push(Clamp { key: key.to_owned(), asked, got, rule: rule.to_owned() });
        }
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

//! A pod's own wishes and what it gets of them. The keys under `curfew.dev/` are known here and nowhere else.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::error::{AnnotationError, Fault};
use crate::policy::NodePolicy;
use crate::units::{format_duration, parse_duration};
use crate::value::positive;

#[cfg(test)]
mod tests;

const PREFIX: &str = "curfew.dev/";
const TIMEOUT: &str = "curfew.dev/timeout";
const GRACE: &str = "curfew.dev/grace";
const KNOWN: [&str; 2] = [TIMEOUT, GRACE];

/// What holds for one pod: its wishes under the node's ceilings. Made at its first Create, then frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPolicy {
    /// Wall-clock time from the workload's start to TERM. Longer than zero, at most the node's `timeout.max`.
    pub timeout: Duration,
    /// Time from TERM to KILL. May be zero; at most the node's `timeout.max_grace`.
    pub grace: Duration,
    /// The wishes that were cut, to be logged and shown.
    pub clamped: Vec<Clamp>,
}

/// One wish above its ceiling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clamp {
    /// The annotation's key.
    pub key: String,
    pub asked: Duration,
    pub got: Duration,
    /// The node's key that made the difference, such as `timeout.max` or `timeout.raise`.
    pub rule: String,
}

impl fmt::Display for Clamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, got) = (format_duration(self.asked), format_duration(self.got));
        write!(out, "{} lowered from {asked} to {got} by {}", self.key, self.rule)
    }
}

impl NodePolicy {
    /// Weighs a pod's annotations, given as pairs of key and value, against this policy.
    ///
    /// Keys outside `curfew.dev/` are not ours and are passed over. A wish above a ceiling is cut and noted
    /// in [`PodPolicy::clamped`]. Fails on a key under the prefix that is unknown, on a value that is no
    /// duration and on a timeout of zero.
    pub fn for_pod<'a>(
        &self,
        annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<PodPolicy, AnnotationError> {
        let (mut timeout, mut grace) = (None, None);
        for (key, value) in annotations {
            match key {
                TIMEOUT => timeout = Some(read(key, value, positive)?),
                GRACE => grace = Some(read(key, value, |text| Ok(parse_duration(text)?))?),
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
        let mut pod = PodPolicy { timeout: node.default, grace: node.grace, clamped: Vec::new() };
        if let Some(asked) = timeout {
            pod.timeout = asked.min(ceiling);
            pod.note(TIMEOUT, asked, pod.timeout, rule);
        }
        if let Some(asked) = grace {
            pod.grace = asked.min(node.max_grace);
            pod.note(GRACE, asked, pod.grace, "timeout.max_grace");
        }
        Ok(pod)
    }
}

impl PodPolicy {
    /// Notes a wish that was cut; one that was met leaves no trace.
    fn note(&mut self, key: &str, asked: Duration, got: Duration, rule: &str) {
        if got < asked {
            self.clamped.push(Clamp { key: key.to_owned(), asked, got, rule: rule.to_owned() });
        }
    }
}

fn read(
    key: &str,
    value: &str,
    parse: impl FnOnce(&str) -> Result<Duration, Fault>,
) -> Result<Duration, AnnotationError> {
    parse(value).map_err(|fault| AnnotationError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        fault,
    })
}

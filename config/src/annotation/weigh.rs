//! Wishes against ceilings: the smaller wins, and it is noted which rule decided.

use std::{fmt, time::Duration};

use super::{
    CPU_BUDGET, Clamp, DEADLINE_FILE, EXEC_TIMEOUT, GRACE, IDLE_TIMEOUT, PIDS, PodPolicy, SHM_SIZE, TIMEOUT,
    Wishes,
};
use crate::policy::NodePolicy;
use crate::units::{format_duration, quantity::format_size};
use crate::value::OFF;

/// One thing that a pod gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The annotation that asks for it.
    pub key: &'static str,
    /// As it would be written; `off` for a limit that isn't there.
    pub value: String,
    pub why: Why,
}

/// Which rule decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The pod asked for just that.
    Asked,
    /// The pod asked for more.
    Cut(Clamp),
    /// The pod asked for nothing: the node's key with what such a pod gets.
    Default(&'static str),
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => out.write_str("as asked"),
            Self::Cut(clamp) => write!(out, "lowered from {} by {}", clamp.asked, clamp.rule),
            Self::Default(rule) => write!(out, "default of {rule}"),
        }
    }
}

/// The rules of one setting. `T` is what is asked for; `D` is that too, or an option of it where there may be no limit.
struct Rule<T, D> {
    key: &'static str,
    /// The most that there is, and the node's key that says so.
    ceiling: (T, &'static str),
    /// What a pod gets that asks for nothing, and the node's key that says so.
    default: (D, &'static str),
    write: fn(T) -> String,
}

fn duration<D>(
    key: &'static str,
    ceiling: (Duration, &'static str),
    default: (D, &'static str),
) -> Rule<Duration, D> {
    Rule { key, ceiling, default, write: format_duration }
}

pub(super) fn weigh(node: &NodePolicy, wishes: &Wishes) -> (PodPolicy, Vec<Setting>) {
    let mut scale = Scale(Vec::new());
    let NodePolicy { timeout, idle, cpu_budget, exec, limits, .. } = node;
    let longest = match timeout.raise {
        true => (timeout.max, "timeout.max"),
        false => (timeout.default, "timeout.raise"),
    };
    let given = match wishes.deadline_file {
        // It waits for its deadline for as long as a pod can live.
        Some(_) => (timeout.max, "timeout.max"),
        None => (timeout.default, "timeout.default"),
    };
    let pids = (limits.pids, "limits.pids");
    let shm = Rule {
        key: SHM_SIZE,
        ceiling: (limits.shm, "limits.shm"),
        default: (limits.shm_default, "limits.shm_default"),
        write: format_size,
    };
    let grace = ((timeout.max_grace, "timeout.max_grace"), (timeout.grace, "timeout.grace"));
    let budget = ((cpu_budget.max, "cpu_budget.max"), (cpu_budget.default, "cpu_budget.default"));
    let idle = ((idle.max, "idle.max"), (idle.timeout, "idle.timeout"));
    let exec = ((exec.max, "exec.max"), (exec.timeout, "exec.timeout"));
    let mut pod = PodPolicy {
        timeout: scale.weigh(wishes.timeout, duration(TIMEOUT, longest, given)),
        grace: scale.weigh(wishes.grace, duration(GRACE, grace.0, grace.1)),
        idle_timeout: scale.weigh(wishes.idle_timeout, duration(IDLE_TIMEOUT, idle.0, idle.1)),
        cpu_budget: scale.weigh(wishes.cpu_budget, duration(CPU_BUDGET, budget.0, budget.1)),
        exec_timeout: scale.weigh(wishes.exec_timeout, duration(EXEC_TIMEOUT, exec.0, exec.1)),
        pids: scale.weigh(
            wishes.pids,
            Rule { key: PIDS, ceiling: pids, default: pids, write: |pids| pids.to_string() },
        ),
        shm: scale.weigh(wishes.shm, shm),
        shm_asked: wishes.shm.is_some(),
        deadline_file: wishes.deadline_file.clone(),
        clamped: Vec::new(),
    };
    if let Some(file) = &pod.deadline_file {
        scale.0.push(Setting { key: DEADLINE_FILE, value: file.display().to_string(), why: Why::Asked });
    }
    pod.clamped = scale.0.iter().filter_map(|setting| setting.why.clamp()).cloned().collect();
    (pod, scale.0)
}

impl Why {
    fn clamp(&self) -> Option<&Clamp> {
        match self {
            Self::Cut(clamp) => Some(clamp),
            Self::Asked | Self::Default(_) => None,
        }
    }
}

/// What has been weighed so far.
struct Scale(Vec<Setting>);

impl Scale {
    fn weigh<T: PartialOrd + Copy, D: From<T> + Into<Option<T>> + Copy>(
        &mut self,
        asked: Option<T>,
        rule: Rule<T, D>,
    ) -> D {
        let Rule { key, ceiling: (most, ceiling), default: (default, default_key), write } = rule;
        let (got, why) = match asked {
            None => (default, Why::Default(default_key)),
            Some(asked) if asked <= most => (D::from(asked), Why::Asked),
            Some(asked) => {
                let (asked, got) = (write(asked), write(most));
                let clamp = Clamp { key: key.to_owned(), asked, got, rule: ceiling.to_owned() };
                (D::from(most), Why::Cut(clamp))
            }
        };
        let limit: Option<T> = got.into();
        let value = limit.map_or_else(|| OFF.to_owned(), write);
        self.0.push(Setting { key, value, why });
        got
    }
}

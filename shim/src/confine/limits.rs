//! Memory, CPU and processes: the smaller of what was asked and the node's ceiling.

use curfew_config::NodePolicy;
use serde_json::{Value, json};

use super::{Object, Refusal, malformed, object_mut};
use crate::{
    cgroup::CpuQuota,
    resources::{PERIOD, hold_quota},
};

/// The host's count of a sandbox's processes and threads for each of the guest's, and for the sandbox itself: far above
/// what the limit inside lets the guest reach in a few dozen containers, since at this one the sandbox dies.
const HOST_PIDS_EACH: u64 = 64;
const HOST_PIDS_MORE: u64 = 1024;

/// Limits that a container asks for and that its cgroup on the host doesn't keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AskedLimits {
    /// Processes and threads.
    pub(crate) pids: Option<u64>,
    /// Bytes of memory.
    pub(crate) memory: Option<u64>,
}

pub(super) fn confine(spec: &mut Object, policy: &NodePolicy) -> Result<AskedLimits, Refusal> {
    let limits = &policy.limits;
    let resources = object_mut(object_mut(spec, "linux")?, "resources")?;
    let memory = object_mut(resources, "memory")?;
    let asked_memory = positive(memory, "limit", "linux.resources.memory.limit")?;
    memory.insert("limit".to_owned(), json!(asked_memory.unwrap_or(u64::MAX).min(limits.memory)));
    // A sandbox that isn't killed hangs, and nobody is told.
    memory.remove("disableOOMKiller");
    // Together with swap it may be no more: swap is memory that the node's ceiling would not count.
    if !matches!(memory.get("swap"), None | Some(Value::Null)) {
        let both = positive(memory, "swap", "linux.resources.memory.swap")?;
        memory.insert("swap".to_owned(), json!(both.unwrap_or(u64::MAX).min(limits.memory)));
    }

    let cpu = object_mut(resources, "cpu")?;
    let period = positive(cpu, "period", "linux.resources.cpu.period")?.unwrap_or(PERIOD);
    let asked = positive(cpu, "quota", "linux.resources.cpu.quota")?;
    let (quota, period) = hold_quota(asked, period, limits.cpu);
    cpu.insert("quota".to_owned(), json!(quota));
    cpu.insert("period".to_owned(), json!(period));

    let pids = object_mut(resources, "pids")?;
    let asked_pids = positive(pids, "limit", "linux.resources.pids.limit")?;
    let most = limits.pids.saturating_mul(HOST_PIDS_EACH).saturating_add(HOST_PIDS_MORE);
    pids.insert("limit".to_owned(), json!(most));
    Ok(AskedLimits { pids: asked_pids, memory: asked_memory })
}

/// Cuts CPU to what a pod's own cgroup leaves: without a quota a container may have all of it.
pub(crate) fn hold_below_pod(spec: &mut Object, pod: CpuQuota) -> Result<(), Refusal> {
    let cpu = object_mut(object_mut(object_mut(spec, "linux")?, "resources")?, "cpu")?;
    let number = |key| cpu.get(key).and_then(Value::as_u64);
    let asked = number("quota").zip(number("period")).map(|(quota, period)| CpuQuota { quota, period });
    if asked.is_none_or(|asked| asked.compare(&pod).is_gt()) {
        cpu.insert("quota".to_owned(), json!(pod.quota));
        cpu.insert("period".to_owned(), json!(pod.period));
    }
    Ok(())
}

/// A number above zero; absent, zero and negative ones are no limit.
fn positive(parent: &Object, key: &str, name: &str) -> Result<Option<u64>, Refusal> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => match (number.as_u64(), number.as_i64()) {
            (Some(0), _) | (None, Some(_)) => Ok(None),
            (Some(number), _) => Ok(Some(number)),
            (None, None) => Err(malformed(name)),
        },
        Some(_) => Err(malformed(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_never_above_what_the_pods_cgroup_leaves() {
        let held = |cpu: Value| {
            let Value::Object(mut spec) = json!({ "linux": { "resources": { "cpu": cpu } } }) else {
                panic!()
            };
            hold_below_pod(&mut spec, CpuQuota { quota: 50_000, period: 100_000 }).unwrap();
            let cpu = &spec["linux"]["resources"]["cpu"];
            (cpu["quota"].as_u64().unwrap(), cpu["period"].as_u64().unwrap())
        };
        assert_eq!(held(json!({ "quota": 200_000, "period": 100_000 })), (50_000, 100_000));
        assert_eq!(held(json!({ "quota": 6_000, "period": 10_000 })), (50_000, 100_000));
        assert_eq!(held(json!({})), (50_000, 100_000));
        assert_eq!(held(json!({ "quota": 5_000, "period": 10_000 })), (5_000, 10_000));
        assert_eq!(held(json!({ "quota": 400_000, "period": 1_000_000 })), (400_000, 1_000_000));
    }
}

//! What to write where, and in which order, for each version of cgroups.
//!
//! Each step leaves a state that the kernel takes, so that taking the steps back in reverse works too. What cannot be taken
//! back, memory that was reclaimed, comes last.

use std::path::Path;

use super::{
    Limit, Resources, ResourcesError,
    write::{Write, current},
};
use crate::cgroup::Cgroup;

/// What version 2 has for a period until somebody sets another, in microseconds.
const DEFAULT_PERIOD: &str = "100000";

/// The writes for `resources`, in order.
pub(super) fn writes(resources: &Resources, cgroup: &Cgroup) -> Result<Vec<Write>, ResourcesError> {
    let mut writes = Vec::new();
    plan_cpu(resources, cgroup, &mut writes)?;
    for (key, file, list) in [
        ("cpu.cpus", "cpuset.cpus", &resources.cpuset_cpus),
        ("cpu.mems", "cpuset.mems", &resources.cpuset_mems),
    ] {
        if let Some(list) = list {
            writes.push(Write::new(key, find(cgroup, key, file)?, file, list.clone()));
        }
    }
    if resources.memory.is_some() || resources.memory_and_swap.is_some() {
        plan_memory(resources, cgroup, &mut writes)?;
    }
    Ok(writes)
}

fn find<'a>(cgroup: &'a Cgroup, key: &'static str, file: &'static str) -> Result<&'a Path, ResourcesError> {
    cgroup.directory_with(file).ok_or(ResourcesError::NoController { key, file })
}

fn or_max(limit: Limit) -> String {
    match limit {
        Limit::Unlimited => "max".to_owned(),
        Limit::At(value) => value.to_string(),
    }
}

/// Version 1 says "no limit" with a number.
fn or_minus_one(limit: Limit) -> String {
    match limit {
        Limit::Unlimited => "-1".to_owned(),
        Limit::At(value) => value.to_string(),
    }
}

fn plan_cpu(resources: &Resources, cgroup: &Cgroup, writes: &mut Vec<Write>) -> Result<(), ResourcesError> {
    let key = match resources {
        Resources { cpu_shares: Some(_), .. } => "cpu.shares",
        Resources { cpu_quota: Some(_), .. } => "cpu.quota",
        Resources { cpu_period: Some(_), .. } => "cpu.period",
        _ => return Ok(()),
    };
    if let Some(directory) = cgroup.directory_with("cpu.shares") {
        return plan_cpu_v1(resources, directory, writes);
    }
    plan_cpu_v2(resources, find(cgroup, key, "cpu.weight")?, writes)
}

/// The kernel compares quota and period with the parent's, at each of the two writes. What lowers their ratio goes first,
/// so that it is never above both the old one and the new one.
fn plan_cpu_v1(
    resources: &Resources,
    directory: &Path,
    writes: &mut Vec<Write>,
) -> Result<(), ResourcesError> {
    if let Some(shares) = resources.cpu_shares {
        writes.push(Write::new("cpu.shares", directory, "cpu.shares", shares.to_string()));
    }
    let quota = resources
        .cpu_quota
        .map(|quota| Write::new("cpu.quota", directory, "cpu.cfs_quota_us", or_minus_one(quota)));
    let Some(period) = resources.cpu_period else {
        writes.extend(quota);
        return Ok(());
    };
    let old = current("cpu.period", &directory.join("cpu.cfs_period_us"))?;
    let grows = old.parse::<u64>().is_ok_and(|old| period > old);
    let period = Write::new("cpu.period", directory, "cpu.cfs_period_us", period.to_string());
    if grows {
        writes.push(period);
        writes.extend(quota);
    } else {
        writes.extend(quota);
        writes.push(period);
    }
    Ok(())
}

/// Quota and period are one file here. The half that isn't to change stays what it is.
fn plan_cpu_v2(
    resources: &Resources,
    directory: &Path,
    writes: &mut Vec<Write>,
) -> Result<(), ResourcesError> {
    if let Some(shares) = resources.cpu_shares {
        writes.push(Write::new("cpu.shares", directory, "cpu.weight", weight(shares).to_string()));
    }
    let key = match (resources.cpu_quota, resources.cpu_period) {
        (None, None) => return Ok(()),
        (Some(_), _) => "cpu.quota",
        (None, Some(_)) => "cpu.period",
    };
    let old = current(key, &directory.join("cpu.max"))?;
    let (old_quota, old_period) = old.split_once(' ').unwrap_or(("max", DEFAULT_PERIOD));
    let quota = resources.cpu_quota.map_or_else(|| old_quota.to_owned(), or_max);
    let period = resources.cpu_period.map_or_else(|| old_period.to_owned(), |period| period.to_string());
    writes.push(Write::new(key, directory, "cpu.max", format!("{quota} {period}")));
    Ok(())
}

/// Version 2's weight for version 1's shares, as runc has it from 1.3.2 on: 1 for 2, 100 for 1024, 10000 for 262144, and a
/// curve through these three.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
pub(super) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = libm::log2(shares as f64);
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            libm::ceil(libm::pow(10.0, exponent)) as u64
        }
    }
}

fn plan_memory(
    resources: &Resources,
    cgroup: &Cgroup,
    writes: &mut Vec<Write>,
) -> Result<(), ResourcesError> {
    let key = if resources.memory.is_some() { "memory.limit" } else { "memory.swap" };
    let v1 = cgroup.directory_with("memory.limit_in_bytes").map(|directory| (directory, true));
    let (directory, is_v1) = match v1 {
        Some(found) => found,
        None => (find(cgroup, key, "memory.max")?, false),
    };
    if resources.check_usage {
        check_usage(resources, directory, if is_v1 { "memory.usage_in_bytes" } else { "memory.current" })?;
    }
    if is_v1 {
        plan_memory_v1(resources, directory, writes)
    } else {
        plan_memory_v2(resources, directory, writes)
    }
}

fn check_usage(resources: &Resources, directory: &Path, file: &'static str) -> Result<(), ResourcesError> {
    let usage = current("memory.limit", &directory.join(file))?;
    let Ok(usage) = usage.parse::<u64>() else { return Ok(()) };
    for (key, limit) in [("memory.limit", resources.memory), ("memory.swap", resources.memory_and_swap)] {
        if let Some(Limit::At(limit)) = limit
            && limit <= usage
        {
            return Err(ResourcesError::BelowUsage { key, limit, usage });
        }
    }
    Ok(())
}

/// Memory may never be above memory and swap together, so the one that makes room goes first. Without a limit on memory
/// there can be none on both.
fn plan_memory_v1(
    resources: &Resources,
    directory: &Path,
    writes: &mut Vec<Write>,
) -> Result<(), ResourcesError> {
    const BOTH: &str = "memory.memsw.limit_in_bytes";
    let has_both = directory.join(BOTH).exists();
    let both = match (resources.memory, resources.memory_and_swap) {
        (Some(Limit::Unlimited), None) | (_, Some(Limit::Unlimited)) if !has_both => None,
        (Some(Limit::Unlimited), None) => Some(Limit::Unlimited),
        (_, Some(_)) if !has_both => {
            return Err(ResourcesError::NoController { key: "memory.swap", file: BOTH });
        }
        (_, both) => both,
    };
    let grows = match (both, resources.memory) {
        (Some(Limit::Unlimited), _) => true,
        (Some(Limit::At(both)), Some(_)) => {
            let old = current("memory.limit", &directory.join("memory.limit_in_bytes"))?;
            old.parse::<u64>().is_ok_and(|old| old < both)
        }
        (Some(Limit::At(_)), None) | (None, _) => false,
    };
    let both = both.map(|limit| Write::new("memory.swap", directory, BOTH, or_minus_one(limit)));
    let memory = resources
        .memory
        .map(|limit| Write::new("memory.limit", directory, "memory.limit_in_bytes", or_minus_one(limit)));
    if grows {
        writes.extend(both.into_iter().chain(memory));
    } else {
        writes.extend(memory.into_iter().chain(both));
    }
    Ok(())
}

/// Swap is counted alone here.
fn plan_memory_v2(
    resources: &Resources,
    directory: &Path,
    writes: &mut Vec<Write>,
) -> Result<(), ResourcesError> {
    const SWAP: &str = "memory.swap.max";
    let swap = match (resources.memory_and_swap, resources.memory) {
        (Some(Limit::Unlimited), _) | (None, Some(Limit::Unlimited)) => Some(Limit::Unlimited),
        (Some(Limit::At(both)), Some(Limit::At(memory))) => Some(Limit::At(both.saturating_sub(memory))),
        (Some(Limit::At(both)), None | Some(Limit::Unlimited)) => {
            let rule = "given together with memory.limit on cgroups version 2";
            return Err(ResourcesError::Value { key: "memory.swap", value: both.to_string(), rule });
        }
        (None, _) => None,
    };
    if let Some(swap) = swap {
        if directory.join(SWAP).exists() {
            writes.push(Write::new("memory.swap", directory, SWAP, or_max(swap)));
        } else if !matches!(swap, Limit::Unlimited | Limit::At(0)) {
            // Without swap accounting nothing can be limited; "all" and "none" are then what there is.
            return Err(ResourcesError::NoController { key: "memory.swap", file: SWAP });
        }
    }
    let memory =
        resources.memory.map(|limit| Write::new("memory.limit", directory, "memory.max", or_max(limit)));
    writes.extend(memory);
    Ok(())
}

//! Rules between values: a default stays under its ceiling, and a class under the node.

use std::path::Path;
use std::time::Duration;

use crate::error::ConfigError;
use crate::merge::{Layers, segments};
use crate::policy::{Network, NodePolicy, OnTimeout};
use crate::units::{
    format_duration,
    quantity::{format_cpu, format_size},
};
use crate::value::OFF;

#[cfg(test)]
mod tests;

/// A key and its duration.
type Setting = (&'static str, Duration);

/// Values of a policy that have a ceiling in it: the keys and the values of both, in one unit, and how to write one.
struct Bounded {
    key: &'static str,
    value: u128,
    ceiling_key: &'static str,
    ceiling: u128,
    written: fn(u128) -> String,
}

/// All of them. A limit that is off has no value to be held under its ceiling.
fn bounded(policy: &NodePolicy) -> impl Iterator<Item = Bounded> {
    let NodePolicy { timeout, idle, cpu_budget, exec, limits, .. } = policy;
    let durations = [
        ("timeout.default", Some(timeout.default), "timeout.max", timeout.max),
        ("timeout.grace", Some(timeout.grace), "timeout.max_grace", timeout.max_grace),
        ("idle.timeout", idle.timeout, "idle.max", idle.max),
        ("cpu_budget.default", cpu_budget.default, "cpu_budget.max", cpu_budget.max),
        ("exec.timeout", exec.timeout, "exec.max", exec.max),
    ];
    let shm = Bounded {
        key: "limits.shm_default",
        value: limits.shm_default.into(),
        ceiling_key: "limits.shm",
        ceiling: limits.shm.into(),
        written: |bytes| u64::try_from(bytes).map_or_else(|_| bytes.to_string(), format_size),
    };
    let durations = durations.into_iter().filter_map(|(key, value, ceiling_key, ceiling)| {
        Some(Bounded {
            key,
            value: value?.as_nanos(),
            ceiling_key,
            ceiling: ceiling.as_nanos(),
            written: |nanos| format_duration(Duration::from_nanos_u128(nanos)),
        })
    });
    durations.chain([shm])
}

/// Checks that every default is under its ceiling, such as `timeout.default <= timeout.max`, and that a checkpoint has its
/// place.
///
/// Fails with [`ConfigError::AboveCeiling`], which names both values and both files, and with [`ConfigError::Alone`].
pub(crate) fn check_order(policy: &NodePolicy, layers: &Layers) -> Result<(), ConfigError> {
    for Bounded { key, value, ceiling_key, ceiling, written } in bounded(policy) {
        if value > ceiling {
            return Err(ConfigError::AboveCeiling {
                file: layers.origin(&segments(key)),
                key,
                value: written(value).into(),
                ceiling_file: layers.origin(&segments(ceiling_key)),
                ceiling_key,
                ceiling: written(ceiling).into(),
            });
        }
    }
    let on_timeout = policy.timeout.on_timeout;
    if on_timeout == OnTimeout::Checkpoint && policy.checkpoint.dir.is_none() {
        let (key, value, needed) = ("timeout.on_timeout", on_timeout.as_str(), "checkpoint.dir");
        return Err(ConfigError::Alone { file: layers.origin(&segments(key)), key, value, needed });
    }
    Ok(())
}

/// Holds `policy`, which has the class merged in, under the node's own policy.
///
/// A class that lowers a ceiling below a default which it inherits takes the default down with it: its
/// author meant "at most this" and need not repeat the default. One that writes both must agree with itself.
///
/// Fails with [`ConfigError::Loosened`] if the class raises a ceiling, with [`ConfigError::Looser`] if it lets
/// out what the node keeps in, and as [`check_order`] does.
pub(crate) fn hold_class(
    policy: &mut NodePolicy,
    node: &NodePolicy,
    layers: &Layers,
) -> Result<(), ConfigError> {
    for (class, node) in [
        (("timeout.max", policy.timeout.max), node.timeout.max),
        (("timeout.max_grace", policy.timeout.max_grace), node.timeout.max_grace),
        (("timeout.startup", policy.timeout.startup), node.timeout.startup),
        (("idle.max", policy.idle.max), node.idle.max),
        (("cpu_budget.max", policy.cpu_budget.max), node.cpu_budget.max),
        (("exec.max", policy.exec.max), node.exec.max),
    ] {
        not_looser(class, node, layers)?;
    }
    lower_inherited(policy, layers);
    check_order(policy, layers)?;
    hold_confinement(policy, node, layers)
}

/// Takes the defaults that the class doesn't write down to its ceilings.
fn lower_inherited(policy: &mut NodePolicy, layers: &Layers) {
    let NodePolicy { timeout, idle, cpu_budget, exec, limits, .. } = policy;
    let inherits = |key| !layers.class_sets(&segments(key));
    if inherits("timeout.default") {
        timeout.default = timeout.default.min(timeout.max);
    }
    if inherits("timeout.grace") {
        timeout.grace = timeout.grace.min(timeout.max_grace);
    }
    if inherits("idle.timeout") {
        idle.timeout = idle.timeout.map(|limit| limit.min(idle.max));
    }
    if inherits("cpu_budget.default") {
        cpu_budget.default = cpu_budget.default.map(|limit| limit.min(cpu_budget.max));
    }
    if inherits("exec.timeout") {
        exec.timeout = exec.timeout.map(|limit| limit.min(exec.max));
    }
    if inherits("limits.shm_default") {
        limits.shm_default = limits.shm_default.min(limits.shm);
    }
}

/// A limit that the node has set stays set: a class may choose another one, not none.
fn hold_opt_in(class: &NodePolicy, node: &NodePolicy, layers: &Layers) -> Result<(), ConfigError> {
    for (key, class, node) in [
        ("idle.timeout", class.idle.timeout, node.idle.timeout),
        ("cpu_budget.default", class.cpu_budget.default, node.cpu_budget.default),
        ("exec.timeout", class.exec.timeout, node.exec.timeout),
    ] {
        let written = |limit: Option<Duration>| limit.map_or_else(|| OFF.to_owned(), format_duration);
        refuse_unless(class.is_some() || node.is_none(), key, || (written(class), written(node)), layers)?;
    }
    Ok(())
}

/// Holds what confines a sandbox under the node's own: no class lets out what the node keeps in.
fn hold_confinement(class: &NodePolicy, node: &NodePolicy, layers: &Layers) -> Result<(), ConfigError> {
    let at_most = |key, class: u64, node: u64, written: fn(u64) -> String| {
        refuse_unless(class <= node, key, || (written(class), written(node)), layers)
    };
    at_most("checkpoint.max_size", class.checkpoint.max_size, node.checkpoint.max_size, format_size)?;
    at_most("limits.memory", class.limits.memory, node.limits.memory, format_size)?;
    at_most("limits.cpu", class.limits.cpu, node.limits.cpu, format_cpu)?;
    at_most("limits.pids", class.limits.pids, node.limits.pids, |pids| pids.to_string())?;
    at_most("limits.shm", class.limits.shm, node.limits.shm, format_size)?;
    if let (Some(class), Some(node)) = (class.limits.log_size, node.limits.log_size) {
        at_most("limits.log_size", class, node, format_size)?;
    }
    let stays = |kept: bool, key, class: &str, node: &str| {
        refuse_unless(kept, key, || (class.to_owned(), node.to_owned()), layers)
    };
    for (key, class, node) in [
        ("pod.host_network", class.pod.host_network, node.pod.host_network),
        ("pod.privileged", class.pod.privileged, node.pod.privileged),
        ("pod.host_path", class.pod.host_path, node.pod.host_path),
        ("pod.hooks", class.pod.hooks, node.pod.hooks),
    ] {
        stays(class <= node, key, class.as_str(), node.as_str())?;
    }
    let (nnp, node_nnp) = (class.pod.no_new_privs, node.pod.no_new_privs);
    stays(nnp >= node_nnp, "pod.no_new_privs", nnp.as_str(), node_nnp.as_str())?;
    let (logger, node_logger) = (class.pod.binary_logger, node.pod.binary_logger);
    stays(logger <= node_logger, "pod.binary_logger", &logger.to_string(), &node_logger.to_string())?;
    let (outer, node_outer) = (class.seccomp.outer, node.seccomp.outer);
    stays(outer <= node_outer, "seccomp.outer", outer.as_str(), node_outer.as_str())?;
    let (ring, node_ring) = (class.seccomp.io_uring, node.seccomp.io_uring);
    stays(ring <= node_ring, "seccomp.io_uring", &ring.to_string(), &node_ring.to_string())?;
    let (guest, node_guest) = (class.seccomp.guest, node.seccomp.guest);
    stays(guest >= node_guest, "seccomp.guest", guest.as_str(), node_guest.as_str())?;
    hold_opt_in(class, node, layers)?;
    hold_runsc(class, node, layers)?;
    hold_lists(class, node, layers)
}

/// A class may choose how a sandbox runs, and none that has more of the host: of its network stack, or of its disk.
fn hold_runsc(class: &NodePolicy, node: &NodePolicy, layers: &Layers) -> Result<(), ConfigError> {
    let reach = |network: Network| match network {
        Network::None => 0,
        Network::Sandbox => 1,
        Network::Host => 2,
    };
    let (class, node) = (&class.runsc, &node.runsc);
    let networks = || (class.network.as_str().to_owned(), node.network.as_str().to_owned());
    refuse_unless(reach(class.network) <= reach(node.network), "runsc.network", networks, layers)?;
    let overlays = || (class.overlay2.clone(), node.overlay2.clone());
    let fits = overlay_bound(&class.overlay2) <= overlay_bound(&node.overlay2);
    refuse_unless(fits, "runsc.overlay2", overlays, layers)
}

/// What guests can write to the host's disk at most, in bytes. What is in memory counts there.
fn overlay_bound(overlay2: &str) -> u64 {
    let (medium, size) = overlay2.split_once(",size=").unwrap_or((overlay2, ""));
    if medium.ends_with(":memory") {
        return 0;
    }
    let digits = size.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match size.as_bytes().last().map(u8::to_ascii_lowercase) {
        Some(b'k') => 10,
        Some(b'm') => 20,
        Some(b'g') => 30,
        _ => 0,
    };
    digits.parse().map_or(u64::MAX, |number: u64| number.saturating_mul(1 << shift))
}

fn hold_lists(class: &NodePolicy, node: &NodePolicy, layers: &Layers) -> Result<(), ConfigError> {
    let within = |key, class: &[String], node: &[String]| {
        let added: Vec<&str> = class.iter().filter(|name| !node.contains(name)).map(String::as_str).collect();
        refuse_unless(added.is_empty(), key, || (added.join(", "), node.join(", ")), layers)
    };
    within("capabilities.ceiling", &class.capabilities.ceiling, &node.capabilities.ceiling)?;
    within("annotations.allow", &class.annotations.allow, &node.annotations.allow)?;
    // A class that moved these could take any directory of the host for kubelet's.
    let shown = |path: &Path| path.display().to_string();
    let [dir, node_dir] = [class, node].map(|policy| policy.checkpoint.dir.as_deref());
    let both = || (dir.map(shown).unwrap_or_default(), node_dir.map(shown).unwrap_or_default());
    refuse_unless(dir == node_dir, "checkpoint.dir", both, layers)?;
    let (kubelet, node_kubelet) = (&class.mounts.kubelet, &node.mounts.kubelet);
    let both = || (shown(kubelet), shown(node_kubelet));
    refuse_unless(kubelet == node_kubelet, "mounts.kubelet", both, layers)?;
    let added = class.mounts.containerd.iter().find(|dir| !node.mounts.containerd.contains(dir));
    let both = || {
        let all: Vec<String> = node.mounts.containerd.iter().map(|dir| shown(dir)).collect();
        (added.map(|dir| shown(dir)).unwrap_or_default(), all.join(", "))
    };
    refuse_unless(added.is_none(), "mounts.containerd", both, layers)
}

/// `values` are the class's and the node's.
fn refuse_unless(
    kept: bool,
    key: &'static str,
    values: impl FnOnce() -> (String, String),
    layers: &Layers,
) -> Result<(), ConfigError> {
    if kept {
        return Ok(());
    }
    let (path, (value, node)) = (segments(key), values());
    Err(ConfigError::Looser {
        file: layers.origin(&path),
        key,
        value,
        node_file: layers.node_origin(&path),
        node,
    })
}

fn not_looser((key, value): Setting, node: Duration, layers: &Layers) -> Result<(), ConfigError> {
    if value <= node {
        return Ok(());
    }
    Err(ConfigError::Loosened {
        file: layers.origin(&segments(key)),
        key,
        value,
        node_file: layers.node_origin(&segments(key)),
        node,
    })
}

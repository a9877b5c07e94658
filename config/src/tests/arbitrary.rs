//! Every valid policy, and annotations that a pod could have.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use proptest::{collection::vec, option, prelude::*, sample::subsequence};

use crate::policy::*;
use crate::units::{format_duration, quantity::format_size};

const YEAR: u64 = 365 * 24 * 3600 * 1_000_000_000;

/// Numbers of every magnitude between these.
pub(super) fn number(least: u64, most: u64) -> impl Strategy<Value = u64> {
    (0u32..64)
        .prop_flat_map(|bits| (1u64 << bits)..=(u64::MAX >> (63 - bits)))
        .prop_map(move |n| n.clamp(least, most))
}

fn nanos(least: u64, most: u64) -> impl Strategy<Value = Duration> {
    number(least, most).prop_map(Duration::from_nanos)
}

fn period() -> impl Strategy<Value = Duration> {
    nanos(1, YEAR)
}

/// Two in their order.
fn below<T: Ord + Clone + std::fmt::Debug>(
    one: impl Strategy<Value = T>,
    other: impl Strategy<Value = T>,
) -> impl Strategy<Value = (T, T)> {
    (one, other).prop_map(|(a, b)| (a.clone().min(b.clone()), a.max(b)))
}

/// A limit that may be off, and its ceiling.
fn opt_in() -> impl Strategy<Value = (Option<Duration>, Duration)> {
    (below(period(), period()), any::<bool>()).prop_map(|((limit, max), on)| (on.then_some(limit), max))
}

fn idle() -> impl Strategy<Value = Idle> {
    let counted = (any::<bool>(), any::<bool>(), any::<bool>());
    (opt_in(), number(10, 1_000_000), counted).prop_map(|((timeout, max), cpu, (execs, stdin, network))| {
        Idle { timeout, max, cpu, execs, stdin, network }
    })
}

fn path() -> impl Strategy<Value = PathBuf> {
    let part = r#"[a-zA-Z0-9 "'\\=#_é-][a-zA-Z0-9 ."'\\=#_é-]{0,6}"#;
    vec(part, 1..4).prop_map(|parts| PathBuf::from(format!("/{}", parts.join("/"))))
}

fn one_of<T: Copy + std::fmt::Debug + 'static, const N: usize>(all: [T; N]) -> impl Strategy<Value = T> {
    (0..N).prop_map(move |index| all[index])
}

fn runsc() -> impl Strategy<Value = Runsc> {
    let overlay2 = one_of(["none", "root:memory", "all:self", "root:dir=/a/b,size=1g", "all:memory,size=12"]);
    let flag = ("[a-z0-9][a-z0-9-]{0,8}", "[^\\x00\\n]{0,8}");
    let flags = vec(flag, 0..4).prop_map(|flags| flags.into_iter().collect::<BTreeMap<_, _>>());
    let names = (option::of(path()), one_of(Platform::ALL), one_of(Network::ALL), overlay2);
    (names, any::<bool>(), flags, any::<bool>(), path()).prop_map(
        |((path, platform, network, overlay2), directfs, flags, debug, debug_dir)| Runsc {
            path,
            platform,
            network,
            overlay2: overlay2.to_owned(),
            directfs,
            flags,
            debug,
            debug_dir,
        },
    )
}

fn timeout() -> impl Strategy<Value = Timeout> {
    let grace = below(nanos(0, YEAR), period());
    (below(period(), period()), any::<bool>(), grace, period(), one_of(OnShimLoss::ALL), any::<bool>())
        .prop_map(|((default, max), raise, (grace, max_grace), startup, on_shim_loss, expose)| {
            let on_timeout = if raise { OnTimeout::Checkpoint } else { OnTimeout::Kill };
            Timeout { default, max, raise, grace, max_grace, startup, on_shim_loss, on_timeout, expose }
        })
}

fn limits() -> impl Strategy<Value = Limits> {
    let shm = || number(4 << 10, 1 << 50);
    (number(32 << 20, 1 << 50), number(10, 1_000_000), number(1, 4_194_304), below(shm(), shm())).prop_map(
        |(memory, cpu, pids, (shm_default, shm))| Limits {
            memory,
            cpu,
            pids,
            shm,
            shm_default,
            log_size: None,
        },
    )
}

fn pod() -> impl Strategy<Value = Pod> {
    let permission = || one_of(Permission::ALL);
    let permissions = (permission(), permission(), permission());
    (permissions, one_of(HostNamespaces::ALL), one_of(NoNewPrivs::ALL), any::<bool>()).prop_map(
        |((privileged, host_path, hooks), host_namespaces, no_new_privs, binary_logger)| Pod {
            host_network: Permission::Refuse,
            host_namespaces,
            privileged,
            host_path,
            hooks,
            no_new_privs,
            binary_logger,
        },
    )
}

fn calls() -> impl Strategy<Value = Calls> {
    let limit = || nanos(100_000_000, 600_000_000_000);
    ((limit(), limit(), limit(), limit()), limit(), limit(), limit()).prop_map(
        |((create, start, signal, delete), probe, checkpoint, state)| Calls {
            create,
            start,
            signal,
            delete,
            probe,
            checkpoint,
            state,
        },
    )
}

/// Sorted and each once, as a policy has its lists.
fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values.dedup();
    values
}

/// Every policy that a file can make.
pub(super) fn node() -> impl Strategy<Value = NodePolicy> {
    let state =
        (path(), path(), period()).prop_map(|(dir, ledger, retention)| State { dir, ledger, retention });
    let ceiling = Capabilities::default().ceiling;
    let capabilities = subsequence(ceiling.clone(), 0..=ceiling.len());
    let lists = (capabilities, vec("[a-z.]{1,9}/[a-zA-Z0-9_-]{1,9}", 0..3), path(), vec(path(), 0..3));
    let filters = (one_of(OuterFilter::ALL), any::<bool>(), one_of([2u32, 3]), any::<bool>());
    let checkpoint = (path(), number(1, 1 << 60));
    let bounds = (timeout(), checkpoint, idle(), opt_in(), opt_in(), limits(), pod());
    (runsc(), state, bounds, lists, filters, calls()).prop_map(
        |(runsc, state, bounds, lists, (outer, io_uring, version, receipts), calls)| {
            let (timeout, (dir, max_size), idle, cpu_budget, exec, limits, pod) = bounds;
            let (ceiling, allow, kubelet, containerd) = lists;
            NodePolicy {
                runsc,
                state,
                protocol: Protocol { version },
                timeout,
                checkpoint: Checkpoint { dir: Some(dir), max_size },
                idle,
                cpu_budget: CpuBudget { default: cpu_budget.0, max: cpu_budget.1 },
                exec: Exec { timeout: exec.0, max: exec.1 },
                termination: Termination { receipts },
                limits,
                pod,
                capabilities: Capabilities { ceiling },
                annotations: Annotations { allow: sorted(allow) },
                mounts: Mounts { kubelet, containerd: sorted(containerd) },
                seccomp: Seccomp { outer, io_uring, guest: GuestProfile::Pod },
                calls,
            }
        },
    )
}

/// Annotations of a pod, all well-formed: each key of ours or not.
pub(super) fn wishes() -> impl Strategy<Value = Vec<(String, String)>> {
    let duration = |key: &'static str, least| {
        option::of(nanos(least, u64::MAX)).prop_map(move |asked| Some((key, format_duration(asked?))))
    };
    let size = option::of(number(4 << 10, u64::MAX))
        .prop_map(|asked| Some(("curfew.dev/shm-size", format_size(asked?))));
    let pids =
        option::of(number(1, 4_194_304)).prop_map(|asked| Some(("curfew.dev/pids", asked?.to_string())));
    let all = (
        duration("curfew.dev/timeout", 1),
        duration("curfew.dev/grace", 0),
        duration("curfew.dev/idle-timeout", 1),
        duration("curfew.dev/cpu-budget", 1),
        duration("curfew.dev/exec-timeout", 1),
        size,
        pids,
    );
    all.prop_map(|(a, b, c, d, e, f, g)| {
        [a, b, c, d, e, f, g].into_iter().flatten().map(|(key, value)| (key.to_owned(), value)).collect()
    })
}

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{plan::weight, *};

/// A directory for each entry of `directories`, with its files.
fn cgroup(root: &Path, directories: &[(&str, &[(&str, &str)])]) -> Cgroup {
    let make = |(directory, files): &(&str, &[(&str, &str)])| -> PathBuf {
        let directory = root.join(directory);
        fs::create_dir_all(&directory).unwrap();
        for (name, content) in *files {
            #[expect(clippy::disallowed_methods, reason = "a fixture")]
            fs::write(directory.join(name), content).unwrap();
        }
        directory
    };
    Cgroup::of_directories(directories.iter().map(make).collect())
}

fn v2(root: &Path) -> Cgroup {
    let files = [
        ("cgroup.controllers", "cpuset cpu io memory pids\n"),
        ("cpu.weight", "100\n"),
        ("cpu.max", "max 100000\n"),
        ("cpuset.cpus", "\n"),
        ("cpuset.mems", "\n"),
        ("memory.current", "8388608\n"),
        ("memory.max", "max\n"),
        ("memory.swap.max", "max\n"),
        ("pids.max", "max\n"),
    ];
    cgroup(root, &[("", &files)])
}

fn v1(root: &Path) -> Cgroup {
    cgroup(
        root,
        &[
            (
                "cpu",
                &[("cpu.shares", "1024\n"), ("cpu.cfs_quota_us", "-1\n"), ("cpu.cfs_period_us", "100000\n")],
            ),
            ("cpuset", &[("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")]),
            (
                "memory",
                &[
                    ("memory.usage_in_bytes", "8388608\n"),
                    ("memory.limit_in_bytes", "536870912\n"),
                    ("memory.memsw.limit_in_bytes", "536870912\n"),
                ],
            ),
            ("pids", &[("pids.max", "max\n")]),
        ],
    )
}

fn everything() -> Resources {
    Resources {
        cpu_shares: Some(2048),
        cpu_quota: Some(Limit::At(50_000)),
        cpu_period: Some(20_000),
        cpuset_cpus: Some("0".to_owned()),
        cpuset_mems: Some("0".to_owned()),
        memory: Some(Limit::At(64 << 20)),
        memory_and_swap: Some(Limit::At(96 << 20)),
        check_usage: true,
        // Not the cgroup's: it is taken out before.
        pids: Some(Limit::At(32)),
    }
}

fn content(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join(file)).unwrap()
}

/// The names of the files in the order in which they would be written.
fn order(resources: &Resources, cgroup: &Cgroup) -> Vec<String> {
    let writes = plan::writes(resources, cgroup).unwrap();
    writes.iter().map(|write| write.file.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_limit_is_written_in_version_2s_terms() {
    let root = tempfile::tempdir().unwrap();
    apply(&everything(), &v2(root.path())).unwrap();
    for (file, expected) in [
        ("cpu.weight", "174"),
        ("cpu.max", "50000 20000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("pids.max", "max\n"),
    ] {
        assert_eq!(content(root.path(), file), expected, "{file}");
    }
}

#[test]
fn every_limit_is_written_in_version_1s_terms() {
    let root = tempfile::tempdir().unwrap();
    apply(&everything(), &v1(root.path())).unwrap();
    for (file, expected) in [
        ("cpu/cpu.shares", "2048"),
        ("cpu/cpu.cfs_quota_us", "50000"),
        ("cpu/cpu.cfs_period_us", "20000"),
        ("cpuset/cpuset.cpus", "0"),
        ("cpuset/cpuset.mems", "0"),
        ("memory/memory.limit_in_bytes", "67108864"),
        ("memory/memory.memsw.limit_in_bytes", "100663296"),
        ("pids/pids.max", "max\n"),
    ] {
        assert_eq!(content(root.path(), file), expected, "{file}");
    }
}

#[test]
fn no_limit_is_a_word_on_version_2_and_minus_one_on_version_1() {
    let unlimited = Some(Limit::Unlimited);
    // Without a limit on memory there is none on swap either.
    let resources = Resources { cpu_quota: unlimited, memory: unlimited, ..Resources::default() };
    let root = tempfile::tempdir().unwrap();
    let cgroup = v2(root.path());
    apply(&everything(), &cgroup).unwrap();
    apply(&resources, &cgroup).unwrap();
    for (file, expected) in [("cpu.max", "max 20000"), ("memory.max", "max"), ("memory.swap.max", "max")] {
        assert_eq!(content(root.path(), file), expected, "{file}");
    }
    let root = tempfile::tempdir().unwrap();
    apply(&resources, &v1(root.path())).unwrap();
    for (file, expected) in [
        ("cpu/cpu.cfs_quota_us", "-1"),
        ("memory/memory.limit_in_bytes", "-1"),
        ("memory/memory.memsw.limit_in_bytes", "-1"),
    ] {
        assert_eq!(content(root.path(), file), expected, "{file}");
    }
}

#[test]
fn nothing_asked_is_nothing_written() {
    let root = tempfile::tempdir().unwrap();
    assert!(plan::writes(&Resources::default(), &v2(root.path())).unwrap().is_empty());
    assert!(apply(&Resources::default(), &Cgroup::default()).is_ok());
}

#[test]
fn the_half_of_cpu_max_that_is_not_asked_for_stays() {
    let root = tempfile::tempdir().unwrap();
    let cgroup = v2(root.path());
    let quota = Resources { cpu_quota: Some(Limit::At(30_000)), ..Resources::default() };
    apply(&quota, &cgroup).unwrap();
    assert_eq!(content(root.path(), "cpu.max"), "30000 100000");
    let period = Resources { cpu_period: Some(50_000), ..Resources::default() };
    apply(&period, &cgroup).unwrap();
    assert_eq!(content(root.path(), "cpu.max"), "30000 50000");
}

#[test]
fn the_one_of_quota_and_period_that_lowers_their_ratio_goes_first() {
    let root = tempfile::tempdir().unwrap();
    let cgroup = v1(root.path());
    let cpu = |period| Resources {
        cpu_quota: Some(Limit::At(50_000)),
        cpu_period: Some(period),
        ..Resources::default()
    };
    assert_eq!(order(&cpu(200_000), &cgroup), ["cpu.cfs_period_us", "cpu.cfs_quota_us"]);
    assert_eq!(order(&cpu(50_000), &cgroup), ["cpu.cfs_quota_us", "cpu.cfs_period_us"]);
}

#[test]
fn memory_is_never_above_memory_and_swap_on_the_way() {
    let (memory, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    let root = tempfile::tempdir().unwrap();
    let cgroup = v1(root.path());
    let limits = |memory, both| Resources {
        memory: Some(Limit::At(memory)),
        memory_and_swap: Some(both),
        ..Resources::default()
    };
    assert_eq!(order(&limits(1 << 30, Limit::At(1 << 30)), &cgroup), [both, memory]);
    assert_eq!(order(&limits(1 << 30, Limit::Unlimited), &cgroup), [both, memory]);
    assert_eq!(order(&limits(1 << 28, Limit::At(1 << 29)), &cgroup), [memory, both]);
    assert_eq!(order(&limits(1 << 28, Limit::At(1 << 28)), &cgroup), [memory, both]);
}

#[test]
fn a_controller_that_the_sandbox_lacks_is_named() {
    let root = tempfile::tempdir().unwrap();
    let memory_only = cgroup(root.path(), &[("", &[("memory.max", "max\n")])]);
    let resources = Resources {
        memory: Some(Limit::At(64 << 20)),
        cpuset_cpus: Some("0".into()),
        ..Resources::default()
    };
    let error = apply(&resources, &memory_only).unwrap_err();
    assert!(
        matches!(error, ResourcesError::NoController { key: "cpu.cpus", file: "cpuset.cpus" }),
        "{error}"
    );
    assert_eq!(content(root.path(), "memory.max"), "max\n");
    let shares = Resources { cpu_shares: Some(2), ..Resources::default() };
    let error = apply(&shares, &memory_only).unwrap_err();
    assert!(matches!(error, ResourcesError::NoController { key: "cpu.shares", .. }), "{error}");
}

#[test]
fn a_kernel_without_swap_accounting_takes_only_what_limits_no_swap() {
    let root = tempfile::tempdir().unwrap();
    let v2 = cgroup(&root.path().join("v2"), &[("", &[("memory.max", "max\n")])]);
    let v1 = cgroup(&root.path().join("v1"), &[("", &[("memory.limit_in_bytes", "-1\n")])]);
    let limits = |both| Resources {
        memory: Some(Limit::At(64 << 20)),
        memory_and_swap: Some(both),
        ..Resources::default()
    };
    assert_eq!(order(&limits(Limit::At(64 << 20)), &v2), ["memory.max"]);
    assert_eq!(order(&limits(Limit::Unlimited), &v2), ["memory.max"]);
    assert_eq!(order(&limits(Limit::Unlimited), &v1), ["memory.limit_in_bytes"]);
    for cgroup in [&v1, &v2] {
        let error = apply(&limits(Limit::At(96 << 20)), cgroup).unwrap_err();
        assert!(matches!(error, ResourcesError::NoController { key: "memory.swap", .. }), "{error}");
    }
}

#[test]
fn swap_alone_has_no_meaning_on_version_2() {
    let root = tempfile::tempdir().unwrap();
    let resources = Resources { memory_and_swap: Some(Limit::At(64 << 20)), ..Resources::default() };
    let error = apply(&resources, &v2(root.path())).unwrap_err();
    assert!(matches!(error, ResourcesError::Value { key: "memory.swap", .. }), "{error}");
}

#[test]
fn a_limit_below_usage_is_refused_if_that_was_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let cgroups = [v1(&root.path().join("v1")), v2(&root.path().join("v2"))];
    let mut resources = Resources { memory: Some(Limit::At(8 << 20)), ..Resources::default() };
    for cgroup in &cgroups {
        resources.check_usage = true;
        let error = apply(&resources, cgroup).unwrap_err();
        assert!(matches!(error, ResourcesError::BelowUsage { key: "memory.limit", .. }), "{error}");
        resources.check_usage = false;
        apply(&resources, cgroup).unwrap();
    }
}

#[test]
fn a_file_that_refuses_leaves_all_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let cgroup = v2(root.path());
    let memory = root.path().join("memory.max");
    fs::remove_file(&memory).unwrap();
    // Can be opened and read, but takes no byte.
    std::os::unix::fs::symlink("/dev/full", &memory).unwrap();
    let error = apply(&everything(), &cgroup).unwrap_err();
    assert!(
        matches!(&error, ResourcesError::Write { key: "memory.limit", file, .. } if *file == memory),
        "{error}"
    );
    for (file, before) in [("cpu.weight", "100"), ("cpu.max", "max 100000")] {
        assert_eq!(content(root.path(), file), before, "{file}");
    }
    assert_eq!(content(root.path(), "cpuset.cpus"), "\n");
}

#[test]
fn the_weight_for_shares_is_runcs() {
    for (shares, expected) in [
        (2, 1),
        (3, 2),
        (512, 59),
        (1024, 100),
        (2000, 170),
        (22_000, 1204),
        (262_143, 10_000),
        (262_144, 10_000),
    ] {
        assert_eq!(weight(shares), expected, "{shares}");
    }
}

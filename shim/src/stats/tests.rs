use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use super::*;

/// Makes `directory` with `files`, each a name and a content.
fn fill(directory: &Path, files: &[(&str, &str)]) -> PathBuf {
    fs::create_dir_all(directory).unwrap();
    for (name, content) in files.iter().chain(&[("cgroup.procs", "42\n")]) {
        #[expect(clippy::disallowed_methods, reason = "a fixture")]
        fs::write(directory.join(name), content).unwrap();
    }
    directory.to_owned()
}

const CPU_STAT_V2: &str = "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnice_usec 0\n\
    core_sched.force_idle_usec 0\nnr_periods 120\nnr_throttled 7\nthrottled_usec 65000\nnr_bursts 0\nburst_usec 0\n";

const MEMORY_STAT_V2: &str = "anon 20000768\nfile 104861696\nkernel 3219456\nkernel_stack 344064\n\
    pagetables 1052672\nsec_pagetables 0\npercpu 1824\nsock 0\nvmalloc 0\nshmem 102760448\nzswap 0\nzswapped 0\n\
    file_mapped 94371840\nfile_dirty 0\nfile_writeback 0\nswapcached 0\nanon_thp 0\ninactive_anon 122716160\n\
    active_anon 40960\ninactive_file 1576960\nactive_file 524288\nunevictable 0\nslab 1401808\n\
    workingset_refault_anon 0\npgfault 48213\npgmajfault 12\npgrefill 0\n";

fn v2(root: &Path, files: &[(&str, &str)]) -> Cgroup {
    let mut all = vec![("cgroup.controllers", "cpuset cpu io memory pids\n"), ("cpu.stat", CPU_STAT_V2)];
    all.extend_from_slice(files);
    Cgroup::of_directories(vec![fill(root, &all)])
}

#[test]
fn version_2_is_read_from_one_directory() {
    let root = tempfile::tempdir().unwrap();
    let cgroup = v2(
        root.path(),
        &[
            ("memory.current", "131153920\n"),
            ("memory.max", "536870912\n"),
            ("memory.peak", "140000000\n"),
            ("memory.stat", MEMORY_STAT_V2),
            (
                "memory.events",
                "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\nsock_throttled 0\n",
            ),
            ("memory.swap.current", "4096\n"),
            ("memory.swap.max", "0\n"),
            ("pids.current", "57\n"),
            ("pids.max", "1024\n"),
            (
                "io.stat",
                "7:0 \n254:0 rbytes=8192 wbytes=4096 rios=2 wios=1 dbytes=0 dios=0\n259:0 rbytes=1\n",
            ),
        ],
    );
    let stats = read(&cgroup).unwrap();
    assert_eq!(stats.version, Version::V2);
    let cpu = Cpu {
        usage_ns: 1_234_567_000,
        user_ns: 1_000_000_000,
        system_ns: 234_567_000,
        periods: 120,
        throttled_periods: 7,
        throttled_ns: 65_000_000,
    };
    assert_eq!(stats.cpu, Some(cpu));
    let memory = Memory {
        usage: 131_153_920,
        limit: Some(536_870_912),
        peak: Some(140_000_000),
        anon: 20_000_768,
        file: 104_861_696,
        shmem: 102_760_448,
        inactive_file: 1_576_960,
        page_faults: 48_213,
        major_page_faults: 12,
        limit_hits: 3,
        oom_kills: 5,
        swap: Some(Swap { usage: 4096, limit: Some(0) }),
        events: Some(MemoryEvents { low: 1, high: 2, oom: 4, oom_group_kill: 6 }),
    };
    assert_eq!(stats.memory, Some(memory));
    assert_eq!(stats.pids, Some(Pids { current: 57, peak: None, limit: Some(1024) }));
    let idle = DeviceIo { major: 7, ..DeviceIo::default() };
    let used = DeviceIo { major: 254, minor: 0, read_bytes: 8192, written_bytes: 4096, reads: 2, writes: 1 };
    let partial = DeviceIo { major: 259, read_bytes: 1, ..DeviceIo::default() };
    assert_eq!(stats.io, [idle, used, partial]);
}

#[test]
fn cpu_time_is_read_where_it_is_counted_and_nowhere_else() {
    let root = tempfile::tempdir().unwrap();
    let in_v2 = v2(&root.path().join("v2"), &[]);
    assert_eq!(cpu_time(&in_v2), Some(Duration::from_micros(1_234_567)));
    let mut both = in_v2.directories().to_vec();
    both.push(fill(&root.path().join("v1"), &[("cpuacct.usage", "1234\n")]));
    assert_eq!(cpu_time(&Cgroup::of_directories(both)), Some(Duration::from_nanos(1234)));
    for files in
        [&[("cpu.shares", "1024\n"), ("memory.usage_in_bytes", "1\n")][..], &[("cpuacct.usage", "x")]]
    {
        let directory = tempfile::tempdir_in(root.path()).unwrap();
        let cgroup = Cgroup::of_directories(vec![fill(directory.path(), files)]);
        assert_eq!(cpu_time(&cgroup), None, "{files:?}");
    }
}

#[test]
fn max_is_no_limit_and_a_file_that_an_old_kernel_lacks_is_nothing() {
    let root = tempfile::tempdir().unwrap();
    let files = [
        ("memory.current", "4096\n"),
        ("memory.max", "max\n"),
        ("pids.current", "1\n"),
        ("pids.max", "max\n"),
        ("memory.stat", "anon 4096\nfile x\nunknown\n"),
    ];
    let stats = read(&v2(root.path(), &files)).unwrap();
    let memory = Memory { usage: 4096, anon: 4096, ..Memory::default() };
    assert_eq!(stats.memory, Some(memory));
    assert_eq!(stats.pids, Some(Pids { current: 1, peak: None, limit: None }));
    assert!(stats.io.is_empty());
}

const MEMORY_STAT_V1: &str = "cache 10\nrss 11\nshmem 12\npgfault 13\npgmajfault 14\ninactive_file 15\n\
    hierarchical_memory_limit 536870912\nhierarchical_memsw_limit 536870912\ntotal_cache 104861696\n\
    total_rss 20000768\ntotal_rss_huge 0\ntotal_shmem 102760448\ntotal_mapped_file 94371840\ntotal_pgfault 48213\n\
    total_pgmajfault 12\ntotal_inactive_anon 122716160\ntotal_inactive_file 1576960\n";

const MEMORY_V1: [(&str, &str); 8] = [
    ("memory.usage_in_bytes", "131153920\n"),
    ("memory.limit_in_bytes", "536870912\n"),
    ("memory.max_usage_in_bytes", "140000000\n"),
    ("memory.failcnt", "3\n"),
    ("memory.memsw.usage_in_bytes", "131158016\n"),
    ("memory.memsw.limit_in_bytes", "9223372036854771712\n"),
    ("memory.stat", MEMORY_STAT_V1),
    ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"),
];

fn v1(root: &Path) -> Cgroup {
    // With `cpu` and `cpuacct` apart, as on a machine without systemd, and the unified hierarchy beside them.
    Cgroup::of_directories(vec![
        fill(
            &root.join("cpu"),
            &[
                ("cpu.shares", "1024\n"),
                ("cpu.stat", "nr_periods 120\nnr_throttled 7\nthrottled_time 65000000\n"),
            ],
        ),
        fill(
            &root.join("cpuacct"),
            &[("cpuacct.usage", "1234567890\n"), ("cpuacct.stat", "user 100\nsystem 23\n")],
        ),
        fill(&root.join("memory"), &MEMORY_V1),
        fill(&root.join("pids"), &[("pids.current", "57\n"), ("pids.max", "max\n")]),
        fill(
            &root.join("blkio"),
            &[
                (
                    "blkio.throttle.io_service_bytes",
                    "8:16 Read 8192\n8:16 Write 4096\n8:16 Sync 0\n8:16 Async 12288\n8:16 Total 12288\nTotal 12288\n",
                ),
                ("blkio.throttle.io_serviced", "8:16 Read 2\n8:16 Write 1\n8:16 Total 3\nTotal 3\n"),
            ],
        ),
        fill(&root.join("unified"), &[("cgroup.controllers", "\n"), ("cpu.stat", "usage_usec 1\n")]),
    ])
}

#[test]
fn version_1_is_read_from_each_controllers_directory() {
    let root = tempfile::tempdir().unwrap();
    let stats = read(&v1(root.path())).unwrap();
    assert_eq!(stats.version, Version::V1);
    let cpu = Cpu {
        usage_ns: 1_234_567_890,
        user_ns: 1_000_000_000,
        system_ns: 230_000_000,
        periods: 120,
        throttled_periods: 7,
        throttled_ns: 65_000_000,
    };
    assert_eq!(stats.cpu, Some(cpu));
    let memory = Memory {
        usage: 131_153_920,
        limit: Some(536_870_912),
        peak: Some(140_000_000),
        anon: 20_000_768,
        file: 104_861_696,
        shmem: 102_760_448,
        inactive_file: 1_576_960,
        page_faults: 48_213,
        major_page_faults: 12,
        limit_hits: 3,
        oom_kills: 5,
        swap: Some(Swap { usage: 131_158_016, limit: None }),
        events: None,
    };
    assert_eq!(stats.memory, Some(memory));
    assert_eq!(stats.pids, Some(Pids { current: 57, peak: None, limit: None }));
    let io = DeviceIo { major: 8, minor: 16, read_bytes: 8192, written_bytes: 4096, reads: 2, writes: 1 };
    assert_eq!(stats.io, [io]);
}

#[test]
fn the_version_is_the_memory_controllers_wherever_the_others_are() {
    let root = tempfile::tempdir().unwrap();
    let memory_v2 =
        fill(&root.path().join("u"), &[("cgroup.controllers", "memory\n"), ("memory.current", "1\n")]);
    let cpu_v1 = fill(&root.path().join("cpu"), &[("cpu.shares", "1024\n"), ("cpuacct.usage", "5\n")]);
    let stats = read(&Cgroup::of_directories(vec![cpu_v1.clone(), memory_v2])).unwrap();
    assert_eq!((stats.version, stats.cpu.unwrap().usage_ns), (Version::V2, 5));
    let stats = read(&Cgroup::of_directories(vec![cpu_v1])).unwrap();
    assert_eq!((stats.version, stats.memory), (Version::V1, None));
}

#[test]
fn the_directory_that_the_sandbox_was_found_in_goes_before_the_planned_one() {
    let root = tempfile::tempdir().unwrap();
    let planned = fill(&root.path().join("planned"), &[("memory.current", "1\n")]);
    let found = fill(&root.path().join("found"), &[("memory.current", "2\n")]);
    let stats = read(&Cgroup::of_directories(vec![planned, found])).unwrap();
    assert_eq!(stats.memory.unwrap().usage, 2);
}

#[test]
fn a_cgroup_that_is_gone_is_not_found() {
    let root = tempfile::tempdir().unwrap();
    let gone = Cgroup::of_directories(vec![root.path().join("gone")]);
    assert_eq!(read(&gone).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_cgroup_that_is_removed_while_it_is_read_is_not_found() {
    let root = tempfile::tempdir().unwrap();
    let (here, away) = (root.path().join("here"), root.path().join("away"));
    let cgroup = v2(&here, &[("memory.current", "1\n"), ("pids.current", "1\n")]);
    let whole = read(&cgroup).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                // Fails until the reader has brought it back, so that no read spans both.
                let _ = fs::rename(&here, &away);
                thread::sleep(Duration::from_micros(50));
            }
        });
        let read_or_restore = |_| {
            let stats = read(&cgroup);
            // Whether it came back shows in how many were whole.
            let _ = stats.is_err() && fs::rename(&away, &here).is_ok();
            stats.ok()
        };
        let found: Vec<Stats> = (0..20_000).filter_map(read_or_restore).collect();
        done.store(true, Relaxed);
        assert!((100..20_000).contains(&found.len()), "{}", found.len());
        assert_eq!(found.into_iter().find(|stats| *stats != whole), None);
    });
}

/// The test's own cgroup, in whatever hierarchy has one for it below the root.
#[test]
fn the_cgroup_of_this_process_is_read_within_a_millisecond() {
    let memberships = fs::read_to_string("/proc/self/cgroup").unwrap();
    let paths = memberships.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let Some(path) = paths.max_by_key(|path| path.len()).filter(|path| *path != "/") else { return };
    // A path with `..` in it lies outside of this process's cgroup namespace.
    let Ok(cgroup) = Cgroup::planned(path).unwrap() else { return };
    let Ok(stats) = read(&cgroup) else { return };
    if let Some(memory) = &stats.memory {
        assert!(memory.usage > 0, "{memory:?}");
    }
    if let Some(pids) = &stats.pids {
        assert!(pids.current > 0, "{pids:?}");
    }
    // The best of many, since other tests run beside this one.
    let read_once = || {
        let start = Instant::now();
        read(&cgroup).unwrap();
        start.elapsed()
    };
    let best = (0..100).map(|_| read_once()).min().unwrap();
    println!("{best:?} for {stats:?}");
    assert!(best <= Duration::from_millis(1), "{best:?}");
}

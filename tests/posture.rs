//! What the processes of a sandbox have on the host, compared with what they should have.
#![allow(clippy::print_stderr, reason = "figures for whoever reads the log")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::BTreeMap;
use std::fs;

use harness::{ExecSpec, Harness, Options, Runtime, Spec, proc::Process, with_options};

harness::on_curfew_alone![
    shim_gofer_and_sandbox_have_no_more_than_they_need,
    a_watchdog_can_kill_and_no_more,
];

/// The shim keeps these of the 41 capabilities, of which the machine may have fewer.
const SHIM: u64 = bits(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 18, 19, 21, 24, 27, 31]);

/// In their own user namespaces, where they say nothing about the machine's.
const GOFER: u64 = bits(&[0, 1, 2, 3, 4, 18]);
const SANDBOX: u64 = bits(&[0, 1, 2, 3, 4, 19]);

const fn bits(numbers: &[u32]) -> u64 {
    let (mut bits, mut at) = (0, 0);
    while at < numbers.len() {
        bits |= 1 << numbers[at];
        at += 1;
    }
    bits
}

fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

fn set(status: &BTreeMap<String, String>, name: &str) -> u64 {
    u64::from_str_radix(&status[name], 16).unwrap()
}

fn oom_score(pid: i32) -> i32 {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
}

/// The shim, the gofer and the sandbox of the only pod.
fn processes(h: &Harness) -> [Process; 3] {
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
    ["serve", "gofer", "sandbox"].map(|what| {
        let is_it = |process: &&Process| match what {
            "serve" => process.command.ends_with(" serve"),
            _ => process.command.starts_with(&format!("runsc-{what}")),
        };
        all.iter().find(is_it).unwrap_or_else(|| panic!("no {what} in {all:#?}")).clone()
    })
}

fn shim_gofer_and_sandbox_have_no_more_than_they_need(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let machine = set(&status(1), "CapBnd");
    let [shim, gofer, sandbox] = processes(h);
    let of_shim = status(shim.pid);
    for name in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(set(&of_shim, name), SHIM & machine, "{name}");
    }
    for name in ["CapInh", "CapAmb"] {
        assert_eq!(set(&of_shim, name), 0, "{name}");
    }
    assert_eq!((of_shim["Seccomp"].as_str(), of_shim["Seccomp_filters"].as_str()), ("2", "1"));
    assert_eq!(fs::read(format!("/proc/{}/environ", shim.pid)).unwrap(), b"");
    assert_eq!(oom_score(shim.pid), oom_score(h.containerd.pid().unwrap()) + 1);
    // The outer filter, and the process's own.
    for (process, capabilities, are_inherited) in [(&gofer, GOFER, true), (&sandbox, SANDBOX, false)] {
        let status = status(process.pid);
        for name in ["CapBnd", "CapEff", "CapPrm"] {
            assert_eq!(set(&status, name), capabilities, "{}: {name}", process.command);
        }
        // A gofer hands them down to itself, executed anew.
        for name in ["CapInh", "CapAmb"] {
            assert_eq!(set(&status, name), if are_inherited { capabilities } else { 0 }, "{name}");
        }
        for name in ["Uid", "Gid"] {
            assert!(status[name].split_whitespace().all(|id| id == "0"), "{name}: {}", status[name]);
        }
        assert_eq!((status["Groups"].as_str(), status["Umask"].as_str()), ("", "0000"));
        assert_eq!(status["Seccomp"], "2", "{}", process.command);
        assert_eq!(status["Seccomp_filters"], "2", "{}", process.command);
        assert_eq!(status["NoNewPrivs"], "1", "{}", process.command);
        let environment = fs::read_to_string(format!("/proc/{}/environ", process.pid)).unwrap();
        let names: Vec<&str> =
            environment.split('\0').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        assert!(
            names.iter().all(|name| ["PATH", "GOMEMLIMIT", "GLIBC_TUNABLES"].contains(name)),
            "{names:?}"
        );
        assert_eq!(oom_score(process.pid), 0);
    }
    task.end().unwrap();
}

fn a_watchdog_can_kill_and_no_more(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let [shim, ..] = processes(h);
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let watchdog = all.into_iter().find(|process| process.command.ends_with(" watchdog")).unwrap();
    assert_eq!(watchdog.parent, shim.pid);
    let of_watchdog = status(watchdog.pid);
    for (name, expected) in
        [("CapEff", bits(&[5])), ("CapPrm", bits(&[5])), ("CapBnd", 0), ("CapInh", 0), ("CapAmb", 0)]
    {
        assert_eq!(set(&of_watchdog, name), expected, "{name}");
    }
    // The shim's, and its own, which allows what it needs and nothing else.
    assert_eq!((of_watchdog["Seccomp"].as_str(), of_watchdog["Seccomp_filters"].as_str()), ("2", "2"));
    assert_eq!((of_watchdog["NoNewPrivs"].as_str(), of_watchdog["Threads"].as_str()), ("1", "1"));
    assert_eq!(of_watchdog["Umask"], "0077");
    assert_eq!(fs::read(format!("/proc/{}/environ", watchdog.pid)).unwrap(), b"");
    assert_eq!(oom_score(watchdog.pid), oom_score(shim.pid));
    let session = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap().to_owned()
    };
    assert_eq!(session(watchdog.pid), watchdog.pid.to_string());
    let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", watchdog.pid)).unwrap();
    let private: u64 = memory
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        .sum();
    eprintln!("a watchdog: {private} KiB private");
    assert!(private <= 1024, "{private} KiB private");
    task.end().unwrap();
}

#[test]
fn the_outer_filter_can_be_turned_off_by_the_node_alone() {
    let node = "version = 1\n[seccomp]\nouter = \"off\"\n".into();
    with_options(Runtime::Curfew, Options { node, ..Options::default() }, |h| {
        let task = h.start(Spec::sleeper());
        let [shim, gofer, _] = processes(h);
        assert_eq!(status(shim.pid)["Seccomp"], "0");
        assert_eq!(status(gofer.pid)["Seccomp_filters"], "1");
        task.end().unwrap();
    });
}

/// What the kernel has noted of system calls that a filter logs, since it was opened.
struct AuditLog(fs::File);

impl AuditLog {
    fn from_now() -> Self {
        use std::io::Seek;
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = fs::OpenOptions::new();
        let mut log = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/kmsg").unwrap();
        log.seek(std::io::SeekFrom::End(0)).unwrap();
        Self(log)
    }

    /// The numbers of the system calls. One read is one record.
    fn calls(&mut self) -> Vec<String> {
        use std::io::Read;
        let mut calls = Vec::new();
        let mut record = [0; 8192];
        while let Ok(count @ 1..) = self.0.read(&mut record) {
            let record = String::from_utf8_lossy(&record[..count]).into_owned();
            if let Some((_, rest)) = record.split_once(" syscall=").filter(|_| record.contains("type=1326")) {
                calls.push(rest.split(' ').next().unwrap_or_default().to_owned());
            }
        }
        calls
    }
}

fn with_logged_filter(io_uring: bool) -> Vec<String> {
    let node = format!("version = 1\n[seccomp]\nouter = \"log\"\nio_uring = {io_uring}\n");
    let mut log = AuditLog::from_now();
    with_options(Runtime::Curfew, Options { node, ..Options::default() }, |h| {
        let pod = h.pod_of_two();
        let exec = pod.workload.exec(&ExecSpec::new(["true"])).unwrap();
        exec.start().unwrap();
        exec.wait().unwrap();
        exec.delete().unwrap();
        pod.delete();
        let task = h.start(Spec::sleeper());
        task.pause().unwrap();
        task.resume().unwrap();
        task.metrics().unwrap();
        task.pids().unwrap();
        task.checkpoint(true).unwrap();
        task.wait().unwrap();
        task.delete().unwrap();
    });
    log.calls()
}

#[test]
fn nothing_that_runsc_does_meets_the_outer_filter() {
    assert_eq!(with_logged_filter(true), Vec::<String>::new());
    // And what it does would be seen: it tries for a ring, and goes on without one.
    let calls = with_logged_filter(false);
    assert!(!calls.is_empty() && calls.iter().all(|call| call == "425"), "{calls:?}");
}

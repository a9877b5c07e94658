//! What others on the node see of a sandbox, and where its processes are: files, sockets, descriptors, namespaces.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "it opens files as somebody else")]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::ErrorKind,
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf},
};

use harness::{ExecSpec, Harness, Options, Runtime, Spec, cgroup, proc::Process, with_options};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::stat::{Mode, umask},
};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

harness::on_curfew_alone![the_processes_of_a_sandbox_are_where_they_should_be_and_hold_what_they_should,];

/// Where a gofer has its container's files.
const CHROOT: &str = "/root";
/// Nobody's number, as an unprivileged program on the node may have it.
const NOBODY: u32 = 65534;

/// Sockets and files below `dir`.
fn find(dir: &Path, sockets: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            find(&path, sockets, files);
        } else if kind.is_socket() {
            sockets.push(path);
        } else if kind.is_file() {
            files.push(path);
        }
    }
}

/// As the user `nobody` without any group, in a thread of its own: Linux has credentials for each.
fn as_nobody<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let acting = scope.spawn(|| {
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            set_thread_groups(&[] as &[Gid]).unwrap();
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
            act()
        });
        acting.join().unwrap()
    })
}

#[test]
fn nobody_can_reach_our_sockets_and_files_though_everything_was_started_under_umask_0() {
    let before = umask(Mode::empty());
    with_options(Runtime::Curfew, Options::default(), |h| {
        let task = h.start(Spec::sleeper().id("seen"));
        let exec = task.exec(&ExecSpec::new(["sleep", "1000"])).unwrap();
        exec.start().unwrap();
        let (mut sockets, mut files) = (Vec::new(), Vec::new());
        find(&h.containerd.state_dir(), &mut sockets, &mut files);
        let bundle = h.containerd.bundle("seen");
        files.extend(
            ["config.json", "log.json", "address"]
                .map(|name| bundle.join(name))
                .into_iter()
                .filter(|file| file.exists()),
        );
        // runsc's, and the shim's own.
        assert!(sockets.len() >= 2, "{sockets:?}");
        assert!(files.iter().any(|file| file.ends_with("config.json")) && files.len() >= 3, "{files:?}");
        for socket in &sockets {
            assert!(UnixStream::connect(socket).is_ok(), "{}: nothing listens there", socket.display());
        }
        let reached: Vec<PathBuf> = as_nobody(|| {
            let denied = |error: ErrorKind| error == ErrorKind::PermissionDenied;
            let connects =
                |path: &&PathBuf| !UnixStream::connect(path).is_err_and(|error| denied(error.kind()));
            let opens = |path: &&PathBuf| !File::open(path).is_err_and(|error| denied(error.kind()));
            sockets.iter().filter(connects).chain(files.iter().filter(opens)).cloned().collect()
        });
        assert_eq!(reached, Vec::<PathBuf>::new());
        task.end().unwrap();
    });
    umask(before);
}

/// A namespace of a process.
fn namespace(pid: i32, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// What a process holds: `socket`, `pipe`, `anon_inode`, `/memfd:…`, or the path; each once.
fn descriptors(pid: i32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let kind =
        |text: &str| text.split([' ', '[']).next().unwrap_or_default().trim_end_matches(':').to_owned();
    targets.map(|target| kind(&target.to_string_lossy())).collect()
}

/// Those that are none of these: as they are, or below where a `/` ends them.
fn unexpected(held: BTreeSet<String>, expected: &[String]) -> Vec<String> {
    let is_expected = |held: &String| {
        // The root itself is no directory to be below of.
        let is = |one: &String| held == one || (one.len() > 1 && one.ends_with('/') && held.starts_with(one));
        expected.iter().any(is)
    };
    held.into_iter().filter(|held| !is_expected(held)).collect()
}

/// The seals of the log of the call that made a process.
fn log_seals(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let is_log =
        |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.starts_with("/memfd:runsc-log (deleted)"));
    let logs = entries.map(|entry| entry.path()).filter(is_log);
    logs.map(|log| fcntl(File::open(log).unwrap(), FcntlArg::F_GET_SEALS).unwrap()).collect()
}

fn status_line(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn the_processes_of_a_sandbox_are_where_they_should_be_and_hold_what_they_should(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let named = |is_it: &dyn Fn(&Process) -> bool| all.iter().find(|process| is_it(process)).unwrap().pid;
    let shim = named(&|process| process.command.ends_with(" serve"));
    let gofer = named(&|process| process.command.starts_with("runsc-gofer"));
    let sandbox = named(&|process| process.command.starts_with("runsc-sandbox"));
    // As the test itself has them.
    let host = |kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();

    assert_eq!(status_line(shim, "Uid"), "0 0 0 0");
    assert_eq!(status_line(shim, "Umask"), "0077");
    for kind in ["mnt", "net", "pid", "ipc", "uts", "user", "cgroup"] {
        assert_eq!(namespace(shim, kind), namespace(h.containerd.pid().unwrap(), kind), "the shim's {kind}");
    }
    let cgroups = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroups(shim), cgroups(h.containerd.pid().unwrap()), "the shim's");
    for (name, pid, root) in [("gofer", gofer, CHROOT), ("sandbox", sandbox, "/")] {
        for kind in ["mnt", "net", "ipc", "uts", "user", "pid"] {
            assert_ne!(namespace(pid, kind), host(kind), "the {name}'s {kind}");
        }
        for what in ["root", "cwd"] {
            assert_eq!(
                fs::read_link(format!("/proc/{pid}/{what}")).unwrap(),
                Path::new(root),
                "the {name}'s {what}"
            );
        }
        let cgroups = cgroups(pid);
        assert!(
            cgroups.contains(&format!("/curfew-test/{}/", h.containerd.namespace())),
            "{name}: {cgroups}"
        );
        // It may not write a byte more to what is kept in the host's memory for it.
        let closed = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW;
        let seals = log_seals(pid);
        assert!(!seals.is_empty(), "the {name} has no log");
        for seals in seals {
            assert!(SealFlag::from_bits_truncate(seals).contains(closed), "the {name}'s log: {seals:#x}");
        }
    }

    hold_no_more_than_they_should(h, [shim, gofer, sandbox]);
    task.end().unwrap();
}

fn hold_no_more_than_they_should(h: &Harness, [shim, gofer, sandbox]: [i32; 3]) {
    let dir = h.containerd.dir();
    let below = |name: &str| format!("{}/", dir.join(name).display());
    let (io, state, bundle) = (below("io"), below("run/s"), below("state"));
    let of_all = ["/dev/null", "anon_inode", "socket", "pipe"];
    let cgroup = format!("/curfew-test/{}/", h.containerd.namespace());
    let below_chroot = format!("{CHROOT}/");
    let of_gvisor = ["/memfd:runsc-log", CHROOT, &below_chroot, &cgroup, &io];
    let with =
        |more: &[&str]| -> Vec<String> { of_all.iter().chain(more).map(|one| (*one).to_owned()).collect() };
    // Where version 2 tells of kills and of processes that could not be made, of this very sandbox alone; version 1's
    // eventfd is none of its files.
    let told = ["memory.events", "pids.events"].into_iter().filter(|_| cgroup::is_v2()).map(|file| {
        let directory = cgroup::of_process(sandbox.unsigned_abs(), file).unwrap();
        directory.join(file).display().to_string()
    });
    let its_own: Vec<String> = with(&[&io, &state]).into_iter().chain(told).collect();
    assert_eq!(unexpected(descriptors(shim), &its_own), Vec::<String>::new(), "the shim's");
    let gofers = ["/", "/memfd:flipcall_packet_windows", &bundle];
    let none = Vec::<String>::new();
    assert_eq!(
        unexpected(descriptors(gofer), &with(&[&of_gvisor[..], &gofers].concat())),
        none,
        "the gofer's"
    );
    let sandboxs =
        ["/memfd:memory-usage", "/memfd:runsc-memory", "/memfd:systrap-memory", "anon_inode:seccomp"];
    // Where it says why it breaks down: to be written to, and no more.
    let panic_logs: Vec<String> = descriptors(sandbox)
        .into_iter()
        .filter(|at| at.starts_with(&state) && at.ends_with("/panic"))
        .collect();
    assert!(!panic_logs.is_empty(), "the sandbox has no panic log");
    let its_own = panic_logs.iter().map(String::as_str);
    let sandboxs: Vec<&str> = of_gvisor.into_iter().chain(sandboxs).chain(its_own).collect();
    assert_eq!(unexpected(descriptors(sandbox), &with(&sandboxs)), none, "the sandbox's");
    for at in fs::read_dir(format!("/proc/{sandbox}/fd")).unwrap().flatten() {
        let is_log = fs::read_link(at.path()).is_ok_and(|to| to.ends_with("panic"));
        let info = format!("/proc/{sandbox}/fdinfo/{}", at.file_name().display());
        let flags = fs::read_to_string(info).unwrap_or_default();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default().trim();
        // The last digit, in octal, is how it was opened.
        assert!(!is_log || flags.ends_with('1'), "{flags}");
    }
}

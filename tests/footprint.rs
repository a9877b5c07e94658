//! What a sandbox costs the node in processes and memory.
#![allow(clippy::print_stderr, reason = "figures for whoever reads the log")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files")]

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use harness::{
    ExecSpec, Harness, Options, Runtime, Signal, Spec, proc::Process, shim::Shim, version, with_options,
};

harness::on_curfew_alone![
    a_shim_has_one_thread_and_stays_within_its_memory,
    a_shim_has_no_environment_of_containerds_and_only_its_own_descriptors,
    what_the_shim_makes_is_roots_alone,
];

const MAX_RSS_KIB: u64 = 3584;
const MAX_PRIVATE_KIB: u64 = 1024;

fn shim_of(h: &Harness, id: &str) -> u32 {
    Shim::of(&h.containerd, id).unwrap().pid(id).unwrap()
}

/// The sum of a process's lines with one of these names, in KiB.
fn memory(pid: u32, file: &str, names: &[&str]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let wanted = lines.filter(|(name, _)| names.contains(name));
    wanted.map(|(_, value)| value.trim().trim_end_matches(" kB").parse::<u64>().unwrap()).sum()
}

fn a_shim_has_one_thread_and_stays_within_its_memory(h: &Harness) {
    // A second shim, so that what they share counts as shared.
    let pods = ["other", "pause"].map(|id| {
        let pause = h.start(Spec::sleeper().sandbox(id));
        let hello = Spec::new(["sh", "-c", "echo hello"]).id(format!("hello-{id}"));
        assert_eq!(h.run(hello.container_of(id, pause.pid())).stdout, "hello\n");
        pause
    });
    let pids = ["other", "pause"].map(|id| shim_of(h, id));
    for pid in pids {
        let status = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        // A mount or unmount has another for a moment.
        let alone =
            harness::rpc::poll(Duration::from_secs(1), || status().contains("Threads:\t1\n").then_some(()));
        assert!(alone.is_some(), "{}", status());
    }
    // With each page of a file that is touched the kernel maps some around it, as it happens to have them: the same shim
    // has a few hundred KiB more or less.
    let mut rss = pids.map(|pid| memory(pid, "status", &["VmRSS"]));
    rss.sort_unstable();
    assert!(rss[1] <= MAX_RSS_KIB + 512, "{rss:?} KiB resident");
    let rss = rss[0];
    let private = pids.map(|pid| memory(pid, "smaps_rollup", &["Private_Clean", "Private_Dirty"]));
    let private = private.into_iter().max().unwrap();
    eprintln!("shim after a container has run: {rss} KiB resident, {private} KiB private");
    assert!(rss <= MAX_RSS_KIB, "{rss} KiB resident");
    assert!(private <= MAX_PRIVATE_KIB, "{private} KiB private");
    for pause in pods {
        pause.end().unwrap();
    }
}

fn a_shim_has_no_environment_of_containerds_and_only_its_own_descriptors(h: &Harness) {
    let task = h.start(Spec::sleeper().id("a"));
    let pid = shim_of(h, "a");
    assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        let dir = h.containerd.dir().display().to_string();
        let known =
            ["/dev/null", "socket:[", "anon_inode:", &dir].iter().any(|start| target.starts_with(start));
        assert!(known, "descriptor {} is {target}", entry.path().display());
    }
    for process in harness::proc::of_test(h.containerd.namespace(), h.containerd.pid()) {
        if process.command.starts_with("runsc-gofer") || process.command.starts_with("runsc-sandbox") {
            let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            assert!(!environment.contains("TTRPC_ADDRESS"), "{}: {environment}", process.name);
        }
    }
    task.end().unwrap();
}

fn what_the_shim_makes_is_roots_alone(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let mut looked_at = 0;
    assert_private(&h.containerd.state_dir().join("s"), &mut looked_at);
    assert!(looked_at > 5, "only {looked_at} files were looked at");
    task.end().unwrap();
}

fn assert_private(path: &Path, looked_at: &mut u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mode = metadata.permissions().mode() & 0o777;
    assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    *looked_at += 1;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            assert_private(&entry.path(), looked_at);
        }
    }
}

/// A runsc that notes each of its calls before it becomes the real one.
fn counting_runsc(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("runsc");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>{}/calls\nexec {} \"$@\"\n",
        dir.display(),
        version::runsc().display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_lifecycle_is_three_runsc_processes_and_none_stays() {
    let dir = tempfile::tempdir().unwrap();
    let runsc = counting_runsc(dir.path());
    let class = format!("[runsc]\npath = {runsc:?}\n");
    with_options(Runtime::Curfew, Options { class, ..Options::default() }, |h| {
        let calls = || fs::read_to_string(dir.path().join("calls")).unwrap_or_default();
        h.run(Spec::new(["true"]));
        // Once for each binary, its version is asked for.
        assert_eq!(calls().lines().filter(|call| *call == "--version").count(), 1, "{}", calls());
        fs::remove_file(dir.path().join("calls")).unwrap();
        let task = h.start(Spec::sleeper().id("counted"));
        let resident: Vec<Process> = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid())
            .into_iter()
            .filter(|p| p.parent == shim_of(h, "counted").cast_signed())
            .collect();
        let names: BTreeSet<&str> = resident.iter().map(|p| role(&p.command)).collect();
        assert_eq!(
            (names, resident.len()),
            (["runsc-gofer", "runsc-sandbox", "watchdog"].into(), 3),
            "{resident:#?}"
        );
        // An exec is no process on the host, and no file either.
        let files = || {
            fs::read_dir(h.containerd.state_dir().join("s"))
                .unwrap()
                .flatten()
                .flat_map(|sandbox| {
                    fs::read_dir(sandbox.path()).unwrap().flatten().map(|file| file.file_name())
                })
                .collect::<BTreeSet<_>>()
        };
        let before = files();
        let exec = task.exec(&ExecSpec::new(["sleep", "1000"])).unwrap();
        exec.start().unwrap();
        assert_eq!(files(), before);
        exec.kill(Signal::SIGKILL).unwrap();
        exec.wait().unwrap();
        exec.delete().unwrap();
        task.end().unwrap();
        let verbs: Vec<String> = calls().lines().map(verb).collect();
        assert_eq!(verbs, ["create", "start", "delete"]);
    });
}

/// What runsc calls a process of its own, or what ours is asked to be.
fn role(command: &str) -> &str {
    let mut words = command.split(' ');
    if command.starts_with("runsc-") { words.next() } else { words.next_back() }.unwrap_or_default()
}

fn verb(call: &str) -> String {
    call.split(' ').find(|word| !word.starts_with("--")).unwrap_or_default().to_owned()
}

#[test]
fn runscs_own_debug_log_is_there_only_where_the_class_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    for debug in [false, true] {
        let class = format!("[runsc]\ndebug = {debug}\ndebug_dir = {:?}\n", dir.path());
        with_options(Runtime::Curfew, Options { class, ..Options::default() }, |h| {
            h.run(Spec::new(["true"]));
        });
        let logs: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|log| log.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(logs.iter().any(|log| log.contains("boot")), debug, "{logs:?}");
    }
}

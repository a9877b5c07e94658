//! A pod whose deadline comes from a file that kubelet keeps up to date: it waits, has its time from the first word on, and
//! never more than its class allows.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "files of a volume")]

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use harness::{
    Code, Harness, Options, Runtime, Signal, Spec, Task, proc::Process, rpc::poll, shim::Shim,
    volume::Volume, with_options,
};

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a003";
const PATIENCE: Duration = Duration::from_secs(20);
/// From a change of the file to a deadline that everybody knows.
const SOON: Duration = Duration::from_secs(3);
const SECOND: Duration = Duration::from_secs(1);

/// On a node whose pods live for so long at most.
fn with_max(max: &str, test: impl FnOnce(&Harness)) {
    let class = format!("[timeout]\nmax = \"{max}\"\ngrace = \"0s\"\n");
    let node = "version = 1\n[pod]\nhost_path = \"allow\"\n".into();
    with_options(Runtime::Curfew, Options { class, node, ..Options::default() }, test);
}

fn volume(h: &Harness) -> Volume {
    Volume::make(h.containerd.dir(), UID, "deadline").unwrap()
}

fn pause(id: &str) -> Spec {
    let pause = Spec::sleeper().sandbox(id).annotation("io.kubernetes.cri.sandbox-uid", UID);
    pause.annotation("curfew.dev/deadline-file", "/etc/podinfo/deadline")
}

fn workload(volume: &Volume, options: &[&str]) -> Spec {
    Spec::sleeper().id("workload").bind(volume.dir(), "/etc/podinfo", options)
}

/// A pod that waits for its claim or has one, and the moment at which it was started.
struct Pod<'h> {
    h: &'h Harness,
    pause: Task,
    workload: Task,
    started: Instant,
}

impl<'h> Pod<'h> {
    fn start(h: &'h Harness, volume: &Volume) -> Self {
        Self::start_as(h, "pause", workload(volume, &["ro"]))
    }

    fn start_as(h: &'h Harness, sandbox: &str, workload: Spec) -> Self {
        let pause = h.start(pause(sandbox));
        let workload = h.start(workload.container_of(sandbox, pause.pid()));
        Self { h, pause, workload, started: Instant::now() }
    }

    /// Its state, and its limit in seconds.
    fn state(&self) -> (String, f64) {
        let shown = self.h.ctl_json(&["show", UID, "-o", "json"]);
        (shown["state"].as_str().unwrap().to_owned(), shown["limit_seconds"].as_f64().unwrap())
    }

    #[track_caller]
    fn is_soon(&self, state: &str, limit: f64) {
        let is_so = || (self.state() == (state.to_owned(), limit)).then_some(());
        assert!(poll(SOON, is_so).is_some(), "{:?} instead of {state}, {limit}", self.state());
    }

    /// Waits for its end, which must come so long after `since`, or somewhat later.
    #[track_caller]
    fn ends(self, since: Instant, after: Duration) {
        assert_eq!(self.workload.wait_for(PATIENCE).unwrap().status, 124);
        let took = since.elapsed();
        assert!(took + SECOND / 2 > after && took < after + SECOND * 3 / 2, "{took:?} instead of {after:?}");
        self.delete();
    }

    fn delete(self) {
        delete([self.workload, self.pause]);
    }
}

fn delete(tasks: [Task; 2]) {
    for task in tasks {
        assert_eq!(task.wait_for(PATIENCE).unwrap().status, 124);
        task.delete().unwrap();
    }
}

#[test]
fn a_file_that_says_something_at_the_start_is_the_deadline_from_then_on() {
    with_max("1h", |h| {
        let volume = volume(h);
        volume.update("2s\n").unwrap();
        let pod = Pod::start(h, &volume);
        assert_eq!(pod.state(), ("running".to_owned(), 2.0));
        let since = pod.started;
        pod.ends(since, 2 * SECOND);
        let refused = h.try_create(pause("another")).unwrap_err();
        assert!(refused.code == Code::FailedPrecondition && refused.message.contains("2s"), "{refused}");
    });
}

#[test]
fn a_time_in_utc_is_a_deadline_too() {
    with_max("1h", |h| {
        let volume = volume(h);
        let pod = Pod::start(h, &volume);
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 4;
        let until = (UNIX_EPOCH + Duration::from_secs(at)).duration_since(SystemTime::now()).unwrap();
        let since = Instant::now();
        volume.update(harness::volume::utc(at)).unwrap();
        let is_running = || (pod.state().0 == "running").then_some(());
        assert!(poll(SOON, is_running).is_some(), "{:?}", pod.state());
        pod.ends(since, until);
    });
}

#[test]
fn a_pod_waits_and_then_has_its_time_moved_up_to_the_ceiling_and_no_further() {
    with_max("7s", |h| {
        let volume = volume(h);
        let pod = Pod::start(h, &volume);
        assert_eq!(pod.state(), ("waiting".to_owned(), 7.0));
        std::thread::sleep(2 * SECOND);
        let armed = Instant::now();
        volume.update("4s").unwrap();
        pod.is_soon("running", 4.0);
        assert!(h.ctl(&["extend", UID, "1s"]).contains("has 5s from its beginning"));
        // The same again is nothing new.
        volume.update("4s\n").unwrap();
        std::thread::sleep(SECOND);
        assert_eq!(pod.state(), ("running".to_owned(), 5.0));
        volume.update("10m").unwrap();
        pod.is_soon("running", 7.0);
        h.ctl_refuses(&["extend", UID, "1s"], 1, "all the time that its class allows");
        pod.ends(armed, 7 * SECOND);
        assert!(h.containerd.log().contains("the deadline file says 10m"), "{}", h.containerd.log());
    });
}

#[test]
fn a_deadline_that_is_brought_nearer_than_now_is_now() {
    with_max("1h", |h| {
        let volume = volume(h);
        volume.update("10m").unwrap();
        let pod = Pod::start(h, &volume);
        std::thread::sleep(2 * SECOND);
        volume.update("9m").unwrap();
        pod.is_soon("running", 540.0);
        let nearer = Instant::now();
        volume.update("1s").unwrap();
        pod.ends(nearer, Duration::ZERO);
    });
}

#[test]
fn the_watchdog_knows_what_the_file_said() {
    with_max("1h", |h| {
        let volume = volume(h);
        let pod = Pod::start(h, &volume);
        let armed = Instant::now();
        volume.update("3s").unwrap();
        pod.is_soon("running", 3.0);
        let shim = Shim::of(&h.containerd, "pause").unwrap().pid("pause").unwrap();
        let shim = Process::read(shim.cast_signed()).unwrap();
        shim.signal(Signal::SIGSTOP);
        let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
        let sandbox: Vec<_> =
            all.into_iter().filter(|process| process.command.starts_with("runsc-sandbox")).collect();
        assert!(!sandbox.is_empty());
        let is_gone = || sandbox.iter().all(|process| !process.is_alive());
        let gone = poll(PATIENCE, || is_gone().then(|| armed.elapsed()));
        shim.signal(Signal::SIGCONT);
        let took = gone.unwrap();
        assert!(took > 4 * SECOND && took < 7 * SECOND, "{took:?}");
        pod.delete();
    });
}

#[test]
fn another_attempt_at_the_pod_has_what_the_file_gave_the_first() {
    with_max("1h", |h| {
        let volume = volume(h);
        let first = Pod::start(h, &volume);
        let armed = Instant::now();
        volume.update("6s").unwrap();
        first.is_soon("running", 6.0);
        for task in [first.workload, first.pause] {
            task.end().unwrap();
        }
        let second = Pod::start_as(h, "another", workload(&volume, &["ro"]));
        assert_eq!(second.state(), ("running".to_owned(), 6.0));
        second.ends(armed, 6 * SECOND);
    });
}

#[test]
fn what_means_nothing_changes_nothing_and_the_pod_waits_until_its_ceiling() {
    with_max("12s", |h| {
        let volume = volume(h);
        let secret = &h.containerd.dir().join("secret");
        fs::create_dir(secret).unwrap();
        fs::write(secret.join("deadline"), "1h").unwrap();
        let pod = Pod::start(h, &volume);
        let shown = || std::thread::sleep(SECOND / 5);
        let huge = vec![b'1'; 4 << 20];
        let texts = ["soon", "-1h", "0s", "600", "1h 30m", "2026-01-02T03:04:05"].map(str::as_bytes);
        for content in texts.into_iter().chain([b"\xff\xfe1h".as_slice(), &huge]) {
            volume.update(content).unwrap();
            shown();
        }
        for target in [secret.as_path(), Path::new("/proc/self")] {
            volume.lead_to(target).unwrap();
            shown();
        }
        volume.update("").unwrap();
        fs::remove_file(volume.dir().join("deadline")).unwrap();
        nix::unistd::mkfifo(&volume.dir().join("deadline"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        shown();
        assert_eq!(pod.state(), ("waiting".to_owned(), 12.0));
        let log = h.containerd.log();
        for words in
            ["leads out of the volume", "not a regular file", "longer than 64 bytes", "isn't UTF-8", "soon"]
        {
            let said =
                log.lines().filter(|line| line.contains("file is ignored") && line.contains(words)).count();
            assert_eq!(said, 1, "{words}: {log}");
        }
        let since = pod.started;
        pod.ends(since, 12 * SECOND);
    });
}

#[test]
fn a_file_that_is_replaced_all_the_time_never_gives_more_than_the_ceiling() {
    with_max("5s", |h| {
        let volume = volume(h);
        let pod = Pod::start(h, &volume);
        let (armed, stop) = (Instant::now(), AtomicBool::new(false));
        let volume = std::sync::Mutex::new(volume);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let volume = volume.lock().unwrap();
                while !stop.load(Ordering::Relaxed) {
                    for content in ["1h", "2h30m", "3", "garbage", ""] {
                        volume.update(content).unwrap();
                    }
                }
            });
            assert_eq!(pod.workload.wait_for(PATIENCE).unwrap().status, 124);
            stop.store(true, Ordering::Relaxed);
        });
        pod.ends(armed, 5 * SECOND);
    });
}

#[test]
fn a_workload_that_could_write_the_file_is_refused() {
    with_max("3s", |h| {
        let volume = volume(h);
        volume.update("2s").unwrap();
        let pause = h.start(pause("pause"));
        let refused = |spec: Spec, words: &str| {
            let refused = h.try_create(spec.container_of("pause", pause.pid())).unwrap_err();
            assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
            assert!(
                refused.message.contains("deadline-file") && refused.message.contains(words),
                "{refused}"
            );
        };
        refused(workload(&volume, &[]), "isn't read-only");
        let twice = workload(&volume, &["ro"]).bind(volume.dir(), "/elsewhere", &["rw"]);
        refused(twice, "can write to");
        let reader = h.start(workload(&volume, &["ro"]).container_of("pause", pause.pid()));
        let above = volume.dir().parent().unwrap();
        refused(Spec::sleeper().id("writer").bind(above, "/elsewhere", &["rw"]), "can write to");
        delete([reader, pause]);
    });
}

#[test]
fn a_pod_without_a_mount_of_the_file_runs_until_its_ceiling() {
    with_max("3s", |h| {
        let pod = Pod::start_as(h, "pause", Spec::sleeper().id("workload"));
        assert_eq!(pod.state(), ("waiting".to_owned(), 3.0));
        let since = pod.started;
        pod.ends(since, 3 * SECOND);
        assert!(h.containerd.log().contains("no container has a mount with the deadline file"));
    });
}

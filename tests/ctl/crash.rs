//! What a crash has left: seen, ended and removed without a shim.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use harness::{Harness, Signal, Spec, Task, machine, proc, rpc::poll};
use serde_json::Value;

use crate::pods::{NEVER_ENDS, PATIENCE, WAITS, end, forgotten, on_a_node, one, pod, sandbox, shim_of};

/// Takes shim and watchdog from a pod, of which the shim is stopped first so that it starts no other watchdog.
fn abandon(h: &Harness, pod: &[Task]) {
    let shim = shim_of(h, &pod[0]);
    let all = proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let watchdog = all.iter().find(|p| p.command.ends_with(" watchdog") && p.parent == shim.pid).unwrap();
    shim.signal(Signal::SIGSTOP);
    watchdog.signal(Signal::SIGKILL);
    shim.signal(Signal::SIGKILL);
}

fn sandboxes(h: &Harness) -> usize {
    let all = proc::of_test(h.containerd.namespace(), h.containerd.pid());
    all.iter().filter(|p| p.command.starts_with("runsc-sandbox") && p.is_alive()).count()
}

/// The directory with a sandbox's record.
fn record_of(h: &Harness, sandbox: &str) -> PathBuf {
    let words = format!("\"sandbox\":\"{sandbox}\"");
    let record = |dir: &PathBuf| fs::read_to_string(dir.join("record.json")).unwrap_or_default();
    let dirs = fs::read_dir(h.containerd.state_dir().join("s")).unwrap().flatten();
    dirs.map(|dir| dir.path()).find(|dir| record(dir).contains(&words)).unwrap()
}

/// What looks like a gofer of a sandbox of this node that nobody knows of. It ends with its input.
fn stray_gofer(h: &Harness) -> Child {
    let root = format!("--root={}/s/0123456789abcdef/r", h.containerd.state_dir().display());
    let mut command = Command::new("bash");
    command.args(["-c", "exec -a runsc-gofer sh -c 'read line' \"$0\"", &root]).stdin(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn what_a_crash_has_left_is_found_without_any_shim_and_reaped() {
    on_a_node(|h| {
        let lives = pod(h, 1, "team/lives", WAITS, &[]);
        let lost = pod(h, 2, "team/lost", NEVER_ENDS, &[]);
        // Has even lost the directory by which it could be found, and is in the node's own cgroup.
        let nowhere = vec![
            h.start(Spec::sleeper().id("nowhere").edit(|spec| spec["linux"]["cgroupsPath"] = "".into())),
        ];
        h.containerd.kill9();
        abandon(h, &lost);
        abandon(h, &nowhere);
        let dir = record_of(h, "nowhere");
        fs::remove_dir_all(&dir).unwrap();
        let mut gofer = stray_gofer(h);
        assert_eq!(sandboxes(h), 3);

        let all = h.ctl_json(&["list", "-o", "json"]);
        assert_eq!(one(&all, "team/lost")["state"], "shim-lost");
        assert_eq!(one(&all, "team/lives")["state"], "running");
        assert!(h.ctl(&["show", "lost"]).contains("shim-lost"));
        h.ctl_refuses(&["extend", "lost", "1m"], 1, "team/lost has no shim to be asked: it is shim-lost");

        let bundle = h.containerd.bundle("nowhere").display().to_string();
        let hash = dir.file_name().unwrap().to_str().unwrap().to_owned();
        let strays = ["sandbox ", "runsc-gofer", "runsc-sandbox", &bundle];
        let would = h.ctl(&["reap", "--dry-run"]);
        strays.iter().for_each(|words| assert!(would.contains(words), "{words}: {would}"));
        assert!(would.lines().all(|line| line.starts_with("would end ")), "{would}");
        assert_eq!(sandboxes(h), 3);
        let done = h.ctl(&["reap"]);
        strays.iter().for_each(|words| assert!(done.contains(words), "{words}: {done}"));
        assert!(done.lines().all(|line| line.starts_with("ended ")), "{done}");
        assert!(poll(PATIENCE, || gofer.try_wait().unwrap()).is_some());
        assert!(poll(Duration::from_secs(2), || (sandboxes(h) == 1).then_some(())).is_some());
        // A cgroup is empty once its processes are reaped, and isn't taken for a stray in its first seconds.
        let is_left = || machine::cgroups().iter().any(|path| path.display().to_string().contains(&hash));
        let again = || (h.ctl(&["reap"]).is_empty() && !is_left()).then_some(());
        assert!(poll(PATIENCE, again).is_some(), "{}", h.ctl(&["reap"]));
        assert_eq!(h.ctl_json(&["show", "lives", "-o", "json"])["state"], "running");

        h.containerd.restart();
        forgotten(h, &lost);
        forgotten(h, &nowhere);
        end(&lives);
    });
}

#[test]
fn a_pod_without_its_shim_is_killed_by_name() {
    on_a_node(|h| {
        let lost = pod(h, 1, "team/lost", NEVER_ENDS, &[]);
        h.containerd.kill9();
        abandon(h, &lost);
        assert_eq!(sandboxes(h), 1);
        assert_eq!(h.ctl(&["kill", "lost"]), "team/lost is gone\n");
        assert_eq!(sandboxes(h), 0);
        h.containerd.restart();
        forgotten(h, &lost);
        // Its time isn't up, so another attempt may come.
        assert_eq!(h.ctl_json(&["show", "lost", "-o", "json"])["state"], "gone");
        end(&[h.start(sandbox(1, "team/lost", &[]))]);
    });
}

/// Has a sandbox's record say that its processes have the pid of this one, which is another's as its start shows.
fn give_pids_to(h: &Harness, sandbox: &str, bystander: &Child) {
    fn replace(value: &mut Value, pid: u32) -> usize {
        match value {
            Value::Object(map) if map.contains_key("start_time") => {
                map.insert("pid".into(), pid.into());
                1
            }
            Value::Object(map) => map.values_mut().map(|value| replace(value, pid)).sum(),
            Value::Array(values) => values.iter_mut().map(|value| replace(value, pid)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    let path = record_of(h, sandbox).join("record.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    // The sandbox, and each container's gofer.
    assert!(replace(&mut record, bystander.id()) >= 3, "{record:#}");
    fs::write(path, record.to_string()).unwrap();
}

#[test]
fn whoever_has_the_pid_of_a_lost_process_is_let_alone() {
    on_a_node(|h| {
        let reaped = pod(h, 1, "team/reaped", NEVER_ENDS, &[]);
        let deleted = pod(h, 2, "team/deleted", NEVER_ENDS, &[]);
        let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
        h.containerd.kill9();
        abandon(h, &reaped);
        give_pids_to(h, reaped[0].id(), &bystander);
        assert!(h.ctl(&["reap"]).contains("ended "));
        assert!(poll(Duration::from_secs(2), || (sandboxes(h) == 1).then_some(())).is_some());
        abandon(h, &deleted);
        give_pids_to(h, deleted[0].id(), &bystander);
        h.containerd.restart();
        forgotten(h, &reaped);
        forgotten(h, &deleted);
        assert_eq!(sandboxes(h), 0);
        assert!(bystander.try_wait().unwrap().is_none());
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    });
}

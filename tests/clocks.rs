//! The clocks beside the deadline, more time, and what a pod says of its end.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "a pod's termination log, as kubelet makes it, and curfewctl itself"
)]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use harness::{
    Code, ExecSpec, Harness, Options, Runtime, Spec, Status, Stdio, Task, rpc::poll, with_options,
};
use serde_json::Value;

harness::on_curfew_alone![
    a_pod_that_does_nothing_ends_after_its_idle_time,
    what_a_pod_does_puts_its_end_off,
    a_pod_ends_when_its_cpu_time_is_used_up,
    an_exec_ends_at_its_own_limit_with_all_that_came_from_it,
    the_operators_tool_shows_and_ends_pods,
];

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a002";
const PATIENCE: Duration = Duration::from_secs(20);

fn pod(h: &Harness, annotations: &[(&str, &str)]) -> Task {
    let pause = Spec::sleeper().sandbox("pause").annotation("io.kubernetes.cri.sandbox-uid", UID);
    let pause = pause.annotation("io.kubernetes.cri.sandbox-name", "agent");
    let pause = pause.annotation("io.kubernetes.cri.sandbox-namespace", "team");
    let all = annotations.iter().chain(&[("grace", "0s")]);
    h.start(all.fold(pause, |pause, (key, value)| pause.annotation(&format!("curfew.dev/{key}"), value)))
}

fn end(tasks: [Task; 2]) {
    for task in tasks {
        task.end().unwrap();
    }
}

#[track_caller]
fn is_refused_for(h: &Harness, reason: &str) {
    let another = Spec::sleeper().sandbox("another").annotation("io.kubernetes.cri.sandbox-uid", UID);
    let refused = h.try_create(another).unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
    assert!(refused.message.contains(reason), "{refused}");
}

fn a_pod_that_does_nothing_ends_after_its_idle_time(h: &Harness) {
    let pause = pod(h, &[("idle-timeout", "2s")]);
    let workload = h.start(Spec::sleeper().id("idle").container_of("pause", pause.pid()));
    let since = Instant::now();
    assert_eq!(workload.wait_for(PATIENCE).unwrap().status, 124);
    let took = since.elapsed();
    assert!(took > Duration::from_millis(1900) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(pause.wait_for(PATIENCE).unwrap().status, 124);
    for task in [workload, pause] {
        task.delete().unwrap();
    }
    is_refused_for(h, "IdleTimeout");
}

fn what_a_pod_does_puts_its_end_off(h: &Harness) {
    let pause = pod(h, &[("idle-timeout", "2s")]);
    let busy = Spec::new([
        "sh",
        "-c",
        "trap exit TERM; for i in 1 2 3 4 5 6; do timeout 1 sh -c 'while true; do :; done'; done; sleep 1000",
    ]);
    let workload = h.start(busy.id("busy").container_of("pause", pause.pid()));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(workload.state().unwrap().status, Status::Running);
    // Then an exec that does nothing, and is one.
    std::thread::sleep(Duration::from_secs(1));
    let exec = workload.exec(&ExecSpec::new(["sleep", "1000"])).unwrap();
    exec.start().unwrap();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(workload.state().unwrap().status, Status::Running);
    exec.kill(harness::Signal::SIGKILL).unwrap();
    exec.wait().unwrap();
    exec.delete().unwrap();
    assert_eq!(workload.wait_for(PATIENCE).unwrap().status, 124);
    for task in [workload, pause] {
        task.wait_for(PATIENCE).unwrap();
        task.delete().unwrap();
    }
}

fn a_pod_ends_when_its_cpu_time_is_used_up(h: &Harness) {
    let pause = pod(h, &[("cpu-budget", "2s")]);
    let busy = Spec::new(["sh", "-c", "while true; do :; done"]).id("busy");
    let workload = h.start(busy.container_of("pause", pause.pid()));
    assert_eq!(workload.wait_for(PATIENCE).unwrap().status, 124);
    let (version, usage) = cpu_of(&pause);
    // Two processors for two looks at the most, and what it takes to be gone.
    assert!(usage >= Duration::from_secs(2) && usage < Duration::from_millis(2800), "{usage:?} {version}");
    for task in [workload, pause] {
        task.wait_for(PATIENCE).unwrap();
        task.delete().unwrap();
    }
    is_refused_for(h, "CPUBudgetExceeded");
}

fn cpu_of(task: &Task) -> (String, Duration) {
    use containerd_shim_protos::protobuf::Message;
    use containerd_shim_protos::{cgroups::metrics::Metrics as V1, cgroups_v2::metrics::Metrics as V2};
    let metrics = task.metrics().unwrap();
    let nanos = match metrics.type_url.contains("v2") {
        true => V2::parse_from_bytes(&metrics.value).unwrap().cpu.usage_usec * 1000,
        false => V1::parse_from_bytes(&metrics.value).unwrap().cpu.usage.total,
    };
    (metrics.type_url, Duration::from_nanos(nanos))
}

fn an_exec_ends_at_its_own_limit_with_all_that_came_from_it(h: &Harness) {
    let pause = pod(h, &[("exec-timeout", "1s")]);
    let workload = h.start(Spec::sleeper().id("lives").container_of("pause", pause.pid()));
    let quick = workload.exec(&ExecSpec::new(["true"]).id("quick")).unwrap();
    quick.start().unwrap();
    assert_eq!(quick.wait().unwrap().status, 0);
    quick.delete().unwrap();
    let script = "(while true; do sleep 7777; done) & sh -c 'trap \"\" TERM; sleep 8888; true'; true";
    let endless = workload.exec(&ExecSpec::new(["sh", "-c", script]).id("endless")).unwrap();
    let since = Instant::now();
    endless.start().unwrap();
    assert_eq!(endless.wait_for(PATIENCE).unwrap().status, 124);
    let took = since.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(2), "{took:?}");
    endless.delete().unwrap();
    // Nothing of it is left, and the container is.
    let left = || {
        let list = workload.exec(&ExecSpec::new(["ps", "-o", "args"]).id("list")).unwrap();
        list.start().unwrap();
        list.wait().unwrap();
        let listed = list.stdout();
        list.delete().unwrap();
        listed
    };
    let gone = poll(Duration::from_secs(3), || {
        let listed = left();
        (!listed.contains("7777") && !listed.contains("8888")).then_some(())
    });
    assert!(gone.is_some(), "{}", left());
    assert_eq!(workload.state().unwrap().status, Status::Running);
    end([workload, pause]);
}

#[test]
fn a_pod_says_why_it_ended_unless_its_workload_has_said_something() {
    with_kubelet(|h| {
        let pause = pod(h, &[("timeout", "2s")]);
        let (silent, own) = (h.termination_log(UID, "silent"), h.termination_log(UID, "own"));
        let start = |script: &str, id: &str, log: &Path| {
            let spec = Spec::new(["sh", "-c", script]).id(id).bind(log, "/dev/termination-log", &["rw"]);
            h.start(spec.container_of("pause", pause.pid()))
        };
        let quiet = start("while true; do sleep 0.1; done", "silent", &silent);
        let talking = start("echo -n mine >/dev/termination-log; sleep 1000", "own", &own);
        for task in [&quiet, &talking] {
            assert_eq!(task.wait_for(PATIENCE).unwrap().status, 124);
        }
        // It is there before anybody is told of the end.
        let line = fs::read_to_string(&silent).unwrap();
        assert_eq!(line.lines().count(), 1, "{line}");
        let message: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["reason"], "DeadlineExceeded");
        assert_eq!(message["limit"], "2s");
        assert!(message["elapsed"].as_str().unwrap().starts_with("2."), "{line}");
        assert!(message["cpu_seconds"].as_f64().unwrap() > 0.0, "{line}");
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
        for task in [quiet, talking, pause] {
            task.wait_for(PATIENCE).unwrap();
            task.delete().unwrap();
        }
    });
}

/// Where the pods' directories of kubelet are the test's own.
fn with_kubelet(test: impl FnOnce(&Harness)) {
    let node = "version = 1\n[pod]\nhost_path = \"allow\"\n".into();
    with_options(Runtime::Curfew, Options { node, ..Options::default() }, test);
}

#[test]
fn more_time_is_given_up_to_the_ceiling_and_not_after_the_end() {
    let class = "[timeout]\nmax = \"8s\"\n".into();
    with_options(Runtime::Curfew, Options { class, ..Options::default() }, |h| {
        let pause = pod(h, &[("timeout", "2s")]);
        h.ctl_refuses(&["extend", "agent", "1m"], 1, "no workload of the pod has started");
        let workload = h.start(Spec::sleeper().id("longer").container_of("pause", pause.pid()));
        let since = Instant::now();
        assert_eq!(h.ctl(&["extend", "team/agent", "2s"]), "team/agent has 4s from its beginning\n");
        let all = "team/agent has 8s from its beginning, which is all that its class allows\n";
        assert_eq!(h.ctl(&["extend", UID, "1h"]), all);
        h.ctl_refuses(&["extend", "pause", "1s"], 1, "all the time that its class allows: 8s");
        for rubbish in ["soon", "-1s", "0s", "1e9"] {
            h.ctl_refuses(&["extend", "pause", "--", rubbish], 1, rubbish);
        }
        assert_eq!(workload.wait_for(PATIENCE).unwrap().status, 124);
        let took = since.elapsed();
        assert!(took > Duration::from_secs(7) && took < Duration::from_secs(9), "{took:?}");
        for task in [workload, pause] {
            task.wait_for(PATIENCE).unwrap();
            task.delete().unwrap();
        }
        h.ctl_refuses(&["extend", "agent", "1s"], 1, "has no shim");
        is_refused_for(h, "DeadlineExceeded");
        let remembered = h.ctl(&["list"]);
        assert!(remembered.contains("team/agent") && remembered.contains("expired"), "{remembered}");
    });
}

fn the_operators_tool_shows_and_ends_pods(h: &Harness) {
    let pause = pod(h, &[("timeout", "5m")]);
    let workload = h.start(Spec::sleeper().id("shown").container_of("pause", pause.pid()));
    let alone = h.start(Spec::sleeper().id("plain"));
    let list: Value = serde_json::from_str(&h.ctl(&["list", "-o", "json"])).unwrap();
    let find =
        |name: &str| list.as_array().unwrap().iter().find(|pod| pod["sandbox"] == name).unwrap().clone();
    let shown = find("pause");
    assert_eq!((shown["name"].as_str(), shown["uid"].as_str()), (Some("agent"), Some(UID)));
    assert_eq!((shown["state"].as_str(), shown["limit_seconds"].as_f64()), (Some("running"), Some(300.0)));
    let left = shown["left_seconds"].as_f64().unwrap();
    assert!(left > 200.0 && left < 300.0, "{left}");
    assert_eq!(shown["containers"], serde_json::json!(["pause", "shown"]));
    assert_eq!(find("plain")["state"], "running");
    let shown = h.ctl(&["show", "agent"]);
    assert!(shown.contains("5m0s") && shown.contains("pause shown"), "{shown}");
    h.ctl_refuses(&["show", "nobody"], 1, "nobody");
    assert!(h.ctl(&["kill", "agent"]).contains("is being ended"));
    for task in [workload, pause] {
        assert_eq!(task.wait_for(PATIENCE).unwrap().status, 137);
        task.delete().unwrap();
    }
    // Killed by hand is no reason not to start again.
    let pause = pod(h, &[]);
    pause.end().unwrap();
    alone.end().unwrap();
}

#[test]
fn a_sandbox_in_which_nothing_starts_ends() {
    let class = "[timeout]\nstartup = \"2s\"\ngrace = \"0s\"\n".into();
    with_options(Runtime::Curfew, Options { class, ..Options::default() }, |h| {
        let started = pod(h, &[]);
        let workload = h.start(Spec::sleeper().id("starts").container_of("pause", started.pid()));
        let waiting = h.start(Spec::sleeper().sandbox("waits").stdio(Stdio::default()));
        assert_eq!(waiting.wait_for(PATIENCE).unwrap().status, 124);
        waiting.delete().unwrap();
        assert_eq!(workload.state().unwrap().status, Status::Running);
        end([workload, started]);
    });
}

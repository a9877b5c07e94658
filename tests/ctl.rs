//! `curfewctl` on a node with ten pods, five of which have expired, each for another reason; and on what a crash has left.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files and processes")]

#[path = "ctl/crash.rs"]
mod crash;
#[path = "ctl/pods.rs"]
mod pods;

use std::fs;

use harness::{Harness, Signal, rpc::poll};

use pods::{
    NEVER_ENDS, PATIENCE, WAITS, delete, end, ended, forgotten, on_a_node, one, pod, sandbox, shim_of, uid,
};

fn five_that_expire(h: &Harness) {
    let late = pod(h, 1, "team/late", NEVER_ENDS, &[("timeout", "2s")]);
    let idle = pod(h, 2, "team/idle", WAITS, &[("idle-timeout", "2s")]);
    let spender = pod(h, 3, "team/spender", NEVER_ENDS, &[("cpu-budget", "1s")]);
    // This one's deadline comes when it has lost its shim, and with that its sandbox, already.
    let lost = pod(h, 4, "team/lost", WAITS, &[("timeout", "4s")]);
    shim_of(h, &lost[0]).signal(Signal::SIGKILL);
    // The startup limit is a class's own.
    let class = fs::read_to_string(h.containerd.class_file()).unwrap();
    let hasty = class.replace("[timeout]\n", "[timeout]\nstartup = \"2s\"\n");
    assert_ne!(class, hasty);
    fs::write(h.containerd.class_file(), hasty).unwrap();
    let empty = vec![h.start(sandbox(5, "team/empty", &[]))];
    for pod in [late, idle, spender, empty] {
        ended(&pod, 124);
        delete(&pod);
    }
    fs::write(h.containerd.class_file(), class).unwrap();
    forgotten(h, &lost);
    let is_over = || (h.ctl_json(&["show", "lost", "-o", "json"])["state"] == "expired").then_some(());
    assert!(poll(PATIENCE, is_over).is_some());
}

#[test]
fn ten_pods_are_listed_with_what_became_of_them() {
    on_a_node(|h| {
        five_that_expire(h);
        let running = pod(h, 6, "team/agent", WAITS, &[("timeout", "5m")]);
        let longer = pod(h, 7, "team/longer", WAITS, &[("timeout", "2m")]);
        let waiting = vec![h.start(sandbox(8, "team/waiting", &[]))];
        let paused = sandbox(9, "team/paused", &[("timeout", "1m")]).edit(|spec| {
            // A container that may have siblings cannot be paused.
            let type_and_id = ["io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"];
            spec["annotations"]
                .as_object_mut()
                .unwrap()
                .retain(|key, _| !type_and_id.contains(&key.as_str()));
        });
        let paused = vec![h.start(paused)];
        paused[0].pause().unwrap();
        let namesake = pod(h, 0, "other/agent", WAITS, &[]);

        extend(h);
        list(h);
        names(h);
        assert_eq!(h.ctl(&["kill", "other/agent"]), "other/agent is being ended\n");
        ended(&namesake, 137);
        delete(&namesake);
        h.ctl_refuses(&["kill", "other/agent"], 1, "other/agent has no sandbox: it is gone");
        assert_eq!(h.ctl_json(&["show", "other/agent", "-o", "json"])["state"], "gone");
        assert_eq!(h.ctl(&["kill", "team/paused"]), "team/paused is being ended\n");
        ended(&paused, 137);
        delete(&paused);
        for tasks in [running, longer, waiting] {
            end(&tasks);
        }
    });
}

fn extend(h: &Harness) {
    assert_eq!(h.ctl(&["extend", "longer", "1m"]), "team/longer has 3m0s from its beginning\n");
    let all = "team/longer has 10m0s from its beginning, which is all that its class allows\n";
    assert_eq!(h.ctl(&["extend", "team/longer", "100h"]), all);
    h.ctl_refuses(&["extend", "longer", "1s"], 1, "all the time that its class allows: 10m0s");
    h.ctl_refuses(&["extend", "late", "1m"], 1, "team/late has no shim to be asked: it is expired");
    h.ctl_refuses(&["extend", "waiting", "1m"], 1, "no workload of the pod has started");
    for rubbish in ["soon", "-5m", "0s", "1e9", "", "1m\n2m", "99999999999999999999h"] {
        h.ctl_refuses(&["extend", "longer", "--", rubbish], 1, &format!("{rubbish:?}"));
    }
    for nonsense in [&["extend", "longer"][..], &["extend"], &["extend", "a", "1m", "2m"], &[]] {
        h.ctl_refuses(nonsense, 2, "sage:");
    }
    h.ctl_refuses(&["list", "-o", "xml"], 2, "xml");
}

#[test]
fn nothing_extends_a_pod_in_its_grace() {
    on_a_node(|h| {
        let late = pod(h, 1, "team/late", NEVER_ENDS, &[("timeout", "1s"), ("grace", "30s")]);
        let is_over = || (h.ctl_json(&["show", "late", "-o", "json"])["state"] == "ending").then_some(());
        assert!(poll(PATIENCE, is_over).is_some());
        h.ctl_refuses(&["extend", "late", "1m"], 1, "1s");
        assert_eq!(h.ctl_json(&["show", "late", "-o", "json"])["limit_seconds"], 1.0);
        assert!(shim_of(h, &late[0]).is_alive());
        assert_eq!(h.ctl(&["kill", "late"]), "team/late is being ended\n");
        ended(&late, 124);
        delete(&late);
    });
}

fn list(h: &Harness) {
    let all = h.ctl_json(&["list", "-o", "json"]);
    assert_eq!(all.as_array().unwrap().len(), 10, "{all:#}");
    for (title, reason, had_a_sandbox) in [
        ("team/late", "DeadlineExceeded", true),
        ("team/idle", "IdleTimeout", true),
        ("team/spender", "CPUBudgetExceeded", true),
        ("team/lost", "DeadlineExceeded", false),
        ("team/empty", "StartupTimeout", true),
    ] {
        let pod = one(&all, title);
        assert_eq!(pod["state"], "expired", "{pod:#}");
        assert!(pod["ended"].as_str().unwrap().starts_with(reason), "{pod:#}");
        match pod["ended_by"].as_str() {
            Some("process" | "cgroup") => assert!(had_a_sandbox, "{pod:#}"),
            None => assert!(!had_a_sandbox, "{pod:#}"),
            Some(_) => panic!("{pod:#}"),
        }
    }
    for (title, state, limit) in [
        ("team/agent", "running", Some(300.0)),
        ("team/longer", "running", Some(600.0)),
        ("team/waiting", "waiting", None),
        ("team/paused", "running", Some(60.0)),
        ("other/agent", "running", Some(600.0)),
    ] {
        let pod = one(&all, title);
        assert_eq!((pod["state"].as_str(), pod["limit_seconds"].as_f64()), (Some(state), limit), "{pod:#}");
        let left = pod["left_seconds"].as_f64();
        assert!(left.is_some() == limit.is_some() && left <= limit, "{pod:#}");
    }
    let table = h.ctl(&["list"]);
    assert_eq!(table.lines().count(), 11, "{table}");
    let row = table.lines().find(|line| line.starts_with("team/late ")).unwrap();
    assert!(row.contains("expired") && row.contains("DeadlineExceeded at 2"), "{row}");
}

/// Every way to say which pod is meant.
fn names(h: &Harness) {
    for name in ["team/agent", &uid(6), &uid(6)[..8], "6b0e4d91c", "6b0e4d"] {
        let pod = h.ctl_json(&["show", name, "-o", "json"]);
        assert_eq!(
            (pod["uid"].as_str(), pod["sandbox"].as_str()),
            (Some(&*uid(6)), Some("6b0e4d91c")),
            "{name}"
        );
        assert_eq!(pod["containers"], serde_json::json!(["6b0e4d91c", "work6"]));
    }
    let text = h.ctl(&["show", "late"]);
    let all = ["team/late", &uid(1), "1b0e4d91c", "expired", "DeadlineExceeded at 2"];
    all.iter().for_each(|words| assert!(text.contains(words), "{words}: {text}"));
    h.ctl_refuses(&["show", "agent"], 1, "\"agent\" means 2 pods");
    for nobody in ["nobody", "late/team", "team/", "/late", "6b0e4", ""] {
        h.ctl_refuses(&["show", nobody], 1, &format!("{nobody:?}"));
        h.ctl_refuses(&["kill", nobody], 1, &format!("{nobody:?}"));
    }
}

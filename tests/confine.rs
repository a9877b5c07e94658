//! What a pod asks for and doesn't get: on the host, in runsc's words, and inside the sandbox.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use harness::{Code, ExecSpec, Harness, Spec, Status, Task, cgroup};
use serde_json::{Value, json};

harness::on_curfew_alone![
    no_harmful_annotation_changes_runscs_words_or_the_spec,
    capabilities_above_the_ceiling_are_not_there_in_init_or_exec,
    a_profile_filters_init_and_execs,
    privileges_are_not_gained_where_the_pod_says_so,
    a_sandbox_that_asks_for_nothing_has_the_nodes_limits,
    a_fork_bomb_meets_its_limit_and_the_sandbox_lives,
    a_fork_bomb_of_many_users_meets_its_limit_in_a_pod,
    containers_that_end_at_once_start_all_the_same,
    what_is_mounted_read_only_with_all_below_it_cannot_be_written,
    hooks_host_namespaces_devices_and_sockets_are_refused_and_nothing_is_left,
];

/// What runsc was asked, and the spec it was given, of the only sandbox.
fn asked(h: &Harness, task: &Task) -> (Vec<String>, Value) {
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let mut words: Vec<String> = all
        .iter()
        .filter(|process| process.command.starts_with("runsc-"))
        .flat_map(|process| process.command.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    words.sort();
    let spec = fs::read(h.containerd.bundle(task.id()).join("config.json")).unwrap();
    (words, serde_json::from_slice(&spec).unwrap())
}

fn no_harmful_annotation_changes_runscs_words_or_the_spec(h: &Harness) {
    let start = |spec: Spec| {
        let task = h.start(spec.id("same"));
        let asked = asked(h, &task);
        task.end().unwrap();
        asked
    };
    let before = start(Spec::sleeper());
    let mut count = 0;
    for line in include_str!("harmful-annotations.txt").lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split('\t').next().unwrap().split_once('=').unwrap();
        assert_eq!(start(Spec::sleeper().annotation(key, value)), before, "{key}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}

/// The lines of `/proc/self/status` in the container's own program, and in an exec.
fn statuses(h: &Harness, spec: impl FnOnce(Spec) -> Spec) -> [BTreeMap<String, String>; 2] {
    let task = h.start(spec(Spec::new(["sh", "-c", "cat /proc/self/status; echo end; exec sleep 1000"])));
    task.wait_for_output("end\n");
    let exec = task.exec(&ExecSpec::new(["cat", "/proc/self/status"]).edit(|_| {})).unwrap();
    exec.start().unwrap();
    assert_eq!(exec.wait().unwrap().status, 0);
    let read = |text: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
    };
    let both = [read(&task.stdout_so_far()), read(&exec.stdout())];
    exec.delete().unwrap();
    task.end().unwrap();
    both
}

fn capabilities_above_the_ceiling_are_not_there_in_init_or_exec(h: &Harness) {
    let names = json!(["CAP_KILL", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_CHOWN"]);
    for status in statuses(h, |spec| {
        spec.edit(|json| {
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                json["process"]["capabilities"][set] = names.clone();
            }
        })
    }) {
        for (set, bits) in
            [("CapBnd", 0x21), ("CapEff", 0x21), ("CapPrm", 0x21), ("CapInh", 0), ("CapAmb", 0)]
        {
            if let Some(value) = status.get(set) {
                assert_eq!(u64::from_str_radix(value, 16), Ok(bits), "{set}");
            }
        }
        assert!(status.contains_key("CapBnd"), "{status:?}");
    }
}

fn a_profile_filters_init_and_execs(h: &Harness) {
    let seccomp = |status: &BTreeMap<String, String>| status["Seccomp"].clone();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }],
    });
    for status in statuses(h, |spec| spec.edit(|json| json["linux"]["seccomp"] = profile.clone())) {
        assert_eq!(seccomp(&status), "2");
    }
    for status in statuses(h, |spec| spec.edit(|json| json["linux"]["seccomp"] = Value::Null)) {
        assert_eq!(seccomp(&status), "0");
    }
    // And it does what it says.
    let script = "mkdir /tmp/x 2>&1; exec sleep 1000";
    let spec = Spec::new(["sh", "-c", script]).edit(|json| json["linux"]["seccomp"] = profile.clone());
    let task = h.start(spec);
    task.wait_for_output("not permitted");
    task.end().unwrap();
}

fn privileges_are_not_gained_where_the_pod_says_so(h: &Harness) {
    for (set, expected) in [(true, "1"), (false, "0")] {
        for status in statuses(h, |spec| spec.edit(|json| json["process"]["noNewPrivileges"] = json!(set))) {
            assert_eq!(status["NoNewPrivs"], expected);
        }
    }
}

/// The directory of a controller's file in the sandbox's cgroup.
fn cgroup_with(h: &Harness, id: &str, file: &str) -> PathBuf {
    let own = cgroup::path(h.containerd.namespace(), id);
    let mut all = harness::machine::cgroups().into_iter();
    all.find(|dir| dir.ends_with(&own) && dir.join(file).exists()).unwrap_or_else(|| panic!("no {file}"))
}

fn limit(h: &Harness, id: &str, v1: &str, v2: &str) -> String {
    let file = if cgroup::is_v2() { v2 } else { v1 };
    fs::read_to_string(cgroup_with(h, id, file).join(file)).unwrap().trim().to_owned()
}

fn a_sandbox_that_asks_for_nothing_has_the_nodes_limits(h: &Harness) {
    let nothing = |spec: Spec| spec.edit(|json| json["linux"]["resources"] = Value::Null);
    let task = h.start(nothing(Spec::sleeper()));
    assert_eq!(limit(h, task.id(), "memory.limit_in_bytes", "memory.max"), (2_u64 << 30).to_string());
    assert!(
        ["200000", "200000 100000"].contains(&limit(h, task.id(), "cpu.cfs_quota_us", "cpu.max").as_str())
    );
    task.end().unwrap();
    let task = h.start(Spec::sleeper().memory(1 << 40));
    assert_eq!(limit(h, task.id(), "memory.limit_in_bytes", "memory.max"), (2_u64 << 30).to_string());
    task.end().unwrap();
}

fn hooks_host_namespaces_devices_and_sockets_are_refused_and_nothing_is_left(h: &Harness) {
    let socket = h.containerd.socket();
    let hook = json!([{ "path": "/bin/touch", "args": ["touch", h.containerd.dir().join("temp/hooked")] }]);
    let without = |kind: &str, json: &mut Value| {
        json["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != kind);
    };
    type Edit<'a> = Box<dyn Fn(&mut Value) + 'a>;
    let edits: [(&str, Edit<'_>); 6] = [
        ("pod.hooks", Box::new(|json| json["hooks"]["createRuntime"] = hook.clone())),
        ("pod.host_network", Box::new(|json| without("network", json))),
        ("pod.host_namespaces", Box::new(|json| without("pid", json))),
        (
            "/dev/sda",
            Box::new(|json| json["linux"]["devices"] = json!([{ "path": "/dev/sda", "type": "b" }])),
        ),
        ("neither a file", Box::new(|json| bind(json, &socket.display().to_string()))),
        ("shows", Box::new(|json| bind(json, &h.containerd.state_dir().display().to_string()))),
    ];
    for (words, edit) in edits {
        let error = h.try_create(Spec::sleeper().edit(|json| edit(json))).unwrap_err();
        assert_eq!(error.code, Code::FailedPrecondition, "{error}");
        assert!(error.message.contains(words), "{words}: {error}");
    }
    assert!(!h.containerd.dir().join("temp/hooked").exists());
}

fn bind(json: &mut Value, source: &str) {
    let mount = json!({ "destination": "/m", "type": "bind", "source": source, "options": ["rbind"] });
    json["mounts"].as_array_mut().unwrap().push(mount);
}

/// Forks until it cannot, under one user or under many, and says how many there were.
const BOMB: &str = "i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done";
const BOMB_OF_USERS: &str = "
import os, time
try:
    for i in range(300):
        if os.fork() == 0:
            os.setuid(1000 + i)
            time.sleep(1000)
except BlockingIOError:
    print(\"can't fork\", flush=True)
time.sleep(1000)
";

fn meets_its_limit(task: &Task, at_most: usize) {
    task.wait_for_output("can't fork");
    let pids = task.pids().unwrap().len();
    assert!(pids <= at_most, "{pids}");
    assert_eq!(task.state().unwrap().status, Status::Running);
}

fn a_fork_bomb_meets_its_limit_and_the_sandbox_lives(h: &Harness) {
    let spec = |asked: u64| {
        let script = format!("({BOMB}) 2>&1; exec sleep 1000");
        Spec::new(["sh", "-c", &script])
            .edit(|json| json["linux"]["resources"]["pids"]["limit"] = json!(asked))
    };
    // By the spec and by the annotation, the smaller of which holds.
    for spec in [spec(64), spec(400).annotation("curfew.dev/pids", "64")] {
        let task = h.start(spec);
        meets_its_limit(&task, 64);
        task.end().unwrap();
    }
}

fn a_fork_bomb_of_many_users_meets_its_limit_in_a_pod(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let bomb = Spec::new(["python3", "-c", BOMB_OF_USERS]).image("python").id("bomb");
    let bomb = h.start(
        bomb.edit(|json| json["linux"]["resources"]["pids"]["limit"] = json!(64))
            .container_of("pause", pause.pid()),
    );
    meets_its_limit(&bomb, 64);
    // Its sibling forks on.
    let output =
        h.run(Spec::new(["sh", "-c", "(true); (true); echo lives"]).container_of("pause", pause.pid()));
    assert_eq!(output.stdout, "lives\n");
    bomb.end().unwrap();
    pause.end().unwrap();
}

fn containers_that_end_at_once_start_all_the_same(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    for _ in 0..10 {
        assert_eq!(h.run(Spec::new(["true"])).exit.status, 0);
        assert_eq!(h.run(Spec::new(["true"]).container_of("pause", pause.pid())).exit.status, 0);
    }
    pause.end().unwrap();
}

fn what_is_mounted_read_only_with_all_below_it_cannot_be_written(h: &Harness) {
    let dir = h.containerd.dir().join("own");
    fs::create_dir(&dir).unwrap();
    let output = h.run(Spec::new(["touch", "/own/file"]).bind(&dir, "/own", &["rro"]));
    assert_ne!(output.exit.status, 0, "{}", output.stderr);
    assert_eq!(dir.read_dir().unwrap().count(), 0);
}

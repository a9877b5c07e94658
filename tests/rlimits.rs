//! Resource limits inside: a container's programs and its execs have the same, and no more than its spec says.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use harness::{Code, ExecSpec, Harness, Spec, Task};
use serde_json::json;

harness::on_curfew_alone![
    init_and_execs_of_every_container_of_a_pod_have_the_same_limits,
    a_container_without_a_pod_has_what_its_spec_names,
    a_limit_that_a_program_sets_for_itself_survives_an_exec,
    a_new_container_starts_with_its_own_limits_whatever_others_set,
    limits_that_are_none_are_refused,
];

/// A program that says what it has when it starts, and stays.
fn teller() -> Spec {
    Spec::new(["sh", "-c", "ulimit -Sa; ulimit -Ha; echo end; exec sleep 1000"])
}

fn limited(spec: Spec, kind: &str, soft: u64, hard: u64) -> Spec {
    let limit = json!({ "type": kind, "soft": soft, "hard": hard });
    spec.edit(|json| {
        let process = &mut json["process"];
        if !process["rlimits"].is_array() {
            process["rlimits"] = json!([]);
        }
        process["rlimits"].as_array_mut().unwrap().push(limit);
    })
}

fn of_init(task: &Task) -> String {
    task.wait_for_output("end\n");
    task.stdout_so_far().replace("end\n", "")
}

fn in_exec(task: &Task, script: &str) -> String {
    let exec = task.exec(&ExecSpec::new(["sh", "-c", script])).unwrap();
    exec.start().unwrap();
    assert_eq!(exec.wait().unwrap().status, 0);
    let output = exec.stdout();
    exec.delete().unwrap();
    output
}

fn all_in_exec(task: &Task) -> String {
    in_exec(task, "ulimit -Sa; ulimit -Ha")
}

/// What the program with pid 1 has of files, soft and hard.
fn files_of_init(task: &Task) -> (u64, u64) {
    let text = in_exec(task, "cat /proc/1/limits");
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut fields = line.split_ascii_whitespace().map(|field| field.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}

fn files_in_exec(task: &Task) -> (u64, u64) {
    let text = in_exec(task, "ulimit -Sn; ulimit -Hn");
    let mut lines = text.lines().map(|line| line.parse().unwrap());
    (lines.next().unwrap(), lines.next().unwrap())
}

fn init_and_execs_of_every_container_of_a_pod_have_the_same_limits(h: &Harness) {
    // As CRI has it: the sandbox's spec names none, the containers' specs may.
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let files = |soft, hard| limited(teller(), "RLIMIT_NOFILE", soft, hard);
    let first = h.start(
        limited(files(1001, 2001), "RLIMIT_CORE", 512, 1024).container_of("pause", pause.pid()).id("first"),
    );
    assert_eq!(of_init(&first), all_in_exec(&first));
    assert_eq!((files_of_init(&first), files_in_exec(&first)), ((1001, 2001), (1001, 2001)));

    // One that asks for more gets what the pod has; one that asks for less takes it from all.
    let second = h.start(files(1002, 2002).container_of("pause", pause.pid()).id("second"));
    assert_eq!(of_init(&second), all_in_exec(&second));
    assert_eq!(of_init(&second), all_in_exec(&first));
    assert_eq!(files_in_exec(&second), (1001, 2001));
    let third = h.start(files(500, 600).container_of("pause", pause.pid()).id("third"));
    for task in [&first, &second, &third, &pause] {
        assert_eq!(of_init(&third), all_in_exec(task), "{}", task.id());
        assert_eq!((files_of_init(task), files_in_exec(task)), ((500, 600), (500, 600)), "{}", task.id());
    }
    for task in [third, second, first, pause] {
        task.end().unwrap();
    }
}

fn a_container_without_a_pod_has_what_its_spec_names(h: &Harness) {
    let task =
        h.start(limited(limited(teller(), "RLIMIT_NOFILE", 700, 800), "RLIMIT_STACK", 1 << 20, 1 << 21));
    assert_eq!(of_init(&task), all_in_exec(&task));
    assert_eq!(files_of_init(&task), (700, 800));
    task.end().unwrap();
}

fn a_limit_that_a_program_sets_for_itself_survives_an_exec(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let spec = Spec::new(["sh", "-c", "ulimit -Sn 900; echo set; exec sleep 1000"]);
    let task = h.start(limited(spec, "RLIMIT_NOFILE", 100, 1000).container_of("pause", pause.pid()));
    task.wait_for_output("set\n");
    for _ in 0..2 {
        assert_eq!(files_of_init(&task), (900, 1000));
    }
    task.end().unwrap();
    pause.end().unwrap();
}

fn a_new_container_starts_with_its_own_limits_whatever_others_set(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let of_pod = |spec: Spec| limited(spec, "RLIMIT_NOFILE", 100, 1000).container_of("pause", pause.pid());
    let lowers = "ulimit -n 50; ulimit -c 0; ulimit -t 9999";
    assert_eq!(h.run(of_pod(Spec::new(["sh", "-c", lowers]))).exit.status, 0);
    let task = h.start(of_pod(teller()));
    assert_eq!(of_init(&task), all_in_exec(&task));
    assert_eq!(files_in_exec(&task), (100, 1000));
    assert_eq!(in_exec(&task, "ulimit -c; ulimit -t"), "unlimited\nunlimited\n");
    task.end().unwrap();
    pause.end().unwrap();
}

fn limits_that_are_none_are_refused(h: &Harness) {
    let twice = limited(limited(Spec::sleeper(), "RLIMIT_NOFILE", 5, 5), "RLIMIT_NOFILE", 5, 5);
    for spec in [
        limited(Spec::sleeper(), "RLIMIT_NOFILE", 6, 5),
        limited(Spec::sleeper(), "RLIMIT_FILES", 5, 5),
        twice,
        Spec::sleeper().edit(|json| json["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE" }])),
    ] {
        let error = h.try_create(spec).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
        assert!(error.message.contains("process.rlimits"), "{error}");
    }
}

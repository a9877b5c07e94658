//! Paths that a spec wants masked: nothing is seen there, and nothing can be put there.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files")]

use std::fs;
use std::os::unix::fs::MetadataExt;

use harness::{ExecSpec, Harness, Spec, Task};
use serde_json::{Value, json};

harness::on_curfew_alone![
    what_a_sandbox_has_of_its_own_can_be_masked,
    what_an_image_has_can_be_masked_and_what_it_lacks_is_not_made,
    containers_of_a_pod_are_masked_each_by_its_own_spec,
    who_asks_for_no_mask_sees_everything,
];

fn masked(spec: Spec, paths: &[&str]) -> Spec {
    spec.edit(|json| json["linux"]["maskedPaths"] = json!(paths))
}

fn in_exec(task: &Task, script: &str) -> String {
    let exec = task.exec(&ExecSpec::new(["sh", "-c", script])).unwrap();
    exec.start().unwrap();
    exec.wait().unwrap();
    let output = format!("{}{}", exec.stdout(), exec.stderr());
    exec.delete().unwrap();
    output
}

/// What is to be seen of a path and can be done there: all of a file, or what is in a directory, and two tries to write.
fn seen(task: &Task, path: &str) -> String {
    let script = format!(
        "if [ -d {path} ]; then ls -A {path}; touch {path}/x && echo written
         elif [ -e {path} ]; then cat {path}; echo x >{path} && echo written
         else echo missing; fi 2>/dev/null"
    );
    in_exec(task, &script)
}

fn end(task: Task) {
    task.end().unwrap();
}

fn what_a_sandbox_has_of_its_own_can_be_masked(h: &Harness) {
    let known = include_str!("../shim/src/confine/masks/sandbox.txt").lines();
    let known: Vec<&str> = known.filter(|line| line.starts_with('/')).collect();
    assert!(known.len() > 20);
    // There without a mask, and of the kind that the list says.
    let task = h.start(masked(Spec::sleeper(), &[]));
    for path in &known {
        let kind = if path.ends_with('/') { "-d" } else { "-f" };
        assert_eq!(in_exec(&task, &format!("test {kind} {path} && echo yes")), "yes\n", "{path}");
    }
    assert_ne!(seen(&task, "/proc/cpuinfo"), "");
    end(task);
    // What Kubernetes names, most of which no sandbox has, and what a sandbox has.
    let mut paths = vec![
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/self/environ",
        "/sys/devices/virtual/powercap",
    ];
    for missing in &paths {
        assert!(!known.contains(missing));
    }
    paths.extend(&known);
    let task = h.start(masked(Spec::sleeper(), &paths));
    let nothing = |path: &&str| {
        let seen = seen(&task, path);
        assert!(seen.is_empty() || seen == "missing\n", "{path}: {seen}");
    };
    known.iter().for_each(nothing);
    for path in ["/proc/cpuinfo", "/proc/irq", "/proc/sys", "/sys/firmware", "/sys/class"] {
        assert_eq!(seen(&task, path), "", "{path}");
    }
    for path in ["/proc/kcore", "/proc/acpi", "/sys/devices/virtual"] {
        assert_eq!(seen(&task, path), "missing\n", "{path}");
    }
    // What isn't masked is as it was.
    assert!(in_exec(&task, "cat /proc/self/status").contains("Seccomp"));
    end(task);
}

fn what_an_image_has_can_be_masked_and_what_it_lacks_is_not_made(h: &Harness) {
    let paths = ["/etc/passwd", "/lib64", "/nowhere", "/etc/nothing", "/dev/shm"];
    for readonly in [false, true] {
        let spec = Spec::sleeper().edit(|json| json["root"]["readonly"] = json!(readonly));
        // The second is seen through a link of the image.
        let task = h.start(masked(spec, &paths));
        for path in ["/etc/passwd", "/usr/lib64", "/lib64", "/dev/shm"] {
            assert_eq!(seen(&task, path), "", "{path}");
        }
        for path in ["/nowhere", "/etc/nothing"] {
            assert_eq!(seen(&task, path), "missing\n", "{path}");
        }
        end(task);
    }
    let empty = h.containerd.state_dir().join("shared/empty");
    let found = fs::metadata(empty).unwrap();
    assert_eq!((found.len(), found.mode() & 0o777, found.uid()), (0, 0o444, 0));
}

fn containers_of_a_pod_are_masked_each_by_its_own_spec(h: &Harness) {
    let pause = h.start(masked(Spec::sleeper().sandbox("pause"), &["/proc/cpuinfo"]));
    let start = |paths: &[&str]| h.start(masked(Spec::sleeper(), paths).container_of("pause", pause.pid()));
    let first = start(&["/proc/meminfo", "/etc/passwd"]);
    let second = start(&["/proc/cpuinfo"]);
    for (task, hidden, shown) in [
        (&pause, "/proc/cpuinfo", "/proc/meminfo"),
        (&first, "/proc/meminfo", "/proc/cpuinfo"),
        (&first, "/etc/passwd", "/proc/cpuinfo"),
        (&second, "/proc/cpuinfo", "/etc/passwd"),
    ] {
        assert_eq!(seen(task, hidden), "", "{} {hidden}", task.id());
        assert_ne!(seen(task, shown), "", "{} {shown}", task.id());
    }
    for task in [second, first, pause] {
        end(task);
    }
}

fn who_asks_for_no_mask_sees_everything(h: &Harness) {
    for none in [Value::Null, json!([])] {
        let task = h.start(Spec::sleeper().edit(|json| json["linux"]["maskedPaths"] = none.clone()));
        let mounts = in_exec(&task, "cat /proc/mounts");
        assert!(!mounts.contains("/sys/firmware") && !mounts.contains("size=0k"), "{mounts}");
        assert_ne!(seen(&task, "/proc/cpuinfo"), "");
        end(task);
    }
}

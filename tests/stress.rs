//! Many at once: nothing is left, and the last is as the first.
#![allow(clippy::print_stderr, reason = "figures for whoever reads the log")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Instant,
};

use harness::{ExecSpec, Harness, Spec, Task, shim::Shim};

harness::on_curfew_alone![
    a_hundred_rounds_ten_at_a_time_leave_nothing,
    two_hundred_rounds_with_execs_twenty_at_a_time_leave_nothing,
    two_thousand_execs_leave_the_shim_as_it_was,
    a_crash_of_containerd_under_ten_busy_containers_loses_nothing,
];

fn end(task: &Task) {
    assert_eq!(task.end().unwrap().status, 137);
}

fn plain(h: &Harness, n: u32) {
    let task = h.create(Spec::sleeper().id(format!("plain{n}")));
    task.start().unwrap();
    end(&task);
}

fn pod_of_two(h: &Harness, n: u32) {
    let sandbox = format!("pod{n}");
    let pause = h.start(Spec::sleeper().sandbox(&sandbox));
    let workload = h.create(Spec::sleeper().id(format!("workload{n}")).container_of(&sandbox, pause.pid()));
    workload.start().unwrap();
    end(&workload);
    end(&pause);
}

/// Does `round` for each number below `rounds`, so many `at_a_time`.
fn rounds(h: &Harness, rounds: u32, at_a_time: u32, round: impl Fn(u32) + Sync) {
    // The images are imported once, not by all at a time.
    h.run(Spec::new(["true"]));
    let (next, since) = (AtomicU32::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= rounds {
                        return;
                    }
                    round(n);
                }
            });
        }
    });
    eprintln!("{rounds} rounds, {at_a_time} at a time: {:?}", since.elapsed());
}

fn a_hundred_rounds_ten_at_a_time_leave_nothing(h: &Harness) {
    rounds(h, 100, 10, |n| if n % 2 == 0 { plain(h, n) } else { pod_of_two(h, n) });
}

fn exec(task: &Task, n: u32) {
    let exec = task.exec(&ExecSpec::new(["echo", "hello"]).id(format!("e{n}"))).unwrap();
    exec.start().unwrap();
    assert_eq!(exec.wait().unwrap().status, 0);
    assert_eq!(exec.stdout(), "hello\n");
    exec.delete().unwrap();
}

fn two_hundred_rounds_with_execs_twenty_at_a_time_leave_nothing(h: &Harness) {
    rounds(h, 200, 20, |n| {
        let task = h.start(Spec::sleeper().id(format!("c{n}x")));
        exec(&task, 0);
        end(&task);
    });
}

/// The shim's resident memory in KiB, and how many descriptors it has open.
fn footprint(h: &Harness, id: &str) -> (u64, usize) {
    let pid = Shim::of(&h.containerd, id).unwrap().pid(id).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let resident = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (resident, std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count())
}

fn two_thousand_execs_leave_the_shim_as_it_was(h: &Harness) {
    let task = h.start(Spec::sleeper());
    (0..100).for_each(|n| exec(&task, n));
    let (resident, descriptors) = footprint(h, task.id());
    let since = Instant::now();
    (100..2000).for_each(|n| exec(&task, n));
    eprintln!("1900 execs one after the other: {:?}", since.elapsed());
    let (resident_after, descriptors_after) = footprint(h, task.id());
    assert!(resident_after <= resident + 256, "{resident} KiB became {resident_after}");
    assert!(descriptors_after <= descriptors + 2, "{descriptors} descriptors became {descriptors_after}");
    end(&task);
}

const LINES: usize = 3000;

fn a_crash_of_containerd_under_ten_busy_containers_loses_nothing(h: &Harness) {
    let wait = |file: &str| format!("while ! test -e /tmp/{file}; do sleep 0.1; done");
    // It talks all the time that containerd is down, and after.
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; [ $((i % 100)) = 0 ] && sleep 0.1; done; {}; exit 5",
        wait("go")
    );
    let tasks: Vec<Task> =
        (0..10).map(|n| h.start(Spec::new(["sh", "-c", &script]).id(format!("busy{n}")))).collect();
    let in_each =
        ExecSpec::new(["sh", "-c", &format!("echo up; {}; echo done; exit 6", wait("exec"))]).id("e");
    let execs: Vec<_> = tasks.iter().map(|task| task.exec(&in_each).unwrap()).collect();
    for exec in &execs {
        exec.start().unwrap();
    }
    for task in &tasks {
        task.wait_for_output("line 1\n");
        assert!(!task.stdout_so_far().contains(&format!("line {LINES}\n")), "it has said all already");
    }
    h.containerd.kill9();
    h.containerd.restart();
    let touch = |task: &Task, file: &str| {
        let touch = task.exec(&ExecSpec::new(["touch", &format!("/tmp/{file}")]).id(file)).unwrap();
        touch.start().unwrap();
        assert_eq!(touch.wait().unwrap().status, 0);
        touch.delete().unwrap();
    };
    for (task, running) in tasks.iter().zip(&execs) {
        exec(task, 1);
        touch(task, "exec");
        let exit = running.wait().unwrap();
        assert_eq!((exit.status, exit.at.is_some()), (6, true));
        assert_eq!(running.stdout(), "up\ndone\n");
        running.delete().unwrap();
        touch(task, "go");
    }
    for task in &tasks {
        let exit = task.wait().unwrap();
        assert_eq!(exit.status, 5);
        assert!(exit.at.is_some());
        let expected: String = (1..=LINES).map(|n| format!("line {n}\n")).collect();
        assert!(task.stdout() == expected);
    }
    for task in &tasks {
        task.delete().unwrap();
    }
}

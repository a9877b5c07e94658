//! containerd goes and comes back; shims and tasks don't notice.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::Duration;

use harness::{Code, Container, ExecSpec, Exit, Harness, Signal, Spec, Status, Stdio, Task, stdio::Streams};

harness::on_every_containerd! {
    both: [
        a_task_outlives_a_restart_of_containerd,
        a_task_outlives_a_crash_of_containerd,
        output_written_while_containerd_is_down_is_complete,
    ],
    // With runc's shim containerd finds no process of a task that has ended, and forgets it.
    curfew: [
        containers_and_a_pod_outlive_a_crash_with_all_their_output,
        exits_while_containerd_is_down_are_not_lost,
        a_created_task_outlives_a_crash_and_starts,
        terminals_and_execs_outlive_a_crash_with_input_and_output,
        a_wait_that_a_crash_cut_is_answered_when_asked_again,
        a_limit_that_passes_while_containerd_is_down_ends_the_container,
        a_create_or_start_that_a_crash_cut_leaves_nothing,
        a_delete_that_a_crash_cut_can_be_repeated,
    ]
}

const LIMIT: Duration = Duration::from_secs(5);
/// How long a shim may last that has no task and that no containerd uses: longest where one keeps a connection to it.
const SHIM_WITHOUT_TASKS: Duration = Duration::from_secs(40);

fn crash(h: &Harness) {
    h.containerd.kill9();
    h.containerd.restart();
}

/// Says something before containerd goes and more than fits a pipe after that.
fn talker(code: u32) -> Spec {
    Spec::new(["sh", "-c", &format!("echo before; sleep 1; seq 1 20000; echo after; exit {code}")])
}

fn all_of_the_talk() -> String {
    let lines = (1..=20_000).map(|n| format!("{n}\n")).collect::<String>();
    format!("before\n{lines}after\n")
}

/// The exit as all of containerd's calls have it, and then the task is gone.
fn exited(task: &Task) -> Exit {
    let exit = task.wait_for(LIMIT).unwrap();
    assert!(exit.at.is_some());
    assert_eq!(task.state().unwrap().exit, exit);
    assert_eq!(task.delete().unwrap(), exit);
    exit
}

fn killed(task: &Task) {
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(exited(task).status, 137);
}

fn a_task_outlives_a_restart_of_containerd(h: &Harness) {
    let task = h.start(Spec::sleeper());
    h.containerd.restart();
    assert_eq!(task.state().unwrap().status, Status::Running);
    killed(&task);
}

fn a_task_outlives_a_crash_of_containerd(h: &Harness) {
    let task = h.start(Spec::sleeper());
    crash(h);
    assert_eq!(task.state().unwrap().status, Status::Running);
    killed(&task);
}

fn output_written_while_containerd_is_down_is_complete(h: &Harness) {
    let task =
        h.start(Spec::new(["sh", "-c", "echo before; sleep 0.4; echo between; sleep 0.6; echo after"]));
    task.wait_for_output("before");
    h.containerd.kill9();
    task.wait_for_output("between");
    h.containerd.restart();
    assert_eq!(task.wait().unwrap().status, 0);
    assert_eq!(task.stdout(), "before\nbetween\nafter\n");
    task.delete().unwrap();
}

fn containers_and_a_pod_outlive_a_crash_with_all_their_output(h: &Harness) {
    let (talks, sleeps) = (h.start(talker(7)), h.start(Spec::sleeper()));
    let pod = h.pod_with(talker(9).id("workload"));
    let all = [&talks, &sleeps, &pod.pause, &pod.workload];
    let pids = || all.map(|task| task.state().unwrap().pid);
    let before = pids();
    talks.wait_for_output("before");
    pod.workload.wait_for_output("before");
    crash(h);
    assert_eq!(pids(), before);
    for (task, code) in [(&talks, 7), (&pod.workload, 9)] {
        assert_eq!(exited(task).status, code);
        assert_eq!(task.stdout(), all_of_the_talk());
    }
    for task in [&sleeps, &pod.pause] {
        assert_eq!(task.state().unwrap().status, Status::Running);
        killed(task);
    }
}

fn terminals_and_execs_outlive_a_crash_with_input_and_output(h: &Harness) {
    let echoing = ["sh", "-c", "while read line; do echo got $line; done"];
    let pod = h.pod_with(Spec::new(echoing).id("workload").stdio(Stdio::Terminal));
    let task = h.start(Spec::new(echoing).stdio(Stdio::Terminal));
    let exec = |stdio, id: &str| {
        let exec = task.exec(&ExecSpec::new(echoing).id(id).stdio(stdio)).unwrap();
        exec.start().unwrap();
        exec
    };
    let (plain, terminal) = (exec(Stdio::WithStdin, "plain"), exec(Stdio::Terminal, "terminal"));
    let all: [&Streams; 4] = [&task, &pod.workload, &terminal, &plain];
    let say = |word: &str| {
        for streams in all {
            streams.write_stdin(format!("{word}\n").as_bytes());
            streams.wait_for_output(&format!("got {word}"));
        }
    };
    say("before");
    // CRI's end of a terminal goes with containerd, and comes back with it.
    all[..3].iter().for_each(|streams| streams.close_stdin());
    crash(h);
    say("after");
    plain.close_stdin();
    let exit = plain.wait_for(LIMIT).unwrap();
    assert_eq!((exit.status, exit.at.is_some()), (0, true));
    assert_eq!(plain.stdout(), "got before\ngot after\n");
    plain.delete().unwrap();
    terminal.kill(Signal::SIGKILL).unwrap();
    assert_eq!(terminal.wait_for(LIMIT).unwrap().status, 137);
    terminal.delete().unwrap();
    for task in [task, pod.workload, pod.pause] {
        killed(&task);
    }
}

fn exits_while_containerd_is_down_are_not_lost(h: &Harness) {
    let script = |code: u32| Spec::new(["sh", "-c", &format!("echo up; sleep 0.5; exit {code}")]);
    let plain = h.start(script(11));
    let pod = h.pod_with(script(12).id("workload"));
    pod.workload.wait_for_output("up");
    h.containerd.kill9();
    for task in [&plain, &pod.workload] {
        assert!(task.stdout_is_closed(LIMIT));
    }
    h.containerd.restart();
    assert_eq!(exited(&plain).status, 11);
    assert_eq!(exited(&pod.workload).status, 12);
    killed(&pod.pause);
}

fn a_created_task_outlives_a_crash_and_starts(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let say = || Spec::new(["echo", "said"]);
    let all = [h.create(say()), h.create(say().id("workload").container_of("pause", pause.pid()))];
    crash(h);
    for task in &all {
        assert_eq!(task.state().unwrap().status, Status::Created);
        task.start().unwrap();
        assert_eq!(exited(task).status, 0);
        assert_eq!(task.stdout(), "said\n");
    }
    killed(&pause);
}

fn a_wait_that_a_crash_cut_is_answered_when_asked_again(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let waiting = task.wait_in_background();
    // It has reached the shim by then.
    std::thread::sleep(Duration::from_millis(100));
    h.containerd.kill9();
    assert!(waiting.join().unwrap().is_err());
    h.containerd.restart();
    let again = task.wait_in_background();
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(again.join().unwrap().unwrap(), exited(&task));
}

fn a_limit_that_passes_while_containerd_is_down_ends_the_container(h: &Harness) {
    let limited = |spec: Spec| spec.annotation("curfew.dev/timeout", "500ms");
    let task = h.start(limited(Spec::sleeper()).annotation("curfew.dev/grace", "0s"));
    h.containerd.kill9();
    assert!(task.stdout_is_closed(LIMIT));
    h.containerd.restart();
    assert_eq!(exited(&task).status, 124);
}

/// Removes a container whose calls were cut: what its client does that doesn't know how far they got.
fn clean_up(container: &Container) {
    let task = container.task();
    let _ = task.kill(Signal::SIGKILL);
    let _ = task.wait_for(LIMIT);
    let _ = task.delete_task();
    container.delete().unwrap();
    assert_eq!(task.state().unwrap_err().code, Code::NotFound);
}

fn a_create_or_start_that_a_crash_cut_leaves_nothing(h: &Harness) {
    // At many moments, so that some hit the shim's `start`, some its Create and some its Start.
    for delay in [0, 8, 16, 24, 32, 48, 64, 96, 128, 160] {
        let container = h.container(&Spec::sleeper().id(format!("cut{delay}")));
        let calls = {
            let container = container.clone();
            std::thread::spawn(move || container.create().and_then(|task| task.start()))
        };
        std::thread::sleep(Duration::from_millis(delay));
        h.containerd.kill9();
        let _ = calls.join().unwrap();
        h.containerd.restart();
        clean_up(&container);
    }
    h.nothing_runs_within(SHIM_WITHOUT_TASKS);
}

/// containerd renames a bundle before it removes it, and doesn't look for such a name when it comes back.
fn remove_half_deleted_bundles(h: &Harness) {
    let bundles = h.containerd.bundle("x");
    for entry in std::fs::read_dir(bundles.parent().unwrap()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with('.') {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

fn a_delete_that_a_crash_cut_can_be_repeated(h: &Harness) {
    for delay in [0, 4, 8, 16, 24, 40] {
        let task = h.start(Spec::sleeper().id(format!("cut{delay}")));
        task.kill(Signal::SIGKILL).unwrap();
        task.wait().unwrap();
        let deleting = {
            let task = task.clone();
            std::thread::spawn(move || task.delete_task())
        };
        std::thread::sleep(Duration::from_millis(delay));
        h.containerd.kill9();
        let _ = deleting.join().unwrap();
        h.containerd.restart();
        clean_up(task.container());
    }
    h.nothing_runs_within(SHIM_WITHOUT_TASKS);
    remove_half_deleted_bundles(h);
}

//! The events of tasks while nobody takes them: they wait, and come in order and once.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::thread::sleep;
use std::time::Duration;

use harness::{Event, Events, Exit, Harness, Signal, Spec, Task};

harness::on_every_containerd! {
    curfew: [
        an_exit_while_containerd_is_down_comes_as_an_event,
        a_pod_s_events_wait_for_containerd_and_come_in_order_and_once,
        an_event_that_a_hung_containerd_never_took_comes_after_its_restart,
    ]
}

harness::on_curfew_alone![a_containerd_that_stalls_gets_each_event_once];

const LIMIT: Duration = Duration::from_secs(5);
/// Longer than the shim waits from one attempt to the next.
const NOTHING_MORE: Duration = Duration::from_millis(2500);

fn topics(events: &[Event]) -> Vec<(&str, &str)> {
    events.iter().map(|e| (e.topic.trim_start_matches("/tasks/"), e.container_id.as_str())).collect()
}

/// Fails unless the one exit event of the container says what `Wait` did.
#[track_caller]
fn assert_exit(events: &[Event], container: &str, exit: Exit) {
    let mut exits = events.iter().filter(|e| e.topic == "/tasks/exit" && e.container_id == container);
    let event = exits.next().unwrap();
    assert_eq!((event.status, event.exited_at), (exit.status, exit.at));
    assert_eq!(exits.next(), None);
}

/// Starts containerd anew and hears what has been waiting, from the first event on.
fn restarted(h: &Harness) -> Events {
    h.containerd.restart_deaf();
    let events = h.events();
    h.containerd.hear();
    events
}

fn exits_soon(id: &str) -> Spec {
    Spec::new(["sh", "-c", "sleep 0.4; exit 11"]).id(id)
}

fn killed(task: &Task) -> Exit {
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap()
}

fn an_exit_while_containerd_is_down_comes_as_an_event(h: &Harness) {
    let before = h.events();
    let task = h.start(exits_soon("a"));
    before.wait_for(2);
    assert_eq!(topics(&before.all()), [("create", "a"), ("start", "a")]);
    h.containerd.kill9();
    assert!(task.stdout_is_closed(LIMIT));
    let after = restarted(h);
    let all = after.wait_for(1);
    let exit = task.wait().unwrap();
    assert_eq!(exit.status, 11);
    assert_exit(&all, "a", exit);
    task.delete().unwrap();
    after.wait_for(2);
    sleep(NOTHING_MORE);
    assert_eq!(topics(&after.all()), [("exit", "a"), ("delete", "a")]);
}

fn a_pod_s_events_wait_for_containerd_and_come_in_order_and_once(h: &Harness) {
    let pause = h.start(Spec::sleeper().sandbox("pause"));
    let workload = |id: &str| h.create(Spec::sleeper().id(id).container_of("pause", pause.pid()));
    let (a, b) = (workload("a"), workload("b"));
    h.containerd.restart_deaf();
    b.start().unwrap();
    a.start().unwrap();
    let a_exit = killed(&a);
    let b_exit = killed(&b);
    a.delete().unwrap();
    let c = workload("c");
    let events = h.events();
    h.containerd.hear();
    let in_order =
        [("start", "b"), ("start", "a"), ("exit", "a"), ("exit", "b"), ("delete", "a"), ("create", "c")];
    let all = events.wait_for(in_order.len());
    assert_eq!(topics(&all), in_order);
    assert_exit(&all, "a", a_exit);
    assert_exit(&all, "b", b_exit);
    killed(&c);
    killed(&pause);
    for task in [b, c, pause] {
        task.delete().unwrap();
    }
    let rest = [("exit", "c"), ("exit", "pause"), ("delete", "b"), ("delete", "c"), ("delete", "pause")];
    events.wait_for(in_order.len() + rest.len());
    sleep(NOTHING_MORE);
    assert_eq!(topics(&events.all()[in_order.len()..]), rest);
}

fn an_event_that_a_hung_containerd_never_took_comes_after_its_restart(h: &Harness) {
    let task = h.start(exits_soon("a"));
    h.containerd.freeze();
    assert!(task.stdout_is_closed(LIMIT));
    // Long enough for the shim to have sent it, and too short to give up on the answer.
    sleep(Duration::from_millis(300));
    let events = restarted(h);
    let all = events.wait_for(1);
    assert_exit(&all, "a", task.wait().unwrap());
    sleep(NOTHING_MORE);
    assert_eq!(topics(&events.all()), [("exit", "a")]);
    task.delete().unwrap();
}

fn a_containerd_that_stalls_gets_each_event_once(h: &Harness) {
    let events = h.events();
    let task = h.start(exits_soon("a"));
    events.wait_for(2);
    h.containerd.freeze();
    assert!(task.stdout_is_closed(LIMIT));
    sleep(Duration::from_secs(7));
    h.containerd.resume();
    events.wait_for(3);
    sleep(NOTHING_MORE);
    task.delete().unwrap();
    events.wait_for(4);
    let in_order = ["create", "start", "exit", "delete"].map(|topic| (topic, "a"));
    assert_eq!(topics(&events.all()), in_order);
}

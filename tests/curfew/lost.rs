//! Whoever ends a pod is lost: its shim, its watchdog, containerd, or several of them.

use std::time::{Duration, SystemTime};

use harness::{Harness, Signal, rpc::poll};

use crate::running::{
    BY_SHIM, BY_WATCHDOG, Life, MARGIN, Running, SHORT, both_exits_are, lateness, long, on_a_node,
    on_a_node_with, processes, was_ended_by,
};

/// What containerd gives `delete`.
const DELETE: Duration = Duration::from_secs(5);

#[test]
fn at_once_with_a_shim_that_is_killed() {
    on_a_node(|h| {
        let events = h.events();
        let running = Running::start(h, long());
        running.shim().signal(Signal::SIGKILL);
        running.is_gone_at_once(SystemTime::now(), lateness());
        both_exits_are(&events, 137);
        running.see_it_forgotten("ShimLost");
    });
}

#[test]
fn at_once_with_a_shim_that_is_killed_during_the_grace() {
    on_a_node(|h| {
        let events = h.events();
        let running = Running::start(h, Life { limit: 3, grace: 20 });
        let expired =
            || h.containerd.log().contains("DeadlineExceeded: the limit of 3s is reached").then_some(());
        poll(Duration::from_secs(10), expired).unwrap();
        assert!(!processes(h, |command| command.starts_with("runsc-sandbox")).is_empty());
        running.shim().signal(Signal::SIGKILL);
        running.is_gone(SystemTime::now(), lateness());
        both_exits_are(&events, 124);
        running.see_it_forgotten("DeadlineExceeded");
        // containerd, which is alive, may be as quick as the watchdog.
        was_ended_by(h, &["watchdog", "delete"]);
    });
}

#[test]
fn on_time_without_containerd() {
    on_a_node(|h| {
        let running = Running::start(h, SHORT);
        h.containerd.kill9();
        running.is_gone(running.due(), lateness());
        h.containerd.restart();
        running.ends_with_124(BY_SHIM);
    });
}

/// Leaves the pod to its watchdog.
fn kill_containerd_and_shim(h: &Harness, running: &Running<'_>) {
    let shim = running.shim();
    h.containerd.kill9();
    shim.signal(Signal::SIGKILL);
}

#[test]
fn at_once_without_a_shim_and_containerd() {
    on_a_node(|h| {
        let running = Running::start(h, long());
        kill_containerd_and_shim(h, &running);
        running.is_gone_at_once(SystemTime::now(), lateness());
        h.containerd.restart();
        running.see_it_forgotten("ShimLost");
    });
}

#[test]
fn what_a_lost_shim_cost_a_pod_is_not_taken_for_its_deadline_later() {
    on_a_node(|h| {
        let running = Running::start(h, Life { limit: 10, grace: 0 });
        kill_containerd_and_shim(h, &running);
        running.is_gone_at_once(SystemTime::now(), lateness());
        let late = running.due() + Duration::from_millis(200);
        std::thread::sleep(late.duration_since(SystemTime::now()).unwrap_or_default());
        h.containerd.restart();
        running.see_it_forgotten("ShimLost");
    });
}

#[test]
fn on_time_without_a_shim_and_containerd_where_the_node_holds() {
    on_a_node_with("[timeout]\non_shim_loss = \"hold\"\n", |h| {
        let running = Running::start(h, SHORT);
        kill_containerd_and_shim(h, &running);
        running.is_gone(running.due(), lateness());
        h.containerd.restart();
        running.see_it_forgotten("DeadlineExceeded");
        was_ended_by(h, BY_WATCHDOG);
    });
}

/// Nobody else acts while the shim is stopped.
fn is_left_to_its_watchdog(running: Running<'_>) {
    let shim = running.shim();
    shim.signal(Signal::SIGSTOP);
    running.is_gone(running.due() + MARGIN, lateness());
    shim.signal(Signal::SIGCONT);
    running.ends_with_124(BY_WATCHDOG);
}

#[test]
fn by_the_watchdog_where_the_shim_is_stopped() {
    on_a_node(|h| {
        let running = Running::start(h, SHORT);
        is_left_to_its_watchdog(running);
    });
}

#[test]
fn on_time_without_the_watchdog_that_was_killed() {
    on_a_node(|h| {
        let running = Running::start(h, long());
        let first = running.watchdog();
        first.signal(Signal::SIGKILL);
        let another =
            || processes(h, |command| command.ends_with(" watchdog")).iter().any(|p| p.pid != first.pid);
        poll(Duration::from_secs(5), || another().then_some(())).unwrap();
        assert!(h.containerd.log().contains("the watchdog is lost"));
        // The other one knows what the first did.
        is_left_to_its_watchdog(running);
    });
}

#[test]
fn on_time_though_the_watchdog_is_stopped() {
    on_a_node(|h| {
        let running = Running::start(h, SHORT);
        let watchdog = running.watchdog();
        watchdog.signal(Signal::SIGSTOP);
        running.is_gone(running.due(), lateness());
        watchdog.signal(Signal::SIGCONT);
        running.ends_with_124(BY_SHIM);
    });
}

#[test]
fn on_time_though_the_watchdog_is_stopped_for_good() {
    on_a_node(|h| {
        let running = Running::start(h, SHORT);
        running.watchdog().signal(Signal::SIGSTOP);
        running.is_gone(running.due(), lateness());
        running.ends_with_124(BY_SHIM);
        // It cannot hear that the pod has ended.
        h.nothing_runs_within(Duration::from_secs(10));
    });
}

#[test]
fn by_delete_without_a_shim_and_its_watchdog() {
    on_a_node(|h| {
        let events = h.events();
        let running = Running::start(h, long());
        let (shim, watchdog) = (running.shim(), running.watchdog());
        // Stopped first, so that it cannot start another.
        shim.signal(Signal::SIGSTOP);
        watchdog.signal(Signal::SIGKILL);
        shim.signal(Signal::SIGKILL);
        running.is_gone_at_once(SystemTime::now(), DELETE);
        both_exits_are(&events, 137);
        running.see_it_forgotten("ShimLost");
    });
}

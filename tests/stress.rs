//! Many at once: nothing is left, and the last is as the first.
#![allow(clippy::print_stderr, reason = "figures for whoever reads the log")]
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Instant,
};

use harness::{Harness, Signal, Spec, Task};

harness::on_curfew_alone![a_hundred_rounds_ten_at_a_time_leave_nothing];

const ROUNDS: u32 = 100;
const AT_A_TIME: u32 = 10;

fn end(task: &Task) {
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(task.wait().unwrap().status, 137);
    task.delete().unwrap();
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

fn a_hundred_rounds_ten_at_a_time_leave_nothing(h: &Harness) {
    // The images are imported once, not by ten at a time.
    h.run(Spec::new(["true"]));
    let (next, since) = (AtomicU32::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    match n {
                        ROUNDS.. => return,
                        _ if n % 2 == 0 => plain(h, n),
                        _ => pod_of_two(h, n),
                    }
                }
            });
        }
    });
    eprintln!("{ROUNDS} rounds, {AT_A_TIME} at a time: {:?}", since.elapsed());
}

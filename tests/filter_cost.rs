//! What the outer filter costs a guest's system call: at most two parts in a hundred.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "the class file is the test's own")]

use std::fs;

use harness::{Options, Runtime, Spec, Stdio, Task, with_options};

/// Measures a batch for each line it reads, and says the nanoseconds.
const BATCHES: &str = "
import os, sys, time
for line in sys.stdin:
    start = time.perf_counter_ns()
    for _ in range(20000):
        os.getppid()
    print(line.strip(), time.perf_counter_ns() - start, 'ns', flush=True)
";
const MOST: f64 = 1.02;
/// The best of so many batches is compared, however early it looks good.
const COUNT: usize = 60;

fn batch(task: &Task, number: usize) -> u64 {
    task.write_stdin(format!("batch-{number}-\n").as_bytes());
    task.wait_for_output(&format!("batch-{number}- "));
    task.wait_for_output(" ns\n");
    let said = task.stdout_so_far();
    let line = said.lines().rev().find(|line| line.starts_with(&format!("batch-{number}- "))).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_outer_filter_costs_a_guests_system_call_next_to_nothing() {
    let node = "version = 1\n[seccomp]\nouter = \"off\"\n".into();
    with_options(Runtime::Curfew, Options { node, ..Options::default() }, |h| {
        let class = fs::read_to_string(h.containerd.class_file()).unwrap();
        let start = |outer: &str| {
            fs::write(h.containerd.class_file(), format!("{class}\n[seccomp]\nouter = \"{outer}\"\n"))
                .unwrap();
            h.start(Spec::new(["python3", "-c", BATCHES]).image("python").id(outer).stdio(Stdio::WithStdin))
        };
        let (with, without) = (start("enforce"), start("off"));
        let (mut best_with, mut best_without) = (u64::MAX, u64::MAX);
        for number in 0..COUNT {
            best_without = best_without.min(batch(&without, number));
            best_with = best_with.min(batch(&with, number));
        }
        #[expect(clippy::cast_precision_loss, reason = "a few milliseconds")]
        let ratio = best_with as f64 / best_without as f64;
        eprintln!("{best_with} ns with the filter, {best_without} ns without: {ratio:.3}");
        assert!(ratio <= MOST, "{ratio:.3} of what it takes without the filter");
        for task in [with, without] {
            task.end().unwrap();
        }
    });
}

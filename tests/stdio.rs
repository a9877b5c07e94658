//! What goes in and comes out of a task by its FIFOs.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::Duration;

use harness::{Harness, Spec, Stdio};

harness::on_both_runtimes![
    stdin_reaches_the_process_and_closing_it_is_its_end,
    large_output_is_complete,
    output_ends_with_the_process_though_a_child_holds_it,
    stderr_arrives_apart_from_stdout,
    a_program_without_stdio_runs,
];

fn stdin_reaches_the_process_and_closing_it_is_its_end(h: &Harness) {
    let task = h.start(Spec::new(["cat"]).stdio(Stdio::WithStdin));
    task.write_stdin(b"one\n");
    task.wait_for_output("one");
    task.write_stdin(b"two\n");
    task.close_stdin();
    task.close_io().unwrap();
    assert_eq!(task.wait().unwrap().status, 0);
    assert_eq!(task.stdout(), "one\ntwo\n");
    task.delete().unwrap();
}

fn large_output_is_complete(h: &Harness) {
    let script = "i=0; while [ $i -lt 32 ]; do dd if=/dev/zero bs=65536 count=16 2>/dev/null; i=$((i+1)); done; echo end";
    let task = h.start(Spec::new(["sh", "-c", script]));
    assert_eq!(task.wait_for(Duration::from_secs(60)).unwrap().status, 0);
    let bytes = task.stdout_bytes();
    assert_eq!(bytes.len(), 32 * 1024 * 1024 + 4);
    assert!(bytes.ends_with(b"\0end\n"));
    task.delete().unwrap();
}

fn output_ends_with_the_process_though_a_child_holds_it(h: &Harness) {
    let task = h.start(Spec::new(["sh", "-c", "sleep 1000 & echo kept"]));
    assert_eq!(task.wait().unwrap().status, 0);
    assert_eq!(task.stdout(), "kept\n");
    task.delete().unwrap();
}

fn stderr_arrives_apart_from_stdout(h: &Harness) {
    let output = h.run(Spec::new(["sh", "-c", "echo out; echo err >&2"]));
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(output.exit.status, 0);
}

fn a_program_without_stdio_runs(h: &Harness) {
    let task = h.start(Spec::new(["sh", "-c", "echo lost; exit 4"]).stdio(Stdio::None));
    assert_eq!(task.wait().unwrap().status, 4);
    task.delete().unwrap();
}

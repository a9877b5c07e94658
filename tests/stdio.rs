//! What goes in and comes out of a task by its FIFOs.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files")]

use std::{io::Read, time::Duration};

use harness::{ExecSpec, Harness, Signal, Spec, Status, Stdio};

harness::on_both_runtimes![
    stdin_reaches_the_process_and_closing_it_is_its_end,
    large_output_is_complete,
    output_ends_with_the_process_though_a_child_holds_it,
    stderr_arrives_apart_from_stdout,
    a_program_without_stdio_runs,
    output_to_a_file_is_appended,
];

harness::on_curfew_alone![
    the_output_of_an_exec_is_complete_and_takes_little_memory,
    an_exec_whose_child_holds_its_output_ends_all_the_same,
    an_exec_with_a_slow_reader_loses_nothing,
    a_reader_that_dies_stops_the_output_and_nothing_else,
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

fn output_to_a_file_is_appended(h: &Harness) {
    let path = h.containerd.dir().join("temp/output");
    std::fs::write(&path, "before\n").unwrap();
    let file = Stdio::Path(format!("file://{}", path.display()));
    let script = "echo out; echo err >&2; seq 1 100000; exit 2";
    let task = h.start(Spec::new(["sh", "-c", script]).stdio(file));
    assert_eq!(task.wait().unwrap().status, 2);
    task.delete().unwrap();
    // By the Delete it is all there.
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.ends_with("99999\n100000\n"), "{}", written.len());
    // Each stream in its own order, and the two as they come.
    let (first, rest) = written.split_once('\n').unwrap();
    assert_eq!(first, "before");
    assert!(rest.contains("out\n") && rest.contains("err\n"), "{}", &rest[..200]);
}

/// The shim's resident memory in KiB.
fn resident(h: &Harness, id: &str) -> u64 {
    let pid = harness::shim::Shim::of(&h.containerd, id).unwrap().pid(id).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const MIB: usize = 1 << 20;

fn the_output_of_an_exec_is_complete_and_takes_little_memory(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let fifo = h.containerd.dir().join("temp/large");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let stdio = Stdio::Path(fifo.display().to_string());
    let script = "exec dd if=/dev/zero bs=1048576 count=1024 2>/dev/null";
    let exec = task.exec(&ExecSpec::new(["sh", "-c", script]).stdio(stdio)).unwrap();
    let reading = std::thread::spawn(move || {
        let mut reader = std::fs::File::open(fifo).unwrap();
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap()
    });
    exec.start().unwrap();
    let mut most = 0;
    while exec.state().unwrap().status == Status::Running {
        most = most.max(resident(h, task.id()));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(exec.wait().unwrap().status, 0);
    assert_eq!(reading.join().unwrap(), 1 << 30);
    assert!(most < 8192, "{most} KiB resident");
    exec.delete().unwrap();
    task.end().unwrap();
}

fn an_exec_whose_child_holds_its_output_ends_all_the_same(h: &Harness) {
    let task = h.start(Spec::sleeper());
    // The child lives on, silent or not; its output has nowhere to go.
    for script in [
        "sleep 1000 & echo done",
        "(while true; do echo on; sleep 0.01; done) & echo done",
        "yes & echo done",
    ] {
        let exec = task.exec(&ExecSpec::new(["sh", "-c", script])).unwrap();
        exec.start().unwrap();
        assert_eq!(exec.wait().unwrap().status, 0);
        assert!(exec.stdout_is_closed(Duration::from_secs(5)), "{script}");
        assert!(exec.stdout().contains("done\n"), "{script}");
        exec.delete().unwrap();
    }
    task.end().unwrap();
}

fn an_exec_with_a_slow_reader_loses_nothing(h: &Harness) {
    let task = h.start(Spec::sleeper());
    let fifo = h.containerd.dir().join("temp/slow");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let stdio = Stdio::Path(fifo.display().to_string());
    let exec = task
        .exec(
            &ExecSpec::new(["sh", "-c", "exec dd if=/dev/zero bs=65536 count=256 2>/dev/null"]).stdio(stdio),
        )
        .unwrap();
    exec.start().unwrap();
    // Nobody reads yet: the exec waits with its pipes full.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(exec.state().unwrap().status, Status::Running);
    let reader = std::thread::spawn(move || {
        let (mut fifo, mut all) = (std::fs::File::open(fifo).unwrap(), 0);
        let mut buffer = vec![0; 1 << 20];
        while let Ok(count @ 1..) = fifo.read(&mut buffer) {
            all += count;
            std::thread::sleep(Duration::from_millis(5));
        }
        all
    });
    assert_eq!(exec.wait().unwrap().status, 0);
    assert_eq!(reader.join().unwrap(), 16 * MIB);
    exec.delete().unwrap();
    task.end().unwrap();
}

fn a_reader_that_dies_stops_the_output_and_nothing_else(h: &Harness) {
    let fifo = |name: &str| {
        let path = h.containerd.dir().join("temp").join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path.display().to_string()
    };
    let (of_container, of_exec) = (fifo("container"), fifo("exec"));
    // More than what the pipes on the way can hold, from whoever says this.
    let read_some = |path: &String, words: &str| {
        let mut text = vec![0; 4 * MIB];
        std::fs::File::open(path).unwrap().read_exact(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().skip(1).take(1000).all(|line| line == words));
    };
    let task = h.start(Spec::new(["yes", "of the container"]).stdio(Stdio::Path(of_container.clone())));
    read_some(&of_container, "of the container");
    let exec = task.exec(&ExecSpec::new(["yes", "of the exec"]).stdio(Stdio::Path(of_exec.clone()))).unwrap();
    exec.start().unwrap();
    read_some(&of_exec, "of the exec");
    // Both stand with their pipes full, and go on where another reader comes.
    std::thread::sleep(Duration::from_millis(300));
    let other = task.exec(&ExecSpec::new(["true"])).unwrap();
    other.start().unwrap();
    assert_eq!(other.wait().unwrap().status, 0);
    other.delete().unwrap();
    read_some(&of_exec, "of the exec");
    read_some(&of_container, "of the container");
    exec.kill(Signal::SIGKILL).unwrap();
    assert_eq!(exec.wait().unwrap().status, 137);
    exec.delete().unwrap();
    task.kill(Signal::SIGKILL).unwrap();
    assert_eq!(task.wait().unwrap().status, 137);
    task.delete().unwrap();
}

//! `binary://`: a program on the host that takes the output, as nerdctl has it.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use harness::{Code, ExecSpec, Harness, Options, Runtime, Signal, Spec, Stdio, with_options};

harness::on_curfew_alone![a_logger_is_refused_unless_the_node_allows_it];

fn on_a_node_that_allows_it(test: impl FnOnce(&Harness)) {
    let node = "version = 1\n[pod]\nbinary_logger = true\n".into();
    with_options(Runtime::Curfew, Options { node, ..Options::default() }, test);
}

/// A logger that writes both streams to `NAME.out` and `NAME.err`, with its environment before, and then does `last`.
fn logger(h: &Harness, name: &str, last: &str) -> (String, PathBuf) {
    let path = h.containerd.dir().join("temp").join(name);
    let script = format!(
        "#!/bin/sh\n\
         echo \"$CONTAINER_NAMESPACE/$CONTAINER_ID $*\" > $0.out\n\
         cat <&4 >$0.err 5>&- & exec 5>&-\n\
         cat <&3 >>$0.out\nwait\n{last}\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    (format!("binary://{}?one=two%20three&four", path.display()), path)
}

fn written(path: &std::path::Path, suffix: &str) -> String {
    fs::read_to_string(format!("{}.{suffix}", path.display())).unwrap()
}

fn a_logger_is_refused_unless_the_node_allows_it(h: &Harness) {
    let (uri, path) = logger(h, "refused", "");
    let error = h.try_create(Spec::sleeper().stdio(Stdio::Path(uri))).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    assert!(error.message.contains("pod.binary_logger"), "{error}");
    let task = h.start(Spec::sleeper());
    let error =
        task.exec(&ExecSpec::new(["true"]).stdio(Stdio::Path(logger(h, "refused", "").0))).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    assert!(!path.with_extension("out").exists());
    task.end().unwrap();
}

#[test]
fn a_logger_takes_the_output_of_a_container_and_its_execs() {
    on_a_node_that_allows_it(|h| {
        let (uri, path) = logger(h, "all", "");
        let task = h.start(
            Spec::new(["sh", "-c", "echo out; echo err >&2; exec sleep 1000"])
                .id("logged")
                .stdio(Stdio::Path(uri)),
        );
        let (uri, of_exec) = logger(h, "exec", "");
        let spec =
            ExecSpec::new(["sh", "-c", "dd if=/dev/zero bs=1048576 count=8 2>/dev/null; echo end >&2"]);
        let exec = task.exec(&spec.id("inner").stdio(Stdio::Path(uri))).unwrap();
        exec.start().unwrap();
        assert_eq!(exec.wait().unwrap().status, 0);
        exec.delete().unwrap();
        // An exec that fails leaves no logger.
        let (uri, of_failed) = logger(h, "failed", "");
        let exec = task.exec(&ExecSpec::new(["/nonexistent"]).stdio(Stdio::Path(uri))).unwrap();
        exec.start().unwrap_err();
        let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
        let name = of_failed.display().to_string();
        assert!(!all.iter().any(|process| process.command.contains(&name)), "{all:#?}");
        task.kill(Signal::SIGKILL).unwrap();
        task.wait().unwrap();
        // By its Delete both have ended, and so have written all.
        task.delete().unwrap();
        let namespace = h.containerd.namespace();
        assert_eq!(written(&path, "out"), format!("{namespace}/logged one two three four\nout\n"));
        assert_eq!(written(&path, "err"), "err\n");
        let output = written(&of_exec, "out");
        assert!(output.starts_with(&format!("{namespace}/inner ")), "{}", &output[..80]);
        assert_eq!(output.bytes().filter(|byte| *byte == 0).count(), 8 << 20);
        assert_eq!(written(&of_exec, "err"), "end\n");
    });
}

#[test]
fn a_logger_takes_the_output_of_a_terminal_and_of_a_pods_container() {
    on_a_node_that_allows_it(|h| {
        let pause = h.start(Spec::sleeper().sandbox("pause"));
        for (name, terminal) in [("plain", false), ("terminal", true)] {
            let (uri, path) = logger(h, name, "");
            let stdio = if terminal { Stdio::TerminalTo(uri) } else { Stdio::Path(uri) };
            let task = h.start(Spec::new(["echo", "hello"]).container_of("pause", pause.pid()).stdio(stdio));
            assert_eq!(task.wait().unwrap().status, 0);
            task.delete().unwrap();
            let output = written(&path, "out");
            assert_eq!(output.lines().last(), Some("hello"), "{name}: {output:?}");
        }
        pause.end().unwrap();
    });
}

#[test]
fn a_logger_that_does_not_end_is_killed() {
    on_a_node_that_allows_it(|h| {
        let (uri, _) = logger(h, "stays", "trap '' TERM; while true; do sleep 0.1; done");
        let task = h.start(Spec::new(["true"]).stdio(Stdio::Path(uri)));
        task.wait().unwrap();
        let since = Instant::now();
        task.delete().unwrap();
        let took = since.elapsed();
        assert!((Duration::from_secs(10)..Duration::from_secs(20)).contains(&took), "{took:?}");
    });
}

#[test]
fn a_logger_that_is_missing_or_ends_at_once_fails_only_the_create() {
    on_a_node_that_allows_it(|h| {
        let missing = Stdio::Path("binary:///nonexistent/logger".into());
        let error = h.try_create(Spec::sleeper().stdio(missing)).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
        assert!(error.message.contains("/nonexistent/logger"), "{error}");
        // One that ends at once is a reader that is gone.
        let gone = Stdio::Path("binary:///bin/false".into());
        let task = h.start(Spec::new(["sh", "-c", "echo lost; exit 3"]).stdio(gone));
        task.wait().unwrap();
        task.delete().unwrap();
    });
}

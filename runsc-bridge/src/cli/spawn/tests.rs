use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::PathBuf, time::Instant};

use super::*;

/// Reaps one child at a time on a thread of its own; the shim's reaper is not ours to use here.
struct Waiting;

impl ChildExits for Waiting {
    fn exit_of(&self, pid: Pid) -> oneshot::Receiver<ExitStatus> {
        let (sender, receiver) = oneshot::channel();
        std::thread::spawn(move || {
            use std::os::unix::process::ExitStatusExt;
            let raw = match nix::sys::wait::waitpid(pid, None) {
                Ok(nix::sys::wait::WaitStatus::Exited(_, code)) => code << 8,
                Ok(nix::sys::wait::WaitStatus::Signaled(_, signal, _)) => signal as i32,
                other => panic!("{other:?}"),
            };
            let _ = sender.send(ExitStatus::from_raw(raw));
        });
        receiver
    }
}

struct Script(tempfile::TempDir);

impl Script {
    fn new(body: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runsc");
        #[allow(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("runsc")
    }
}

const LIMIT: Duration = Duration::from_secs(10);

async fn status_of(binary: &Path, limit: Duration) -> Result<ExitStatus, RunscError> {
    let stdio = [Stdio::null(), Stdio::null(), Stdio::null()];
    let child = Child {
        verb: "create",
        subject: "c",
        binary,
        argv: &[],
        stdio,
        log: None,
        makes_sandbox: true,
        limit,
    };
    run(child, &Waiting).await
}

#[tokio::test]
async fn a_child_has_no_environment_but_a_path() {
    let script = Script::new("test \"$(env | sort | grep -v -e ^_= -e ^PWD=)\" = \"PATH=$PATH\"");
    assert!(status_of(&script.path(), LIMIT).await.unwrap().success());
}

#[tokio::test]
async fn a_child_and_what_it_started_are_killed_at_the_limit() {
    let script = Script::new("sleep 300 & echo $! >\"$0.child\"; wait");
    let before = Instant::now();
    let error = status_of(&script.path(), Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind, Kind::TimedOut);
    assert!(before.elapsed() < Duration::from_secs(5));
    let grandchild = std::fs::read_to_string(script.path().with_extension("child")).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let status = std::fs::read_to_string(format!("/proc/{}/stat", grandchild.trim()));
    assert!(status.map_or(true, |s| s.contains(") Z ")), "the grandchild still runs");
}

#[tokio::test]
async fn a_binary_that_is_not_there_or_not_executable_is_named() {
    let error = status_of(Path::new("/nonexistent/runsc"), LIMIT).await.unwrap_err();
    assert_eq!(error.kind, Kind::BinaryMissing);
    let error = status_of(Path::new("/etc/passwd"), LIMIT).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotExecutable);
    assert!(error.to_string().contains("/etc/passwd"));
}

#[tokio::test]
async fn output_is_read_up_to_a_bound_and_for_a_limited_time() {
    let endless = Script::new("exec cat /dev/zero");
    let printed = output_of(&endless.path(), "--version", LIMIT, &Waiting).await;
    assert!(printed.is_err() || printed.unwrap().len() <= 64 << 10);
    let silent = Script::new("exec sleep 300");
    let limit = Duration::from_millis(200);
    let error = output_of(&silent.path(), "--version", limit, &Waiting).await.unwrap_err();
    assert_eq!(error.kind, Kind::TimedOut);
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_not_runsc() {
    let error = output_of(Path::new("/bin/false"), "--version", LIMIT, &Waiting).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotRunsc);
}

#[tokio::test]
async fn what_makes_a_sandbox_has_one_high_descriptor() {
    let script = Script::new(
        "cd /proc/$$/fd && test \"$(readlink 511)\" = /dev/null && test \"$(echo [0-9][0-9][0-9]*)\" = 511",
    );
    assert!(status_of(&script.path(), LIMIT).await.unwrap().success());
}

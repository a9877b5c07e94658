use tokio::net::UnixListener;

use super::*;
use crate::{ContainerId, SignalScope};

/// A sentry that answers one call with `reply`, in two writes, and closes.
async fn answering(reply: &'static [u8]) -> (tempfile::TempDir, ControlSocket) {
    let dir = tempfile::tempdir().unwrap();
    let paths = SandboxPaths::new(dir.path(), dir.path());
    std::fs::create_dir(paths.root()).unwrap();
    let listener = UnixListener::bind(paths.root().join("runsc-s.sock")).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        let (first, rest) = reply.split_at(reply.len() / 2);
        stream.write_all(first).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(rest).await.unwrap();
    });
    let socket = ControlSocket::open(&paths, &SandboxId::new("s").unwrap()).unwrap();
    (dir, socket)
}

fn container() -> ContainerId {
    ContainerId::new("c").unwrap()
}

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_wait_returns_the_raw_status() {
    let (_dir, socket) = answering(br#"{"success":true,"err":"","result":1280}"#).await;
    let status = socket.wait(&container()).await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::into_raw(status), 1280);
}

#[tokio::test]
async fn a_signal_to_a_process_that_has_ended_says_so() {
    let reply = br#"{"success":false,"err":"no such process with PID 99","result":null}"#;
    let (_dir, socket) = answering(reply).await;
    let error = socket.signal(&container(), 15, SignalScope::Init, LIMIT).await.unwrap_err();
    assert_eq!(error.kind, Kind::NoSuchProcess);
}

#[tokio::test]
async fn a_sandbox_that_closes_in_the_middle_of_a_reply_is_gone() {
    let (_dir, socket) = answering(br#"{"success":true,"err""#).await;
    assert_eq!(socket.wait(&container()).await.unwrap_err().kind, Kind::SandboxGone);
}

#[tokio::test]
async fn a_sandbox_that_does_not_answer_runs_into_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let paths = SandboxPaths::new(dir.path(), dir.path());
    std::fs::create_dir(paths.root()).unwrap();
    let _listener = UnixListener::bind(paths.root().join("runsc-s.sock")).unwrap();
    let socket = ControlSocket::open(&paths, &SandboxId::new("s").unwrap()).unwrap();
    let limit = Duration::from_millis(50);
    let error = socket.signal(&container(), 9, SignalScope::All, limit).await.unwrap_err();
    assert_eq!(error.kind, Kind::TimedOut);
}

#[tokio::test]
async fn a_socket_nobody_listens_on_is_a_sandbox_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let paths = SandboxPaths::new(dir.path(), dir.path());
    std::fs::create_dir(paths.root()).unwrap();
    let socket = ControlSocket::open(&paths, &SandboxId::new("s").unwrap()).unwrap();
    assert_eq!(socket.wait(&container()).await.unwrap_err().kind, Kind::SandboxGone);
}

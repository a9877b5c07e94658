//! The state file that `runsc create` writes for each container, read only.
//!
//! Its name is `<container>_sandbox:<sandbox>.state` below runsc's `--root` (gVisor `runsc/container/state_file.go`).
//! What it says of the status is stale by design; the pids, and where the control socket is, hold for life.

use std::{fs::File, io::Read, path::PathBuf};

use serde::Deserialize;

use crate::{ContainerId, Kind, RunscError, SandboxId, SandboxPaths};

/// State files hold the spec, which containerd bounds; what is larger than this isn't one.
const LARGEST: u64 = 8 << 20;

/// What we need of a container's state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// Host pid of the sandbox process, the same for every container of the pod.
    pub sandbox_pid: i32,
    /// Host pid of this container's gofer; 0 where it has none.
    pub gofer_pid: i32,
    /// Where the control socket is.
    pub control_socket: PathBuf,
}

#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "goferPid", default)]
    gofer_pid: i32,
    sandbox: StoredSandbox,
}

#[derive(Deserialize)]
struct StoredSandbox {
    pid: i32,
    #[serde(rename = "controlSocketPath")]
    control_socket_path: PathBuf,
}

/// Reads the state file of `container`.
///
/// # Errors
/// [`Kind::NoSuchContainer`] where there is none, [`Kind::Protocol`] where it doesn't parse or names a control socket
/// outside the sandbox's own directory: runsc falls back to world-writable places when it cannot make one there.
pub fn read(
    paths: &SandboxPaths,
    sandbox: &SandboxId,
    container: &ContainerId,
) -> Result<ContainerState, RunscError> {
    let failed = |kind, detail: String| RunscError::new("state file", container, kind, detail);
    let path = paths.root().join(format!("{container}_sandbox:{sandbox}.state"));
    let file =
        File::open(&path).map_err(|e| failed(Kind::NoSuchContainer, format!("{}: {e}", path.display())))?;
    let mut text = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut text)
        .map_err(|e| failed(Kind::Failed, format!("{}: {e}", path.display())))?;
    let stored: Stored = serde_json::from_slice(&text)
        .map_err(|e| failed(Kind::Protocol, format!("{}: {e}", path.display())))?;
    let control_socket = stored.sandbox.control_socket_path;
    if control_socket.parent() != Some(paths.root()) {
        let detail = format!("control socket {} isn't in the sandbox's directory", control_socket.display());
        return Err(failed(Kind::Protocol, detail));
    }
    Ok(ContainerState { sandbox_pid: stored.sandbox.pid, gofer_pid: stored.gofer_pid, control_socket })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_stored(text: &str) -> Result<ContainerState, RunscError> {
        let dir = tempfile::tempdir().unwrap();
        let paths = SandboxPaths::new(dir.path(), dir.path());
        std::fs::create_dir(paths.root()).unwrap();
        let text = text.replace("ROOT", paths.root().to_str().unwrap());
        #[allow(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(paths.root().join("c_sandbox:s.state"), text).unwrap();
        read(&paths, &SandboxId::new("s").unwrap(), &ContainerId::new("c").unwrap())
    }

    #[test]
    fn the_pids_and_the_control_socket_are_read() {
        let state = read_stored(
            r#"{"id":"c","goferPid":7,"sandbox":{"pid":8,"controlSocketPath":"ROOT/runsc-s.sock","x":1}}"#,
        )
        .unwrap();
        assert_eq!((state.sandbox_pid, state.gofer_pid), (8, 7));
    }

    #[test]
    fn a_control_socket_outside_the_sandboxs_directory_is_refused() {
        let error =
            read_stored(r#"{"sandbox":{"pid":8,"controlSocketPath":"/tmp/runsc-s.sock"}}"#).unwrap_err();
        assert_eq!(error.kind, Kind::Protocol);
    }

    #[test]
    fn a_cut_state_file_is_refused() {
        assert_eq!(read_stored(r#"{"sandbox":{"pid":8,"#).unwrap_err().kind, Kind::Protocol);
    }
}

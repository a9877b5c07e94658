//! Execs over the control socket: a process in a running container, without a process on the host.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use serde::Serialize;

use super::ControlSocket;
use crate::{ContainerId, Kind, RunscError};

const METHOD: &str = "containerManager.ExecuteAsync";

/// The capability sets of a process, each as the kernel's bit mask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CapabilitySets {
    #[serde(rename = "PermittedCaps")]
    pub permitted: u64,
    #[serde(rename = "InheritableCaps")]
    pub inheritable: u64,
    #[serde(rename = "EffectiveCaps")]
    pub effective: u64,
    #[serde(rename = "BoundingCaps")]
    pub bounding: u64,
    #[serde(rename = "AmbientCaps")]
    pub ambient: u64,
}

/// A process to execute in a running container. Names are not resolved: users and groups are numbers.
///
/// The sentry sets HOME, looks the program up in PATH, and applies the container's seccomp profile; resource limits
/// are always those of the sandbox's root container, and the umask is 0022.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecProcess {
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Absolute.
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub capabilities: CapabilitySets,
    pub no_new_privileges: bool,
    /// Whether the streams are one terminal.
    pub terminal: bool,
}

/// The sentry's `control.ExecArgs` (gVisor `pkg/sentry/control/proc.go`), as far as they come from outside.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExecArgs<'a> {
    #[serde(rename = "filename")]
    filename: &'a str,
    #[serde(rename = "argv")]
    argv: &'a [String],
    #[serde(rename = "envv")]
    envv: &'a [String],
    #[serde(rename = "wd")]
    working_directory: &'a str,
    #[serde(rename = "KUID")]
    uid: u32,
    #[serde(rename = "KGID")]
    gid: u32,
    #[serde(rename = "ExtraKGIDs")]
    extra_gids: &'a [u32],
    no_new_privileges: bool,
    capabilities: &'a CapabilitySets,
    stdio_is_pty: bool,
    #[serde(rename = "SupportTTYs")]
    support_ttys: bool,
    #[serde(rename = "GuestFDs")]
    guest_fds: [i32; 3],
    #[serde(rename = "ContainerID")]
    container: &'a str,
}

impl ControlSocket {
    /// Starts a process in `container` with `stdio` as its streams, of which the sentry gets copies. Returns its pid
    /// in the container.
    ///
    /// # Errors
    /// [`Kind::ProgramNotFound`] where there is no such program, [`Kind::BadSpec`] where there is no such directory.
    pub async fn execute(
        &self,
        container: &ContainerId,
        process: &ExecProcess,
        stdio: &[OwnedFd; 3],
        limit: Duration,
    ) -> Result<i32, RunscError> {
        let args = ExecArgs {
            filename: "",
            argv: &process.args,
            envv: &process.env,
            working_directory: &process.cwd,
            uid: process.uid,
            gid: process.gid,
            extra_gids: &process.additional_gids,
            no_new_privileges: process.no_new_privileges,
            capabilities: &process.capabilities,
            stdio_is_pty: process.terminal,
            support_ttys: true,
            guest_fds: [0, 1, 2],
            container: container.as_str(),
        };
        let files = [stdio[0].as_raw_fd(), stdio[1].as_raw_fd(), stdio[2].as_raw_fd()];
        let id = container.as_str();
        let pid = self.call_with_files::<i32>(METHOD, id, args, &files, Some(limit)).await?;
        pid.ok_or_else(|| RunscError::new(METHOD, id, Kind::Protocol, "an answer without a pid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_spelt_as_the_sentry_reads_them() {
        let (argv, capabilities) =
            (["true".to_owned()], CapabilitySets { bounding: 32, ..Default::default() });
        let args = ExecArgs {
            filename: "",
            argv: &argv,
            envv: &[],
            working_directory: "/",
            uid: 1,
            gid: 2,
            extra_gids: &[3],
            no_new_privileges: true,
            capabilities: &capabilities,
            stdio_is_pty: false,
            support_ttys: true,
            guest_fds: [0, 1, 2],
            container: "c",
        };
        assert_eq!(
            serde_json::to_string(&args).unwrap(),
            "{\"filename\":\"\",\"argv\":[\"true\"],\"envv\":[],\"wd\":\"/\",\"KUID\":1,\"KGID\":2,\
             \"ExtraKGIDs\":[3],\"NoNewPrivileges\":true,\"Capabilities\":{\"PermittedCaps\":0,\
             \"InheritableCaps\":0,\"EffectiveCaps\":0,\"BoundingCaps\":32,\"AmbientCaps\":0},\
             \"StdioIsPty\":false,\"SupportTTYs\":true,\"GuestFDs\":[0,1,2],\"ContainerID\":\"c\"}"
        );
    }
}

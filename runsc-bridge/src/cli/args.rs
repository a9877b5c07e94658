//! Command lines as pure functions: what the sandbox is asked for, spelt in runsc's flags.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

use super::{CreateCall, SandboxPaths};
use crate::{ContainerId, Kind, RunscError};

/// Flags that an operator may add. The ones missing here are ours to set, or would open the host to the guest.
pub const ALLOWED_FLAGS: &[&str] = &[
    "cpu-num-from-quota",
    "file-access",
    "file-access-mounts",
    "gso",
    "host-settings",
    "num-network-channels",
    "qdisc",
    "qdisc-tbf-burst",
    "qdisc-tbf-rate",
    "rx-checksum-offload",
    "software-gso",
    "strace",
    "strace-log-size",
    "strace-syscalls",
    "systrap-disable-syscall-patching",
    "tx-checksum-offload",
    "watchdog-action",
];

/// How every sandbox of a policy is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    platform: String,
    network: String,
    overlay2: String,
    directfs: bool,
    debug_dir: Option<OsString>,
    allow_suid: bool,
    flags: BTreeMap<String, String>,
}

/// [`Settings`] as they come from outside, by name.
#[derive(Debug, Clone, Default)]
pub struct SettingsInput<'a> {
    /// `systrap`, `kvm` or `ptrace`.
    pub platform: &'a str,
    /// `sandbox`, `none` or `host`.
    pub network: &'a str,
    /// Where guest writes to the root file system go.
    pub overlay2: &'a str,
    /// Whether the sentry opens files itself, on descriptors of the gofer.
    pub directfs: bool,
    /// Where runsc's own debug logs go; none unless wanted.
    pub debug_dir: Option<&'a Path>,
    /// Whether programs may gain privileges by being executed, where their container lets them.
    pub allow_suid: bool,
    /// Further flags, each from [`ALLOWED_FLAGS`].
    pub flags: BTreeMap<String, String>,
}

impl Settings {
    /// Checks the further flags and freezes the settings.
    ///
    /// # Errors
    /// [`Kind::FlagNotAllowed`] names the first flag that isn't allowed.
    pub fn new(input: SettingsInput<'_>) -> Result<Self, RunscError> {
        if let Some(flag) = input.flags.keys().find(|f| !ALLOWED_FLAGS.contains(&f.as_str())) {
            let detail = format!("flag {flag:?} isn't one of {}", ALLOWED_FLAGS.join(", "));
            return Err(RunscError::new("flags", "", Kind::FlagNotAllowed, detail));
        }
        Ok(Self {
            platform: input.platform.to_owned(),
            network: input.network.to_owned(),
            overlay2: input.overlay2.to_owned(),
            directfs: input.directfs,
            debug_dir: input.debug_dir.map(Into::into),
            allow_suid: input.allow_suid,
            flags: input.flags,
        })
    }

    /// The same settings for a sandbox on the host's network. Such a one has no user namespace of its own, so it doesn't
    /// open files itself: what it needs for that would be capabilities on the host.
    #[must_use]
    pub fn on_host_network(mut self) -> Self {
        "host".clone_into(&mut self.network);
        self.directfs = false;
        self
    }
}

fn flag(name: &str, value: impl Into<OsString>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value.into());
    flag
}

/// What stands before every verb. `log` is a descriptor that the child inherits under its number.
pub(super) fn global(settings: &Settings, paths: &SandboxPaths, log: BorrowedFd<'_>) -> Vec<OsString> {
    let mut argv = vec![
        flag("root", paths.root()),
        flag("shared-root", paths.shared()),
        flag("log", format!("/proc/self/fd/{}", log.as_raw_fd())),
        flag("log-format", "json"),
        flag("platform", &settings.platform),
        flag("network", &settings.network),
        flag("overlay2", &settings.overlay2),
        flag("directfs", settings.directfs.to_string()),
        // An idle control connection must not delay the sandbox's exit.
        flag("control-rpc-stop-timeout", "0"),
        // Limits inside the sandbox are enforced with version 2 only.
        flag("in-sandbox-cgroup", "v2"),
        // Without it a container's own profile is read and not applied.
        flag("oci-seccomp", "true"),
        flag("allow-suid", settings.allow_suid.to_string()),
    ];
    if let Some(dir) = &settings.debug_dir {
        argv.push(flag("debug", "true"));
        let mut target = dir.clone();
        target.push("/");
        argv.push(flag("debug-log", target));
    }
    argv.extend(settings.flags.iter().map(|(name, value)| flag(name, value)));
    argv
}

pub(super) fn create(call: &CreateCall<'_>) -> Vec<OsString> {
    let mut argv = Vec::new();
    if call.systemd_cgroup {
        // Global, so before the verb. runsc would guess it from the path's form.
        argv.push(flag("systemd-cgroup", "true"));
    }
    if let Some(log) = call.panic_log {
        argv.push(flag("panic-log", log));
    }
    argv.extend(["create".into(), "--bundle".into(), call.bundle.into()]);
    if let Some(socket) = call.console_socket {
        argv.extend(["--console-socket".into(), socket.into()]);
    }
    argv.push(call.container.as_str().into());
    argv
}

pub(super) fn start(container: &ContainerId) -> Vec<OsString> {
    vec!["start".into(), container.as_str().into()]
}

pub(super) fn checkpoint(image: &Path, leave_running: bool, container: &ContainerId) -> Vec<OsString> {
    let mut argv = vec!["checkpoint".into(), "--image-path".into(), image.into()];
    if leave_running {
        argv.push("--leave-running".into());
    }
    argv.push(container.as_str().into());
    argv
}

pub(super) fn restore(image: &Path, container: &ContainerId) -> Vec<OsString> {
    vec!["restore".into(), "--detach".into(), "--image-path".into(), image.into(), container.as_str().into()]
}

pub(super) fn delete(container: &ContainerId) -> Vec<OsString> {
    vec!["delete".into(), "--force".into(), container.as_str().into()]
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn settings(flags: &[(&str, &str)]) -> Result<Settings, RunscError> {
        Settings::new(SettingsInput {
            platform: "systrap",
            network: "sandbox",
            overlay2: "root:memory",
            directfs: true,
            debug_dir: None,
            allow_suid: true,
            flags: flags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        })
    }

    fn joined(argv: Vec<OsString>) -> String {
        argv.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn every_call_names_the_sandboxs_own_root() {
        let paths = SandboxPaths::new(Path::new("/run/curfew/s/0"), Path::new("/run/curfew/shared"));
        let log = std::io::stdin();
        let argv = global(&settings(&[("gso", "false")]).unwrap(), &paths, log.as_fd());
        assert_eq!(
            joined(argv),
            "--root=/run/curfew/s/0/r --shared-root=/run/curfew/shared --log=/proc/self/fd/0 --log-format=json \
             --platform=systrap --network=sandbox --overlay2=root:memory --directfs=true \
             --control-rpc-stop-timeout=0 --in-sandbox-cgroup=v2 --oci-seccomp=true --allow-suid=true --gso=false"
        );
    }

    #[test]
    fn a_sandbox_on_the_hosts_network_opens_no_files_itself() {
        let paths = SandboxPaths::new(Path::new("/s"), Path::new("/shared"));
        let argv =
            joined(global(&settings(&[]).unwrap().on_host_network(), &paths, std::io::stdin().as_fd()));
        assert!(argv.contains(" --network=host ") && argv.contains(" --directfs=false "), "{argv}");
    }

    #[test]
    fn a_flag_that_is_not_on_the_list_is_refused() {
        for name in ["host-uds", "root", "rootless", "allow-flag-override", "network"] {
            let error = settings(&[(name, "all")]).unwrap_err();
            assert_eq!(error.kind, Kind::FlagNotAllowed, "{name}");
        }
    }

    #[test]
    fn verbs_name_the_container_last() {
        let id = ContainerId::new("c1").unwrap();
        let call = |console_socket, systemd_cgroup, panic_log| {
            joined(create(&CreateCall {
                container: &id,
                bundle: Path::new("/b"),
                stdio: None,
                console_socket,
                systemd_cgroup,
                panic_log,
                limit: std::time::Duration::ZERO,
            }))
        };
        assert_eq!(call(None, false, None), "create --bundle /b c1");
        assert_eq!(call(Some(Path::new("/s")), false, None), "create --bundle /b --console-socket /s c1");
        let panic_log = Some(Path::new("/p"));
        assert_eq!(call(None, true, panic_log), "--systemd-cgroup=true --panic-log=/p create --bundle /b c1");
        assert_eq!(joined(start(&id)), "start c1");
        assert_eq!(joined(delete(&id)), "delete --force c1");
        let image = Path::new("/i");
        assert_eq!(joined(checkpoint(image, true, &id)), "checkpoint --image-path /i --leave-running c1");
        assert_eq!(joined(checkpoint(image, false, &id)), "checkpoint --image-path /i c1");
        assert_eq!(joined(restore(image, &id)), "restore --detach --image-path /i c1");
    }
}

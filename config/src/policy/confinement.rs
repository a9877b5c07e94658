//! What a pod may have and ask for: ceilings, permissions and filters.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The most that a pod or a container can have, whatever it asks for; what one gets that asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory for a sandbox.
    pub memory: u64,
    /// Thousandths of a CPU for a sandbox.
    pub cpu: u64,
    /// Processes and threads of a container, enforced inside the sandbox.
    pub pids: u64,
    /// Bytes of `/dev/shm`, which all containers of a pod share. They count in the pod's memory.
    pub shm: u64,
    /// Bytes of `/dev/shm` in a pod that asks for nothing; at most `shm`.
    pub shm_default: u64,
    /// Bytes of a container's output; `None` is no limit, and then the shim doesn't see the output.
    pub log_size: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 2 << 30, cpu: 2000, pids: 512, shm: 1 << 30, shm_default: 64 << 20, log_size: None }
    }
}

/// What a pod may ask for beyond what every pod may. All of it is off unless the node's own files allow it.
///
/// Written down with each sandbox; what an earlier version didn't know reads as its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// The host's network, as `hostNetwork` asks for it.
    pub host_network: Permission,
    /// The host's PID and IPC namespaces, which are never shared: the wish is refused, or has no effect.
    pub host_namespaces: HostNamespaces,
    /// All capabilities inside the sandbox, and no profile.
    pub privileged: Permission,
    /// Directories of the host that are neither kubelet's nor containerd's.
    pub host_path: Permission,
    /// Programs that containerd has the runtime start on the host around a container's life.
    pub hooks: Permission,
    /// Whether programs may gain privileges by being executed.
    pub no_new_privs: NoNewPrivs,
    /// Whether output may go to a program on the host, as nerdctl asks for it (`binary://`).
    pub binary_logger: bool,
}

/// Whether a wish is granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    #[default]
    Refuse,
    Allow,
}

impl Permission {
    pub(crate) const ALL: [Self; 2] = [Self::Refuse, Self::Allow];

    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Allow => "allow",
        }
    }
}

/// What becomes of a wish for the host's PID or IPC namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostNamespaces {
    #[default]
    Refuse,
    /// The pod gets its own.
    Ignore,
}

impl HostNamespaces {
    pub(crate) const ALL: [Self; 2] = [Self::Refuse, Self::Ignore];

    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Ignore => "ignore",
        }
    }
}

/// Whether set-uid programs and file capabilities work inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoNewPrivs {
    /// As the pod says, by `allowPrivilegeEscalation`.
    #[default]
    Pod,
    /// They never do.
    Always,
}

impl NoNewPrivs {
    pub(crate) const ALL: [Self; 2] = [Self::Pod, Self::Always];

    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Always => "always",
        }
    }
}

/// Capabilities inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Those that a pod can have at most, as `CAP_…`, sorted; one that is privileged where that is allowed has all.
    pub ceiling: Vec<String>,
}

impl Default for Capabilities {
    /// What containerd gives a container that asks for nothing.
    fn default() -> Self {
        let names = [
            "AUDIT_WRITE",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "MKNOD",
            "NET_BIND_SERVICE",
            "NET_RAW",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ];
        Self { ceiling: names.map(|name| format!("CAP_{name}")).to_vec() }
    }
}

/// What of a pod's annotations reaches runsc, where some are a way to the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Annotations {
    /// Whole keys, besides those that every sandbox needs. Sorted.
    pub allow: Vec<String>,
}

/// Where mounts that aren't the pod author's choice come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mounts {
    /// kubelet's root directory, with the pods' volumes.
    pub kubelet: PathBuf,
    /// containerd's directories, with what CRI makes for a pod. Sorted.
    pub containerd: Vec<PathBuf>,
}

impl Default for Mounts {
    fn default() -> Self {
        Self {
            kubelet: PathBuf::from("/var/lib/kubelet"),
            containerd: vec![PathBuf::from("/run/containerd"), PathBuf::from("/var/lib/containerd")],
        }
    }
}

/// Filters of system calls. The sandbox's own of the host are always on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seccomp {
    /// The filter around the shim and all that it starts.
    pub outer: OuterFilter,
    /// Whether that filter lets runsc use the kernel's `io_uring`.
    pub io_uring: bool,
    /// The guest's profile, enforced by the sandbox.
    pub guest: GuestProfile,
}

/// What becomes of a system call that the outer filter denies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OuterFilter {
    /// It fails with EPERM.
    #[default]
    Enforce,
    /// It is made, and noted in the kernel's audit log.
    Log,
    /// There is no filter.
    Off,
}

impl OuterFilter {
    pub(crate) const ALL: [Self; 3] = [Self::Enforce, Self::Log, Self::Off];

    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Log => "log",
            Self::Off => "off",
        }
    }
}

/// Which profile a guest has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestProfile {
    /// The one that its spec brings, if any.
    #[default]
    Pod,
    /// That, and Kubernetes' `RuntimeDefault` for a pod that brings none.
    RuntimeDefault,
}

impl GuestProfile {
    pub(crate) const ALL: [Self; 2] = [Self::Pod, Self::RuntimeDefault];

    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::RuntimeDefault => "runtime-default",
        }
    }
}

//! The node's policy: values that have been understood and checked.
//!
//! The types serialise because the shim keeps the policy a pod was created under in the pod's record.

mod confinement;
mod ending;
mod opt_in;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub use self::confinement::{
    Annotations, Capabilities, GuestProfile, HostNamespaces, Limits, Mounts, NoNewPrivs, OuterFilter,
    Permission, Pod, Seccomp,
};
pub use self::ending::{Checkpoint, Termination};
pub use self::opt_in::{CpuBudget, Exec, Idle};
use serde::{Deserialize, Serialize};

/// What this node allows and how it runs sandboxes, valid as a whole. The default is the built-in policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePolicy {
    pub runsc: Runsc,
    pub state: State,
    pub protocol: Protocol,
    pub timeout: Timeout,
    #[serde(default)]
    pub checkpoint: Checkpoint,
    #[serde(default)]
    pub idle: Idle,
    #[serde(default)]
    pub cpu_budget: CpuBudget,
    #[serde(default)]
    pub exec: Exec,
    #[serde(default)]
    pub termination: Termination,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub pod: Pod,
    #[serde(default)]
    pub capabilities: Capabilities,
    #[serde(default)]
    pub annotations: Annotations,
    #[serde(default)]
    pub mounts: Mounts,
    #[serde(default)]
    pub seccomp: Seccomp,
    pub calls: Calls,
}

/// How runsc is found and set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runsc {
    /// The binary; `None` means beside the shim, then in `PATH`.
    pub path: Option<PathBuf>,
    pub platform: Platform,
    pub network: Network,
    /// Where a guest's writes to its root go, in runsc's own notation, for example `root:memory,size=1g`.
    pub overlay2: String,
    /// Whether the sandbox opens files itself, on descriptors from the gofer, or asks the gofer for each.
    pub directfs: bool,
    /// Further flags by name (without dashes) and value. Well-formed; not yet known to be allowed.
    pub flags: BTreeMap<String, String>,
    /// Whether runsc writes its own debug log, below `debug_dir`.
    pub debug: bool,
    pub debug_dir: PathBuf,
}

/// How the sandbox intercepts its guest's system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    Systrap,
    Kvm,
    Ptrace,
}

impl Platform {
    pub(crate) const ALL: [Self; 3] = [Self::Systrap, Self::Kvm, Self::Ptrace];

    /// The name used in files, which is also runsc's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Systrap => "systrap",
            Self::Kvm => "kvm",
            Self::Ptrace => "ptrace",
        }
    }
}

/// Whose network stack a guest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The sandbox's own, on the pod's interfaces.
    Sandbox,
    /// Loopback alone.
    None,
    /// The host kernel's, in the pod's network namespace.
    Host,
}

impl Network {
    pub(crate) const ALL: [Self; 3] = [Self::Sandbox, Self::None, Self::Host];

    /// The name used in files, which is also runsc's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

impl Default for Runsc {
    fn default() -> Self {
        Self {
            path: None,
            platform: Platform::Systrap,
            network: Network::Sandbox,
            overlay2: "root:memory".to_owned(),
            directfs: true,
            flags: BTreeMap::new(),
            debug: false,
            debug_dir: PathBuf::from("/var/log/curfew"),
        }
    }
}

/// What Curfew keeps on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Sockets and records of living pods; need not survive a reboot. Short: socket paths have 107 bytes.
    pub dir: PathBuf,
    /// Deadlines and verdicts by pod; must survive a reboot.
    pub ledger: PathBuf,
    /// How long an expired pod is remembered, and refused, after its last attempt to come back.
    pub retention: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/run/curfew"),
            ledger: PathBuf::from("/var/lib/curfew/pods"),
            retention: Duration::from_hours(24),
        }
    }
}

/// What the shim speaks with containerd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Version of the task service: 2, or 3 where every containerd is 2.0 or later.
    pub version: u32,
}

impl Default for Protocol {
    fn default() -> Self {
        Self { version: 2 }
    }
}

/// How long pods live and how they end. `default <= max` and `grace <= max_grace` hold in a loaded policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeout {
    /// The wall-clock limit of a pod that asks for nothing, from its workload's start.
    pub default: Duration,
    /// The limit that no pod exceeds; a class may lower it.
    pub max: Duration,
    /// Whether a pod may ask for more than `default`, up to `max`.
    pub raise: bool,
    /// Time between TERM and KILL for a pod that asks for nothing; zero is allowed.
    pub grace: Duration,
    /// The grace that no pod exceeds; a class may lower it.
    pub max_grace: Duration,
    /// How long a pod may be there without a workload that has started. A class may lower it.
    pub startup: Duration,
    pub on_shim_loss: OnShimLoss,
    pub on_timeout: OnTimeout,
    /// Whether a pod's containers see their deadline, in a directory of their own.
    #[serde(default)]
    pub expose: bool,
}

/// What becomes of a pod whose shim died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnShimLoss {
    /// It is killed at once.
    Kill,
    /// It runs on until its time is up, or until containerd cleans up after its shim, which a containerd that runs does at
    /// once.
    Hold,
}

impl OnShimLoss {
    /// All values.
    pub const ALL: [Self; 2] = [Self::Kill, Self::Hold];

    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hold => "hold",
        }
    }
}

/// What becomes of a pod whose time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// TERM, the grace, then KILL.
    Kill,
    /// It is stopped and written to the disk, then KILL.
    Checkpoint,
}

impl OnTimeout {
    /// All values.
    pub const ALL: [Self; 2] = [Self::Kill, Self::Checkpoint];

    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Checkpoint => "checkpoint",
        }
    }
}

impl Default for Timeout {
    fn default() -> Self {
        Self {
            default: Duration::from_mins(10),
            max: Duration::from_hours(24),
            raise: false,
            grace: Duration::from_secs(5),
            max_grace: Duration::from_secs(30),
            startup: Duration::from_hours(1),
            on_shim_loss: OnShimLoss::Kill,
            on_timeout: OnTimeout::Kill,
            expose: false,
        }
    }
}

/// Limits of single calls to runsc or a sandbox's control socket; not of a pod's life.
///
/// Written down with each sandbox; a limit that an earlier version didn't know reads as its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    pub create: Duration,
    pub start: Duration,
    pub signal: Duration,
    pub delete: Duration,
    /// `runsc --version`, asked once at the shim's start.
    pub probe: Duration,
    /// `runsc checkpoint` and `runsc restore`, which write and read the sandbox's memory.
    pub checkpoint: Duration,
    pub state: Duration,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            create: Duration::from_secs(60),
            start: Duration::from_secs(30),
            signal: Duration::from_secs(5),
            delete: Duration::from_secs(20),
            probe: Duration::from_secs(10),
            checkpoint: Duration::from_secs(120),
            state: Duration::from_secs(2),
        }
    }
}

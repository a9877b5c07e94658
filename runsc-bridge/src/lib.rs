//! All that Curfew knows of gVisor's `runsc`.
//!
//! Two ways lead to a sandbox. [`cli`] starts `runsc` for the verbs whose arguments change between releases (create,
//! start, delete); [`urpc`] speaks to the sentry's control socket for what has been stable for years (signal, wait).
//! [`failure`] is the only place that reads runsc's words, [`state_file`] the only one that reads its files,
//! [`version`] decides which builds are good enough, and [`mod@features`] says what a build can do.
//!
//! The crate knows nothing of policy, containerd or Kubernetes. It starts children in one module, [`cli::spawn`], and
//! leaves reaping to whoever implements [`ChildExits`].

pub mod cli;
pub mod failure;
pub mod features;
pub mod id;
pub mod state_file;
pub mod urpc;
pub mod version;

use std::process::ExitStatus;

use nix::unistd::Pid;
use tokio::sync::oneshot;

pub use cli::{Cli, CreateCall, GuestStdio, SandboxPaths, Settings, SettingsInput, StartCall};
pub use failure::{Kind, RunscError};
pub use features::{Features, features};
pub use id::{ContainerId, ExecId, IdError, SandboxId};
pub use urpc::{
    CapabilitySets, ContainerUsage, ControlSocket, ExecProcess, GuestProcess, SignalScope, tree_of,
};

/// Whoever reaps this process's children, orphans that were adopted included.
///
/// Only one place may wait for children, or statuses get lost: a subreaper has to reap processes that nobody asked for.
pub trait ChildExits: Send + Sync {
    /// Returns a channel that delivers the exit status of child `pid`, once.
    ///
    /// Must be called before the caller yields to the runtime after starting the child.
    fn exit_of(&self, pid: Pid) -> oneshot::Receiver<ExitStatus>;
}

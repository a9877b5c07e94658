//! What the whole-system tests stand on: a private containerd, bundles, a task
//! client that waits with limits, and a check that a test leaves nothing behind.
//!
//! A test reads as prose. [`with`] gives it a containerd of its own, and when the
//! test is over, whether it passed or not, looks at the machine for anything that
//! wasn't there before:
//!
//! ```no_run
//! use harness::{Runtime, Spec};
//!
//! harness::with(Runtime::Curfew, |h| {
//!     let task = h.create(Spec::new(["sh", "-c", "echo hello; exit 3"]));
//!     task.start().unwrap();
//!     assert_eq!(task.wait().unwrap().status, 3);
//!     assert_eq!(task.stdout(), "hello\n");
//!     task.delete().unwrap();
//! });
//! ```
//!
//! `scripts/test` builds the shim and obtains the rest. By hand: `CURFEW_SHIM` and
//! `CURFEW_RUNSC` name other binaries, and with `CURFEW_KEEP=1` a test's directory
//! stays for a look at it; `CURFEW_OLD_SHIM` is an earlier shim for the tests of upgrades.
//!
//! The machine's own containerd, if any, is not touched: every test has a
//! directory and a containerd namespace, both named `curfew-XXXXXX`, and only what
//! bears that name is ever ended or removed.
#![cfg(feature = "harness")]
#![allow(
    clippy::disallowed_methods,
    reason = "these start programs and write files as a test needs them; nothing here must survive a crash"
)]

pub mod bundle;
pub mod calls;
pub mod cgroup;
pub mod checkpoint;
pub mod container;
pub mod containerd;
pub mod ctl;
pub mod events;
pub mod exec;
pub mod image;
pub mod janitor;
pub mod leftovers;
pub mod machine;
pub mod proc;
pub mod rpc;
pub mod shim;
pub mod stdio;
pub mod task;
pub mod version;
pub mod volume;

mod kubelet;
mod orphans;
mod pods;
mod rules;
mod run;

pub use bundle::Spec;
pub use calls::{Exit, State, Status};
pub use container::Container;
pub use containerd::{Containerd, Options};
pub use events::{Event, Events};
pub use exec::{Exec, ExecSpec};
pub use nix::sys::signal::Signal;
pub use rpc::{Code, RpcError};
pub use run::{Harness, Output, Pod, Runtime, with, with_options, with_version};
pub use stdio::Stdio;
pub use task::Task;

//! The node's policy and a pod's wishes, read, checked and merged into one frozen policy.
//!
//! ```text
//! config.toml ─┐
//! conf.d/*.toml├▶ merged TOML tree ─▶ FileConfig ─▶ NodePolicy ─for_pod─▶ PodPolicy
//! class        ┘  (merge)             (file)        (value, ceiling) ▲    (frozen)
//!                                                  pod's annotations ┘
//! ```
//!
//! What was written (`file`) and what it means (`policy`) are two sets of types. Each file is a
//! *layer*; layers merge as trees and are typed as a whole, so that an error can name the file, the key,
//! the value and the rule. Nothing falls back silently: a wrong value is refused, an absent one takes the
//! built-in default written out in `default.toml`.
//!
//! Only [`load()`] and [`check()`] touch the disk. This crate knows neither containerd nor runsc's command line; which
//! of `runsc.flags` are allowed is decided where runsc is known.

mod annotation;
mod ceiling;
mod check;
mod error;
mod file;
mod load;
mod locate;
mod merge;
mod policy;
mod print;
pub mod units;
mod value;

#[cfg(test)]
mod tests;

pub use annotation::{Clamp, DEADLINE_FILE, PodPolicy, Setting, Why};
pub use check::check;
pub use error::{AnnotationError, ConfigError, Fault, Origin};
pub use load::{BASE_FILE, Class, DROP_IN_DIR, NodeFiles, load};
pub use policy::{
    Annotations, Calls, Capabilities, Checkpoint, CpuBudget, Exec, GuestProfile, HostNamespaces, Idle,
    Limits, Mounts, Network, NoNewPrivs, NodePolicy, OnShimLoss, OnTimeout, OuterFilter, Permission,
    Platform, Pod, Protocol, Runsc, Seccomp, State, Termination, Timeout,
};
pub use units::{DurationError, quantity::QuantityError};

//! The sentry's control socket: one JSON value each way over a unix stream, one call a connection.
//!
//! A connection that stays open after its reply would delay the sandbox's exit, so each call connects, asks and closes
//! (gVisor `pkg/urpc/urpc.go`; the wire form has not changed since 2018).

mod client;
mod execute;
mod frame;
mod method;
mod processes;

pub use client::ControlSocket;
pub use execute::{CapabilitySets, ExecProcess};
pub use method::{ContainerUsage, SignalScope};
pub use processes::{GuestProcess, tree_of};

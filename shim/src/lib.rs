//! containerd's shim for gVisor sandboxes with wall-clock deadlines.
//!
//! And `curfewctl`, the operator's tool, which reads what the shims write down.
//!
//! One binary, five lives: containerd executes it with `start`, `delete` or `-info`, `start` executes it once more to be
//! the pod's shim, and that once more to be its watchdog. `shim/README.md` has the picture.

mod args;
mod boot;
mod cgroup;
mod command;
mod confine;
mod connections;
pub mod ctl;
mod deadline;
mod deadline_file;
mod durable;
mod error;
mod events;
mod last_checkpoint;
mod ledger;
mod lifecycle;
mod logging;
mod memory;
mod oom;
mod operator;
mod outer_filter;
mod panic_log;
mod pids_limit;
mod pod;
mod priority;
mod privileges;
mod process;
mod readiness;
mod reaper;
mod record;
mod resources;
mod rootfs;
mod sandbox_dir;
mod serve;
mod spec;
mod stats;
mod stdio;
mod termination;
mod watchdog;
mod watched;
mod wire;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use args::{Action, Args};
use nix::sys::stat::{Mode, umask};
use sandbox_dir::SandboxDir;

/// What `containerd-shim-curfew-v1` does.
pub fn main() -> ExitCode {
    // Before anything else: runsc makes its control socket with the mask it inherits.
    umask(Mode::from_bits_truncate(0o077));
    let result =
        Args::parse(std::env::args().skip(1)).map_err(anyhow::Error::from).and_then(|args| act(&args));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd merges both outputs of a failed call into the error that kubelet shows: one line, once.
            let line = format!("{error:#}").replace('\n', " ");
            let _ = writeln!(io::stderr().lock(), "curfew: {line}");
            ExitCode::FAILURE
        }
    }
}

fn act(args: &Args) -> anyhow::Result<()> {
    match args.action {
        Action::Start => boot::start(args),
        Action::Delete => boot::delete(args),
        Action::Info => boot::info(),
        Action::Version => boot::version(),
        Action::Serve => serve::serve(boot::inherited(&args.sandbox_dir)?),
        Action::Watchdog => watchdog::run(SandboxDir::at(args.sandbox_dir.clone())),
    }
}

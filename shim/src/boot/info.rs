//! `-info` and `-v`.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use runsc_bridge::Features;

use super::{
    read_stdin,
    start::{load_policy, resolve_runsc},
};
use crate::{reaper::Reaper, wire::bootstrap};

/// Describes the runtime to containerd, in milliseconds: from 2.2 on this is on the way of the first Create.
///
/// # Errors
/// One line: options that don't parse, a configuration that is wrong, a runsc that is missing or doesn't answer.
pub(crate) fn info() -> anyhow::Result<()> {
    let options = read_stdin().context("reading the runtime options")?;
    let policy = load_policy(&bootstrap::parse_options_message(&options)?)?;
    let features = ask(&resolve_runsc(&policy)?, policy.calls.probe)?;
    let reply = bootstrap::info_reply(&options, features)?;
    io::stdout().lock().write_all(&reply).context("writing the reply")
}

fn ask(runsc: &Path, limit: Duration) -> anyhow::Result<Features> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let reaper = Reaper::start().context("watching children")?;
        Ok(runsc_bridge::features(runsc, limit, &reaper).await?)
    })
}

/// Prints the version for a person.
pub(crate) fn version() -> anyhow::Result<()> {
    let line = concat!("containerd-shim-curfew-v1: version ", env!("CARGO_PKG_VERSION"), "\n");
    io::stdout().lock().write_all(line.as_bytes()).context("writing the version")
}

//! `-info` and `-v`.

use std::io::{self, Write};

use anyhow::Context;

use super::read_stdin;
use crate::wire::bootstrap;

/// Describes the runtime to containerd, in milliseconds: from 2.2 on this is on the way of the first Create.
pub(crate) fn info() -> anyhow::Result<()> {
    let options = read_stdin().context("reading the runtime options")?;
    bootstrap::parse_options_message(&options)?;
    let reply = bootstrap::info_reply(&options)?;
    io::stdout().lock().write_all(&reply).context("writing the reply")
}

/// Prints the version for a person.
pub(crate) fn version() -> anyhow::Result<()> {
    let line = concat!("containerd-shim-curfew-v1: version ", env!("CARGO_PKG_VERSION"), "\n");
    io::stdout().lock().write_all(line.as_bytes()).context("writing the version")
}

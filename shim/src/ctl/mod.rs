//! `curfewctl`, the operator's tool. It shares the shim's crate and nothing of its process: what only this needs isn't linked
//! there.
//!
//! Exit status: 0 for success, 1 for what was asked and is wrong, 2 for a command line that cannot be understood.

mod annotations;
mod config;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// Looks at what Curfew does on this node.
#[derive(Debug, Parser)]
#[command(name = "curfewctl", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at the node's configuration, without a node.
    #[command(subcommand)]
    Config(config::Command),
}

/// What `curfewctl` does.
pub fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Config(command) => config::run(&command),
    };
    match result {
        Ok(text) => match io::stdout().lock().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&[format!("cannot write the answer: {error}")]),
        },
        Err(lines) => failed(&lines),
    }
}

/// What went wrong, each on a line of its own.
type Failure = Vec<String>;

fn failed(lines: &[String]) -> ExitCode {
    complain(lines);
    ExitCode::FAILURE
}

/// Nobody is left to tell if that fails.
fn complain(lines: &[String]) {
    let mut out = io::stderr().lock();
    for line in lines {
        let _ = writeln!(out, "curfewctl: {line}");
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_described_without_contradiction() {
        Args::command().debug_assert();
    }
}

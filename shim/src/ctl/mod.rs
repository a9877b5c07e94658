//! `curfewctl`, the operator's tool. It shares the shim's crate and nothing of its process: what only this needs isn't linked
//! there.
//!
//! Exit status: 0 for success, 1 for what was asked and is wrong, 2 for a command line that cannot be understood.

mod annotations;
mod config;
mod node;
mod pods;
mod reap;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};

/// Looks at what Curfew does on this node.
#[derive(Debug, Parser)]
#[command(name = "curfewctl", version)]
struct Args {
    #[command(flatten)]
    places: node::Places,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at the node's configuration, without a node.
    #[command(subcommand)]
    Config(config::Command),
    /// Print the pods of this node that run or are remembered, and how much time they have.
    List {
        #[arg(short, long, value_enum, default_value = "table")]
        output: node::Output,
    },
    /// Print all that is known of one pod.
    Show {
        /// Its name, NAMESPACE/NAME, UID or sandbox id, or the beginning of an id
        pod: String,
        #[arg(short, long, value_enum, default_value = "table")]
        output: node::Output,
    },
    /// Give a pod more time, up to what its class allows.
    Extend {
        /// As in show
        pod: String,
        /// How much more, such as 10m
        by: String,
    },
    /// End and remove what has outlived its shim: sandboxes, their processes, cgroups and mounts, and forget old pods.
    Reap {
        /// Only say what that would be
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the script by which a shell completes this tool's words, to be sourced.
    Completion { shell: clap_complete::Shell },
    /// End a pod now, with or without its shim.
    Kill {
        /// As in show
        pod: String,
    },
}

/// What `curfewctl` does.
pub fn main() -> ExitCode {
    let Args { places, command } = Args::parse();
    let result = match &command {
        Command::Config(command) => config::run(command),
        Command::List { output } => places.find().and_then(|node| node::list(&node, *output)),
        Command::Show { pod, output } => places.find().and_then(|node| node::show(&node, pod, *output)),
        Command::Extend { pod, by } => places.find().and_then(|node| node::extend(&node, pod, by)),
        Command::Completion { shell } => completion(*shell),
        Command::Reap { dry_run } => places.find().and_then(|node| reap::reap(&node, *dry_run)),
        Command::Kill { pod } => places.find().and_then(|node| node::kill(&node, pod)),
    };
    match result {
        Ok(text) => match io::stdout().lock().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&[format!("cannot write the answer: {error}")]),
        },
        Err(lines) => failed(&lines),
    }
}

fn completion(shell: clap_complete::Shell) -> Result<String, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "curfewctl", &mut script);
    String::from_utf8(script).map_err(|error| vec![error.to_string()])
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
    use super::*;

    #[test]
    fn there_is_a_script_for_each_shell() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let script = completion(shell).unwrap();
            assert!(script.contains("extend") && script.contains("curfewctl"), "{shell}");
        }
    }

    #[test]
    fn the_command_line_is_described_without_contradiction() {
        Args::command().debug_assert();
    }
}

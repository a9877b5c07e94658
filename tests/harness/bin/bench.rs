//! `bench`: how long what a node's user waits for takes with Curfew, beside bare
//! runsc, runc's shim and, where it can start, gVisor's own.
//!
//! All of them take turns in every round, so that a noisy machine is noisy for
//! all, and only what was taken in one run is compared. `scripts/bench` builds what
//! this needs and calls it.
#![allow(
    clippy::disallowed_methods,
    reason = "it starts programs and writes files as a test does; nothing here must survive a crash"
)]

#[path = "../bench/mod.rs"]
mod bench;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Harness, Options, Runtime};

use bench::bare::Bare;
use bench::memory::InMemory;
use bench::notes::{Figures, Subject};
use bench::shims::Shim;
use bench::{Plan, Result, machine, peer, table};

const USAGE: &str =
    "usage: bench [--rounds N] [--limit SECONDS] [--output-mib N] [--json FILE] [--peer FILE]";

fn main() -> ExitCode {
    let order = match Order::parse(std::env::args().skip(1)) {
        Ok(order) => order,
        Err(message) => {
            say(&message);
            return ExitCode::FAILURE;
        }
    };
    // A failure is a panic: so the harness ends and removes what was running.
    harness::with_options(Runtime::Curfew, Options::default(), |h| {
        if let Err(error) = run(h, &order) {
            panic!("failed to measure: {error}");
        }
    });
    ExitCode::SUCCESS
}

/// What to do.
#[derive(Debug)]
struct Order {
    plan: Plan,
    json: Option<PathBuf>,
    /// gVisor's own shim.
    peer: Option<PathBuf>,
}

impl Order {
    fn parse(mut args: impl Iterator<Item = String>) -> std::result::Result<Self, String> {
        let plan =
            Plan { rounds: 60, limit: Duration::from_secs(150), calls: 20, output_mib: 100, output_every: 4 };
        let mut order = Self { plan, json: None, peer: None };
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
            let number = || match value.parse::<u32>() {
                Ok(number @ 1..) => Ok(number),
                _ => Err(format!("{flag} takes a number above 0, not {value:?}")),
            };
            match flag.as_str() {
                "--rounds" => order.plan.rounds = number()? as usize,
                "--limit" => order.plan.limit = Duration::from_secs(number()?.into()),
                "--output-mib" => order.plan.output_mib = number()?.into(),
                "--json" => order.json = Some(value.into()),
                "--peer" => order.peer = Some(value.into()),
                _ => return Err(format!("unknown flag {flag}\n{USAGE}")),
            }
        }
        Ok(order)
    }
}

/// To stderr: stdout has the table alone.
fn say(line: &str) {
    // Nothing can be done about a closed stderr.
    let _ = writeln!(io::stderr(), "bench: {line}");
}

fn run(h: &Harness, order: &Order) -> Result<()> {
    let mut memory = InMemory::default();
    memory.state_of(&h.containerd)?;
    memory.cover(&h.containerd.dir().join("bare"))?;
    let mut bare = Bare::new(h.containerd.dir(), h.containerd.namespace())?;
    let on = |subject, runtime| {
        let harness = Harness { runtime, containerd: Arc::clone(&h.containerd) };
        Shim { subject, harness }
    };
    let mut shims = vec![on(Subject::Runc, Runtime::Runc), on(Subject::Curfew, Runtime::Curfew)];
    if let Some(program) = &order.peer {
        let shim = peer::start(program, h.containerd.dir())?;
        memory.state_of(&shim.harness.containerd)?;
        shims.push(shim);
    }
    // The first containers import the image and fill caches.
    one_round(&mut bare, &shims, 1, &Plan { calls: 1, ..order.plan.clone() }, &mut Figures::default())?;

    let facts = machine::facts();
    let mut figures = Figures::default();
    let start = Instant::now();
    for round in 0..order.plan.rounds {
        if start.elapsed() >= order.plan.limit {
            say(&format!("{round} rounds after {:.0?}: that's enough", start.elapsed()));
            break;
        }
        one_round(&mut bare, &shims, round, &order.plan, &mut figures)?;
    }
    say(&format!("measured for {:.0?}", start.elapsed()));
    let subjects: Vec<Subject> = [Subject::Bare].into_iter().chain(shims.iter().map(|s| s.subject)).collect();
    drop(memory);
    if order.peer.is_some() {
        peer::end(shims.remove(shims.len() - 1));
    }

    if let Some(path) = &order.json {
        std::fs::write(path, format!("{:#}\n", table::json(&facts, &subjects, &figures)))?;
    }
    io::stdout().write_all(table::markdown(&facts, &subjects, &figures).as_bytes())?;
    Ok(())
}

/// Each subject in turn, beginning with another one each time.
fn one_round(
    bare: &mut Bare,
    shims: &[Shim],
    round: usize,
    plan: &Plan,
    figures: &mut Figures,
) -> Result<()> {
    let count = shims.len() + 1;
    let with_output = round.is_multiple_of(plan.output_every);
    for turn in 0..count {
        match (round + turn) % count {
            0 => {
                let notes = &mut figures.notes(Subject::Bare);
                bare.lifecycle(notes, plan)?;
                if with_output {
                    bare.output(notes, plan)?;
                }
            }
            n => {
                let shim = &shims[n - 1];
                let notes = &mut figures.notes(shim.subject);
                let measured = shim.lifecycle(notes, plan);
                let measured =
                    measured.and_then(|()| if with_output { shim.output(notes, plan) } else { Ok(()) });
                measured.map_err(|error| format!("{}: {error}", shim.subject.name()))?;
            }
        }
    }
    Ok(())
}

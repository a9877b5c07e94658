//! `lateness`: how long after its deadline a sandbox is gone, with nothing of it left, and what it costs to be sure of that.
//!
//! A sandbox's end is when the kernel says that its processes have ended, not when anybody answers so.
//! `scripts/bench lateness` builds what this needs and calls it.
#![allow(
    clippy::disallowed_methods,
    reason = "it starts programs and writes files as a test does; nothing here must survive a crash"
)]

#[path = "../lateness/mod.rs"]
mod lateness;
#[path = "../bench/machine.rs"]
mod machine;
#[path = "../bench/memory.rs"]
mod memory;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use harness::{Harness, Options, Runtime, version};

use lateness::cost::{self, Variant};
use lateness::table::{self, Row, Target};
use lateness::{Result, series};
use memory::InMemory;

const USAGE: &str =
    "usage: lateness [--part alone|once|busy|lost|memory|start]… [--pods N] [--rounds PERCENT] [--json FILE]";
/// For a pod's Create and Start, with others there.
const PER_POD: Duration = Duration::from_millis(400);

/// What can be measured for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Alone,
    Once,
    Busy,
    Lost,
    Memory,
    Start,
}

impl Part {
    const ALL: [Self; 6] = [Self::Alone, Self::Once, Self::Busy, Self::Lost, Self::Memory, Self::Start];

    fn named(name: &str) -> Option<Self> {
        match name {
            "alone" => Some(Self::Alone),
            "once" => Some(Self::Once),
            "busy" => Some(Self::Busy),
            "lost" => Some(Self::Lost),
            "memory" => Some(Self::Memory),
            "start" => Some(Self::Start),
            _ => None,
        }
    }
}

/// What to do.
#[derive(Debug)]
struct Order {
    parts: Vec<Part>,
    /// How many at once.
    pods: usize,
    /// How much of the usual number of rounds.
    percent: usize,
    json: Option<PathBuf>,
}

impl Order {
    fn parse(mut args: impl Iterator<Item = String>) -> std::result::Result<Self, String> {
        let mut order = Self { parts: Vec::new(), pods: 100, percent: 100, json: None };
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
            let number = || match value.parse::<u32>() {
                Ok(number @ 1..) => Ok(number as usize),
                _ => Err(format!("{flag} takes a number above 0, not {value:?}")),
            };
            match flag.as_str() {
                "--part" => {
                    let part = Part::named(&value).ok_or(format!("no part is called {value:?}\n{USAGE}"))?;
                    order.parts.push(part);
                }
                "--pods" => order.pods = number()?,
                "--rounds" => order.percent = number()?,
                "--json" => order.json = Some(value.into()),
                _ => return Err(format!("unknown flag {flag}\n{USAGE}")),
            }
        }
        if order.parts.is_empty() {
            order.parts = Part::ALL.to_vec();
        }
        Ok(order)
    }

    fn rounds(&self, usual: usize) -> usize {
        (usual * self.percent / 100).max(1)
    }
}

fn main() -> ExitCode {
    let order = match Order::parse(std::env::args().skip(1)) {
        Ok(order) => order,
        Err(message) => {
            say(&message);
            return ExitCode::FAILURE;
        }
    };
    let facts = machine::facts();
    let mut rows = Vec::new();
    for part in order.parts.clone() {
        // Each has a containerd of its own. A failure is a panic: so the harness ends and removes what was running.
        let class = "[timeout]\nraise = true\n".into();
        harness::with_options(Runtime::Curfew, Options { class, ..Options::default() }, |h| {
            match measured(h, part, &order) {
                Ok(more) => rows.extend(more),
                Err(error) => panic!("failed to measure {part:?}: {error}"),
            }
        });
    }
    match show(&order, &facts, &rows) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("cannot show the figures: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// To stderr: stdout has the table alone.
fn say(line: &str) {
    // Nothing can be done about a closed stderr.
    let _ = writeln!(io::stderr(), "lateness: {line}");
}

fn show(order: &Order, facts: &[(&str, String)], rows: &[Row]) -> Result<()> {
    let is_emulated = machine::is_emulated();
    if let Some(path) = &order.json {
        std::fs::write(path, format!("{:#}\n", table::json(facts, rows, is_emulated)))?;
    }
    Ok(io::stdout().write_all(table::markdown(facts, rows, is_emulated).as_bytes())?)
}

fn measured(h: &Harness, part: Part, order: &Order) -> Result<Vec<Row>> {
    let mut in_memory = InMemory::default();
    in_memory.state_of(&h.containerd)?;
    // The first containers import the image and fill caches.
    series::alone(h, 1)?;
    say(&format!("{part:?}"));
    let rows = match part {
        Part::Alone => {
            let (late, by_hand) = series::alone_and_by_hand(h, order.rounds(200))?;
            vec![
                Row::new("alone", "ms", late, Target::P99(20.0)),
                Row::new("the same, killed by hand with its shim stopped", "ms", by_hand, Target::None),
            ]
        }
        Part::Once => at_once(h, order)?,
        Part::Busy => {
            let late = series::busy(h, order.rounds(50), 2)?;
            vec![Row::new("two busy programs on each processor", "ms", late, Target::P99(500.0))]
        }
        Part::Lost => {
            let late = series::shim_killed(h, order.rounds(20))?;
            vec![Row::new("shim killed, until the sandbox is gone", "ms", late, Target::Max(250.0))]
        }
        Part::Memory => {
            let (resident, private) = cost::watchdog_memory(h, order.rounds(10))?;
            vec![
                Row::new("watchdog, resident", "KiB", resident, Target::None),
                Row::new("watchdog, private", "KiB", private, Target::Max(1024.0)),
            ]
        }
        Part::Start => start(h, order.rounds(60))?,
    };
    drop(in_memory);
    Ok(rows)
}

fn at_once(h: &Harness, order: &Order) -> Result<Vec<Row>> {
    let (mut late, mut memory) = (Vec::new(), 0);
    for _ in 0..order.rounds(5) {
        let (more, took) = series::at_once(h, order.pods, PER_POD)?;
        late.extend(more);
        memory = memory.max(took);
    }
    let name = format!("{} at once, {memory} MiB of memory", order.pods);
    Ok(vec![Row::new(name, "ms", late, Target::Max(250.0))])
}

/// The earlier shim beside this one, where there is an earlier one.
fn start(h: &Harness, rounds: usize) -> Result<Vec<Row>> {
    if std::env::var_os("CURFEW_OLD_SHIM").is_none() {
        say(
            "CURFEW_OLD_SHIM names no shim without ledger and watchdog: what they cost at a start is not measured",
        );
        return Ok(Vec::new());
    }
    let starts = cost::starts(h, &version::old_shim(), &version::shim(), rounds)?;
    let mut rows = Vec::new();
    for (what, values) in
        [("create", &starts.create), ("start", &starts.start), ("create + start", &starts.both)]
    {
        for (variant, values) in Variant::ALL.iter().zip(values) {
            rows.push(Row::new(format!("{what}, {}", variant.name()), "ms", values.clone(), Target::None));
        }
        // In turns, so that what differs between two that follow each other is theirs.
        let differences = values[2].iter().zip(&values[0]).map(|(with, without)| with - without).collect();
        rows.push(Row::new(format!("{what}: what both cost"), "ms", differences, Target::Median(5.0)));
    }
    Ok(rows)
}

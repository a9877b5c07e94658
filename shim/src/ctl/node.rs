//! `curfewctl list`, `show`, `extend` and `kill`: the pods of this node.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use curfew_config::{
    BASE_FILE, Class, DROP_IN_DIR,
    units::{format_duration, parse_duration},
};

use super::{
    Failure, complain,
    pods::{self, Pod},
};
use crate::{
    boot::clean_pod,
    ledger::Ledger,
    operator::{Answer, Request, ask},
    sandbox_dir::{Lock, SandboxDir},
};

/// How long another cleaning of the same pod is waited for.
const OTHER: Duration = Duration::from_secs(5);

/// Where the node keeps what its shims write down.
#[derive(Debug, Args)]
pub(super) struct Places {
    /// Where sockets and records of living pods are [default: state.dir of the node's configuration]
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where deadlines and verdicts are [default: state.ledger of the node's configuration]
    #[arg(long, global = true, value_name = "DIR")]
    ledger: Option<PathBuf>,
}

/// Those places, found.
pub(super) struct Node {
    pub(super) state_dir: PathBuf,
    pub(super) ledger: Ledger,
}

impl Places {
    pub(super) fn find(&self) -> Result<Node, Failure> {
        let loaded = curfew_config::load(Path::new(BASE_FILE), Path::new(DROP_IN_DIR), Class::None);
        let state = match (loaded, &self.state_dir, &self.ledger) {
            (Ok(policy), _, _) => policy.state,
            // Who names both needs no configuration.
            (Err(_), Some(_), Some(_)) => curfew_config::State::default(),
            (Err(error), _, _) => return Err(vec![error.to_string()]),
        };
        let ledger = self.ledger.as_ref().unwrap_or(&state.ledger);
        Ok(Node {
            state_dir: self.state_dir.clone().unwrap_or(state.dir),
            ledger: Ledger::at(ledger, state.retention),
        })
    }
}

impl Node {
    fn pods(&self) -> Result<Vec<Pod>, Failure> {
        let (pods, complaints) = pods::find(&self.state_dir, &self.ledger).map_err(|line| vec![line])?;
        complain(&complaints);
        Ok(pods)
    }

    fn pod(&self, name: &str) -> Result<Pod, Failure> {
        pods::one(&self.pods()?, name).cloned().map_err(|line| vec![line])
    }
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
}

/// All pods.
pub(super) fn list(node: &Node, output: Output) -> Result<String, Failure> {
    let pods = node.pods()?;
    match output {
        Output::Json => json(&pods),
        Output::Table => Ok(table(&pods)),
    }
}

/// One pod.
pub(super) fn show(node: &Node, name: &str, output: Output) -> Result<String, Failure> {
    let pod = node.pod(name)?;
    match output {
        Output::Json => json(&pod),
        Output::Table => Ok(lines(&pod)),
    }
}

/// More time for a pod.
pub(super) fn extend(node: &Node, name: &str, by: &str) -> Result<String, Failure> {
    let by = match parse_duration(by) {
        Ok(Duration::ZERO) => return Err(vec![format!("{by:?} is no time to add")]),
        Ok(duration) => duration,
        Err(error) => return Err(vec![format!("{by:?}: {error}")]),
    };
    let pod = node.pod(name)?;
    let request = Request::Extend { by: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) };
    match asked(&pod, &request)? {
        Answer::Extended { limit, clamped } => {
            let limit = format_duration(Duration::from_millis(limit));
            let rule = if clamped { ", which is all that its class allows" } else { "" };
            Ok(format!("{} has {limit} from its beginning{rule}\n", pod.title()))
        }
        Answer::Refused { reason } => Err(vec![format!("{}: {reason}", pod.title())]),
        Answer::Killed => Err(vec![format!("{}: its shim has answered something else", pod.title())]),
    }
}

/// A pod's end. Works without its shim.
pub(super) fn kill(node: &Node, name: &str) -> Result<String, Failure> {
    let pod = node.pod(name)?;
    let Some(dir) = &pod.dir else {
        return Err(vec![format!("{} has no sandbox: it is {}", pod.title(), pod.state.words())]);
    };
    if !dir.is_served() {
        return clean(dir).map(|()| format!("{} is gone\n", pod.title())).map_err(|line| vec![line]);
    }
    match ask(&dir.operator_socket(), &Request::Kill) {
        Ok(Answer::Killed) => Ok(format!("{} is being ended\n", pod.title())),
        Ok(Answer::Refused { reason }) => Err(vec![format!("{}: {reason}", pod.title())]),
        Ok(Answer::Extended { .. }) => {
            Err(vec![format!("{}: its shim has answered something else", pod.title())])
        }
        Err(_) => end_with_shim(dir)
            .map(|()| format!("{} is gone, with its shim, which didn't answer\n", pod.title()))
            .map_err(|line| vec![line]),
    }
}

/// Ends a pod whose shim doesn't do that, and the shim.
pub(super) fn end_with_shim(dir: &SandboxDir) -> Result<(), String> {
    if let Some(shim) = dir.shim() {
        shim.kill();
        within(OTHER, || shim.has_ended().then_some(())).ok_or("its shim survives SIGKILL")?;
    }
    clean(dir)
}

/// Looks again and again until there is an answer, or until `limit` is over.
pub(super) fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ends and removes what a shim has left that is gone.
pub(super) fn clean(dir: &SandboxDir) -> Result<(), String> {
    match dir.lock_or_served(OTHER) {
        Ok(Lock::Taken(_lock)) => clean_pod(dir).map(drop).map_err(|error| format!("{error:#}")),
        Ok(Lock::Held) => Err(format!("{} has a shim again", dir.path().display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{}: {error}", dir.path().display())),
    }
}

fn asked(pod: &Pod, request: &Request) -> Result<Answer, Failure> {
    let Some(dir) = pod.dir.as_ref().filter(|dir| dir.is_served()) else {
        return Err(vec![format!("{} has no shim to be asked: it is {}", pod.title(), pod.state.words())]);
    };
    let socket = dir.operator_socket();
    ask(&socket, request).map_err(|error| vec![format!("{}: {}: {error}", pod.title(), socket.display())])
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| vec![error.to_string()])
}

fn duration(seconds: Option<f64>) -> String {
    // Whole seconds: a person reads this.
    seconds.map_or_else(|| "-".into(), |seconds| format_duration(Duration::from_secs_f64(seconds.floor())))
}

fn table(pods: &[Pod]) -> String {
    let heading = ["POD", "SANDBOX", "STATE", "LEFT", "LIMIT", "CONTAINERS", "ENDED"].map(str::to_owned);
    let short = |id: &str| id.chars().take(13).collect::<String>();
    let rows = pods.iter().map(|pod| {
        let ended = pod.ended.clone().unwrap_or_else(|| "-".into());
        let (left, limit) = (duration(pod.left_seconds), duration(pod.limit_seconds));
        let (state, count) = (pod.state.words().to_owned(), pod.containers.len().to_string());
        [pod.title(), short(&pod.sandbox), state, left, limit, count, ended]
    });
    let rows: Vec<[String; 7]> = std::iter::once(heading).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn lines(pod: &Pod) -> String {
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let number = |value: Option<u64>| value.map_or_else(|| "-".into(), |value| value.to_string());
    [
        ("pod", pod.title()),
        ("uid", or_none(&pod.uid)),
        ("sandbox", pod.sandbox.clone()),
        ("state", pod.state.words().to_owned()),
        ("limit", duration(pod.limit_seconds)),
        ("left", duration(pod.left_seconds)),
        ("ended", pod.ended.clone().unwrap_or_else(|| "-".into())),
        ("ended by", pod.ended_by.map_or_else(|| "-".into(), |step| step.words().into())),
        ("checkpoint", pod.checkpoint.as_ref().map_or_else(|| "-".into(), |path| path.display().to_string())),
        ("containers", or_none(&pod.containers.join(" "))),
        ("most memory, bytes", number(pod.memory_bytes)),
        ("most cpu, thousandths", number(pod.cpu_millis)),
    ]
    .map(|(key, value)| format!("{key:22} {value}\n"))
    .concat()
}

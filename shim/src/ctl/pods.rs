//! The pods of the node, from what their shims have written down: no shim has to be alive.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    deadline::{clock::Boottime, escalate::Step, span::Span},
    ledger::{Entry, Ledger, PodName},
    record::SandboxRecord,
    sandbox_dir::SandboxDir,
};

/// How a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// No workload has started yet, or nothing has claimed the pod by its deadline file.
    Waiting,
    Running,
    /// Its time is up, and what is left of it is being ended.
    Ending,
    /// Its time is up, and it is remembered.
    Expired,
    /// Its last sandbox is gone and its time isn't up: another may come.
    Gone,
    /// Its shim is gone, and nobody has cleaned up yet.
    ShimLost,
}

impl State {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Ending => "ending",
            Self::Expired => "expired",
            Self::Gone => "gone",
            Self::ShimLost => "shim-lost",
        }
    }
}

/// A pod, or a container without one.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Pod {
    /// As Kubernetes names it; empty for a container without a pod.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) sandbox: String,
    pub(super) state: State,
    /// The time that it has from its beginning, in seconds, once that is known.
    pub(super) limit_seconds: Option<f64>,
    /// What is left of it.
    pub(super) left_seconds: Option<f64>,
    /// Why and when its time was up.
    pub(super) ended: Option<String>,
    /// What ended its sandbox then.
    pub(super) ended_by: Option<Step>,
    /// Where it was written to when its time was up.
    pub(super) checkpoint: Option<PathBuf>,
    pub(super) containers: Vec<String>,
    /// The node's limits for the whole pod.
    pub(super) memory_bytes: Option<u64>,
    pub(super) cpu_millis: Option<u64>,
    #[serde(skip)]
    pub(super) dir: Option<SandboxDir>,
}

impl Pod {
    fn new(pod: Option<&PodName>, sandbox: &str, span: Option<&Span>, state: State) -> Self {
        let of = |part: fn(&PodName) -> &String| pod.map(|pod| part(pod).clone()).unwrap_or_default();
        let due = span.and_then(|span| span.due.here().ok());
        Self {
            namespace: of(|pod| &pod.namespace),
            name: of(|pod| &pod.name),
            uid: of(|pod| &pod.uid),
            sandbox: sandbox.to_owned(),
            state,
            limit_seconds: span.map(|span| span.limit().as_secs_f64()),
            left_seconds: due.map(|due| due.since(Boottime::now()).as_secs_f64()),
            ended: None,
            ended_by: None,
            checkpoint: None,
            containers: Vec::new(),
            memory_bytes: None,
            cpu_millis: None,
            dir: None,
        }
    }

    fn of_record(record: &SandboxRecord, dir: SandboxDir) -> Self {
        let is_over = record.expired || record.span.as_ref().is_some_and(Span::is_over);
        let state = match (dir.is_served(), is_over, &record.span) {
            (false, _, _) => State::ShimLost,
            (true, true, _) => State::Ending,
            (true, false, Some(span)) if span.waits => State::Waiting,
            (true, false, Some(_)) => State::Running,
            (true, false, None) => State::Waiting,
        };
        let limits = &record.policy.limits;
        Self {
            containers: record.containers.keys().cloned().collect(),
            memory_bytes: Some(limits.memory),
            cpu_millis: Some(limits.cpu),
            dir: Some(dir),
            ..Self::new(record.pod.as_ref(), record.sandbox.as_str(), record.span.as_ref(), state)
        }
    }

    fn of_entry(entry: &Entry) -> Self {
        let verdict = entry.verdict();
        let state = if verdict.is_some() { State::Expired } else { State::Gone };
        let pod = Self::new(Some(&entry.pod), &entry.sandbox, entry.span.as_ref(), state);
        Self {
            ended: verdict.map(|verdict| verdict.to_string()),
            ended_by: entry.ended_by,
            checkpoint: checkpoint_of(entry),
            ..pod
        }
    }

    /// Whether somebody means this pod by `name`: its name, with or without its namespace, its UID, its sandbox, or the
    /// beginning of one of the two that is long enough for a person.
    pub(super) fn is_named(&self, name: &str) -> bool {
        let is_id = |id: &str| id == name || (name.len() >= 6 && id.starts_with(name));
        (!self.name.is_empty() && (self.name == name || format!("{}/{}", self.namespace, self.name) == name))
            || (!self.uid.is_empty() && is_id(&self.uid))
            || is_id(&self.sandbox)
    }

    /// What a person calls it. Whoever made the pod chose the name, and a terminal would obey some.
    pub(super) fn title(&self) -> String {
        match self.name.as_str() {
            "" => self.sandbox.clone(),
            name => format!("{}/{name}", self.namespace).escape_debug().to_string(),
        }
    }
}

/// Nobody writes down that it is removed.
fn checkpoint_of(entry: &Entry) -> Option<PathBuf> {
    entry.checkpoint.clone().filter(|path| path.exists())
}

/// All pods that have a sandbox or are remembered, and a line for everything that could not be read.
pub(super) fn find(state_dir: &Path, ledger: &Ledger) -> Result<(Vec<Pod>, Vec<String>), String> {
    let mut complaints = Vec::new();
    let mut pods = Vec::new();
    let dirs = SandboxDir::all(state_dir).map_err(|error| format!("{}: {error}", state_dir.display()))?;
    for dir in dirs {
        match SandboxRecord::read(&dir) {
            Ok(record) => pods.push(Pod::of_record(&record, dir)),
            // Its shim has just begun, or has just gone.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => complaints.push(error.to_string()),
        }
    }
    for entry in ledger.all().map_err(|error| format!("the ledger: {error}"))? {
        match entry {
            Ok(entry) => match pods.iter_mut().find(|pod| pod.uid == entry.pod.uid) {
                Some(pod) => {
                    pod.ended = entry.verdict().map(|verdict| verdict.to_string());
                    pod.ended_by = entry.ended_by;
                    pod.checkpoint = checkpoint_of(&entry);
                }
                None => pods.push(Pod::of_entry(&entry)),
            },
            Err(error) => complaints.push(error.to_string()),
        }
    }
    pods.sort_by_key(|pod| (pod.title(), pod.sandbox.clone()));
    Ok((pods, complaints))
}

/// The one pod that `name` means.
pub(super) fn one<'a>(pods: &'a [Pod], name: &str) -> Result<&'a Pod, String> {
    // A pod may be called as another's id is.
    let is_id = |pod: &&Pod| !name.is_empty() && [pod.uid.as_str(), pod.sandbox.as_str()].contains(&name);
    let mut found: Vec<&Pod> = pods.iter().filter(is_id).collect();
    if found.is_empty() {
        found = pods.iter().filter(|pod| pod.is_named(name)).collect();
    }
    match found.as_slice() {
        [pod] => Ok(pod),
        [] => Err(format!("no pod, UID or sandbox is called {name:?}; `curfewctl list` shows them")),
        several => {
            let all: Vec<&str> = several.iter().map(|pod| pod.sandbox.as_str()).collect();
            Err(format!("{name:?} means {} pods: say which sandbox: {}", all.len(), all.join(", ")))
        }
    }
}

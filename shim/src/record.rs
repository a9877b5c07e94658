//! The sandbox record: what must be known of a sandbox when its shim is gone.
//!
//! Written before runsc starts anything and after each change, so that `delete` can end and clean the whole pod from
//! it alone.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use curfew_config::{NodePolicy, PodPolicy};
use runsc_bridge::SandboxId;
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Cgroup,
    deadline::span::Span,
    durable,
    ledger::{PodName, Verdict},
    process::{Exit, ProcessName},
    sandbox_dir::SandboxDir,
};

/// The form of the record that this version writes and reads.
const FORMAT: u32 = 1;
/// Many times what a pod of a hundred containers needs.
const LARGEST: u64 = 4 << 20;

/// One sandbox, as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    format: u32,
    pub(crate) namespace: String,
    pub(crate) sandbox: SandboxId,
    /// The Task API's version that the shim answered `start` with; joining containers get the same answer.
    pub(crate) protocol: u32,
    /// Where containerd takes events; empty where it named no place.
    pub(crate) events_address: String,
    /// The bundle whose log FIFO the shim writes to.
    pub(crate) bundle: PathBuf,
    /// Whether containerd runs with debug logs.
    pub(crate) debug: bool,
    /// The runsc that this sandbox keeps for life.
    pub(crate) runsc: PathBuf,
    pub(crate) policy: NodePolicy,
    /// Set by the pod's first Create, then frozen.
    pub(crate) pod_policy: Option<PodPolicy>,
    /// Whether the sandbox has the host's network.
    #[serde(default)]
    pub(crate) host_network: bool,
    /// The sandbox's process, once it is known.
    pub(crate) process: Option<ProcessName>,
    /// The sandbox's cgroup, which had no members before it: all that are in it may be killed.
    pub(crate) cgroup: Cgroup,
    /// The pod as Kubernetes names it, if it is one of its.
    #[serde(default)]
    pub(crate) pod: Option<PodName>,
    /// The pod's time, once a workload was about to start.
    #[serde(default)]
    pub(crate) span: Option<Span>,
    /// CPU time that earlier attempts at the pod had used, in milliseconds.
    #[serde(default)]
    pub(crate) cpu_before_ms: u64,
    /// Whether it is up.
    pub(crate) expired: bool,
    /// Why and when, for a ledger that doesn't know it yet.
    #[serde(default)]
    pub(crate) verdict: Option<Verdict>,
    /// By id.
    pub(crate) containers: BTreeMap<String, ContainerRecord>,
}

/// One container of the sandbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) bundle: PathBuf,
    /// To be removed; a sub-container's has no members.
    pub(crate) cgroup: Cgroup,
    pub(crate) gofer: Option<ProcessName>,
    /// The host's file by which it says why it ended.
    #[serde(default)]
    pub(crate) termination_log: Option<PathBuf>,
    /// How it ended, if its shim has seen that.
    #[serde(default)]
    pub(crate) exit: Option<Exit>,
}

/// What a new record starts from.
#[derive(Debug)]
pub(crate) struct NewRecord<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) sandbox: &'a SandboxId,
    pub(crate) bundle: &'a Path,
    pub(crate) events_address: &'a str,
    pub(crate) debug: bool,
    pub(crate) runsc: PathBuf,
    pub(crate) policy: NodePolicy,
}

impl SandboxRecord {
    /// The record of a sandbox that doesn't exist yet.
    pub(crate) fn new(new: NewRecord<'_>) -> Self {
        Self {
            format: FORMAT,
            namespace: new.namespace.to_owned(),
            sandbox: new.sandbox.clone(),
            protocol: new.policy.protocol.version,
            events_address: new.events_address.to_owned(),
            bundle: new.bundle.to_owned(),
            debug: new.debug,
            runsc: new.runsc,
            policy: new.policy,
            pod_policy: None,
            host_network: false,
            process: None,
            cgroup: Cgroup::default(),
            pod: None,
            span: None,
            cpu_before_ms: 0,
            expired: false,
            verdict: None,
            containers: BTreeMap::new(),
        }
    }

    /// The pod's budget of CPU time, and what it has used of that with `used` in its present sandbox; `None` without one.
    pub(crate) fn cpu_budget(&self, used: Duration) -> Option<(Duration, Duration)> {
        let budget = self.pod_policy.as_ref()?.cpu_budget?;
        Some((budget, Duration::from_millis(self.cpu_before_ms).saturating_add(used)))
    }

    /// The sandbox is gone: its pid and its cgroup may become somebody else's.
    pub(crate) fn forget_sandbox(&mut self) {
        self.process = None;
        self.cgroup = Cgroup::default();
    }

    /// Reads the record in `dir`.
    ///
    /// # Errors
    /// `NotFound` where there is none; `InvalidData` for one that doesn't parse or has another form.
    pub(crate) fn read(dir: &SandboxDir) -> io::Result<Self> {
        let path = dir.record();
        let text = durable::read_bounded(&path, LARGEST)?;
        let invalid = |reason: String| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {reason}", path.display()))
        };
        let record: Self = serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))?;
        if record.format != FORMAT {
            return Err(invalid(format!("format {} instead of {FORMAT}", record.format)));
        }
        Ok(record)
    }

    /// Writes the record to `dir`.
    ///
    /// # Errors
    /// What kept it from being written; the one before is then still there.
    pub(crate) fn write(&self, dir: &SandboxDir) -> io::Result<()> {
        durable::replace(&dir.record(), &serde_json::to_vec(self)?)
    }
}

/// What a bundle says of its sandbox, so that `delete` finds it: it gets no runtime options, hence no state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BundleNote {
    pub(crate) sandbox_dir: PathBuf,
    /// How the container ended, once its pod was cleaned without a shim.
    pub(crate) exit: Option<Exit>,
}

impl BundleNote {
    fn path(bundle: &Path) -> PathBuf {
        bundle.join("curfew.json")
    }

    /// Reads the note in `bundle`; `None` where there is none.
    ///
    /// # Errors
    /// A note that cannot be read: what it is about must not be taken for nothing.
    pub(crate) fn read(bundle: &Path) -> io::Result<Option<Self>> {
        match durable::read_bounded(&Self::path(bundle), 64 << 10) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the note to `bundle`.
    ///
    /// # Errors
    /// What kept it from being written.
    pub(crate) fn write(&self, bundle: &Path) -> io::Result<()> {
        durable::replace(&Self::path(bundle), &serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (tempfile::TempDir, SandboxDir, SandboxRecord) {
        let state = tempfile::tempdir().unwrap();
        let sandbox = SandboxId::new("abc").unwrap();
        let dir = SandboxDir::of(state.path(), "default", &sandbox);
        dir.make().unwrap();
        let record = SandboxRecord::new(NewRecord {
            namespace: "default",
            sandbox: &sandbox,
            bundle: Path::new("/b"),
            events_address: "/e",
            debug: false,
            runsc: "/runsc".into(),
            policy: NodePolicy::default(),
        });
        record.write(&dir).unwrap();
        (state, dir, record)
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let (_state, dir, record) = written();
        let read = SandboxRecord::read(&dir).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), serde_json::to_value(record).unwrap());
    }

    #[test]
    fn a_record_cut_at_any_byte_is_invalid() {
        let (_state, dir, _) = written();
        let whole = std::fs::read(dir.record()).unwrap();
        for cut in 0..whole.len() {
            durable::replace(&dir.record(), &whole[..cut]).unwrap();
            assert_eq!(SandboxRecord::read(&dir).unwrap_err().kind(), io::ErrorKind::InvalidData, "{cut}");
        }
    }
}

//! The file by which a container says why it ended: kubelet mounts one into each container, and shows what is in it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use curfew_config::units::format_duration;
use serde::Serialize;
use serde_json::Value;

use crate::{ledger::Reason, spec::Object, stats::Stats};

/// Where kubelet mounts it unless the pod says something else.
pub(crate) const DEFAULT: &str = "/dev/termination-log";
/// What kubelet reads of it.
const LARGEST: usize = 4096;

/// How a container ended, as its message has it. A [`Reason`] is only what somebody ends a container for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was ended for `reason`, with what its pod was allowed.
    Ended { reason: Reason, limit: Duration },
    /// The sandbox's own process broke down under it, and this was what it said of that.
    SandboxCrashed { said: Option<String> },
    /// Its program ended with this exit code, by itself or because whoever may had told it to.
    Exited { status: u32 },
}

impl Cause {
    fn words(&self) -> &'static str {
        match self {
            Self::Ended { reason, .. } => reason.words(),
            Self::SandboxCrashed { .. } => "SandboxCrashed",
            // As Kubernetes has them.
            Self::Exited { status: 0 } => "Completed",
            Self::Exited { .. } => "Error",
        }
    }
}

/// What a message says: one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Message {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u32>,
    /// What the pod was allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
    /// What the sandbox said of its crash.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Since the first workload's start.
    elapsed: String,
    /// What the pod had used, as far as the node counts it.
    #[serde(flatten)]
    usage: Usage,
}

/// What a pod has used.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds: Option<f64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_peak: Option<u64>,
    /// The most tasks that the host had for the sandbox at once, the sentry's own threads among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pids_peak: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rx_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tx_bytes: Option<u64>,
}

impl Usage {
    pub(crate) fn of(stats: &Stats) -> Self {
        let all = |bytes: fn(&crate::stats::Interface) -> u64| {
            (!stats.network.is_empty()).then(|| stats.network.iter().map(bytes).sum())
        };
        Self {
            // To the millisecond: more would be noise.
            cpu_seconds: stats.cpu.map(|cpu| Duration::from_millis(cpu.usage_ns / 1_000_000).as_secs_f64()),
            memory_peak: stats.memory.and_then(|memory| memory.peak),
            pids_peak: stats.pids.and_then(|pids| pids.peak),
            rx_bytes: all(|interface| interface.received.bytes),
            tx_bytes: all(|interface| interface.sent.bytes),
        }
    }
}

impl Message {
    pub(crate) fn new(cause: Cause, elapsed: Duration, usage: Usage) -> Self {
        let elapsed = Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        let reason = cause.words();
        let (exit_code, limit, detail) = match cause {
            Cause::Ended { limit, .. } => (None, Some(format_duration(limit)), None),
            Cause::SandboxCrashed { said } => (None, None, said),
            Cause::Exited { status } => (Some(status), None, None),
        };
        Self { reason, exit_code, limit, detail, elapsed: format_duration(elapsed), usage }
    }

    /// Writes the message to `file`, unless the workload has written its own. Says whether it did.
    ///
    /// # Errors
    /// It isn't the file that kubelet made: a link, or no file at all.
    pub(crate) fn write(&self, file: &Path) -> io::Result<bool> {
        let mut line = serde_json::to_vec(self)?;
        line.truncate(LARGEST - 1);
        line.push(b'\n');
        let Some(mut file) = open_empty(file)? else { return Ok(false) };
        file.write_all(&line)?;
        Ok(true)
    }
}

fn open_empty(path: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a link or no file"));
    }
    Ok((metadata.len() == 0).then_some(file))
}

/// The host's file that is mounted at `place` in the container of this spec.
pub(crate) fn file_of(spec: &Object, place: &str) -> Option<PathBuf> {
    let mounts = spec.get("mounts").and_then(Value::as_array)?;
    let text = |mount: &Value, key: &str| mount.get(key).and_then(Value::as_str).map(str::to_owned);
    let mount = mounts.iter().rfind(|mount| text(mount, "destination").as_deref() == Some(place))?;
    let source = PathBuf::from(text(mount, "source")?);
    let options = mount.get("options").and_then(Value::as_array);
    // What the container may not write isn't its own.
    if options.is_some_and(|options| options.iter().any(|option| option == "ro")) {
        return None;
    }
    (text(mount, "type").as_deref() == Some("bind") && source.is_absolute()).then_some(source)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use serde_json::json;

    use super::*;

    fn message() -> Message {
        let usage = Usage { cpu_seconds: Some(1.5), rx_bytes: Some(7), ..Usage::default() };
        let elapsed = Duration::from_micros(600_004_321);
        let limit = Duration::from_secs(600);
        Message::new(Cause::Ended { reason: Reason::DeadlineExceeded, limit }, elapsed, usage)
    }

    #[test]
    fn a_message_is_one_line_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        fs::File::create_new(&file).unwrap();
        assert!(message().write(&file).unwrap());
        let expected = concat!(
            r#"{"reason":"DeadlineExceeded","limit":"10m0s","elapsed":"10m0.004s","cpu_seconds":1.5,"rx_bytes":7}"#,
            "\n"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    }

    #[test]
    fn a_message_says_what_belongs_to_its_reason() {
        let line = |cause| {
            let usage = Usage { pids_peak: Some(30), ..Usage::default() };
            serde_json::to_string(&Message::new(cause, Duration::from_secs(1), usage)).unwrap()
        };
        for (cause, expected) in [
            (Cause::Exited { status: 0 }, r#""reason":"Completed","exit_code":0"#),
            (Cause::Exited { status: 3 }, r#""reason":"Error","exit_code":3"#),
            (Cause::SandboxCrashed { said: None }, r#""reason":"SandboxCrashed""#),
            (
                Cause::SandboxCrashed { said: Some("panic: \"x\"".into()) },
                r#""reason":"SandboxCrashed","detail":"panic: \"x\"""#,
            ),
        ] {
            assert_eq!(line(cause), format!(r#"{{{expected},"elapsed":"1s","pids_peak":30}}"#));
        }
    }

    #[test]
    fn what_the_workload_has_written_stays_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        crate::durable::replace(&at("own"), b"mine").unwrap();
        assert!(!message().write(&at("own")).unwrap());
        assert_eq!(fs::read(at("own")).unwrap(), b"mine");
        fs::File::create_new(at("target")).unwrap();
        symlink(at("target"), at("link")).unwrap();
        fs::hard_link(at("target"), at("second")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        for name in ["link", "second", "directory", "nothing"] {
            assert!(message().write(&at(name)).is_err(), "{name}");
        }
        assert_eq!(fs::metadata(at("target")).unwrap().len(), 0);
    }

    #[test]
    fn the_file_is_the_source_of_the_last_mount_at_its_place() {
        let bind = |to: &str, from: &str| json!({ "destination": to, "source": from, "type": "bind" });
        let tmpfs = json!({ "destination": "/b", "source": "tmpfs", "type": "tmpfs" });
        let spec = json!({ "mounts": [bind("/a", "/x"), bind("/a", "/y"), bind("/c", "z"), tmpfs] });
        let of = |place| file_of(spec.as_object().unwrap(), place);
        assert_eq!(of("/a"), Some("/y".into()));
        for place in ["/b", "/c", DEFAULT] {
            assert_eq!(of(place), None);
        }
    }
}

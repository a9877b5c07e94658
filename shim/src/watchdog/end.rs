//! What the watchdog leaves in the sandbox's directory, for `delete`: when it ended the sandbox, and why.

use std::{io, path::PathBuf, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{deadline::clock::Boottime, durable, sandbox_dir::SandboxDir};

const LARGEST: u64 = 4 << 10;

/// The end of a sandbox by its watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxEnd {
    pub(crate) at: SystemTime,
    /// The same on the clock that nobody can set.
    pub(crate) boottime: Boottime,
    /// Whether its time was up; else its shim was lost.
    pub(crate) expired: bool,
}

impl SandboxEnd {
    pub(super) fn now(expired: bool) -> Self {
        Self { at: SystemTime::now(), boottime: Boottime::now(), expired }
    }

    fn path(dir: &SandboxDir) -> PathBuf {
        dir.path().join("ended.json")
    }

    pub(super) fn write(self, dir: &SandboxDir) -> io::Result<()> {
        durable::replace(&Self::path(dir), &serde_json::to_vec(&self)?)
    }

    /// Takes it back: it was about a sandbox that is forgotten.
    pub(super) fn remove(dir: &SandboxDir) {
        // Most of the time there is none.
        let _ = std::fs::remove_file(Self::path(dir));
    }

    /// What there is; `None` also if it cannot be read.
    pub(crate) fn read(dir: &SandboxDir) -> Option<Self> {
        serde_json::from_slice(&durable::read_bounded(&Self::path(dir), LARGEST).ok()?).ok()
    }
}

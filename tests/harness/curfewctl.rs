//! The operator's tool, on a test's own node.

use std::process::Command;

use crate::{Harness, version};

impl Harness {
    /// What it prints, or what it says is wrong.
    #[track_caller]
    pub fn curfewctl(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(version::shim().with_file_name("curfewctl"));
        command.arg("--state-dir").arg(self.containerd.state_dir());
        command.arg("--ledger").arg(self.containerd.dir().join("ledger"));
        let output = command.args(words).output().map_err(|error| error.to_string())?;
        let said = if output.status.success() { &output.stdout } else { &output.stderr };
        let said = String::from_utf8_lossy(said).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}

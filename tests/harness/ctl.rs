//! `curfewctl` on a test's node: the one beside the shim under test, told where that node keeps its state.

use std::process::{Command, Output};

use serde_json::Value;

use crate::{Harness, version};

impl Harness {
    /// What it answers to these words.
    pub fn curfewctl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(version::shim().with_file_name("curfewctl"));
        command.arg("--state-dir").arg(self.containerd.state_dir());
        command.arg("--ledger").arg(self.containerd.dir().join("ledger"));
        match command.args(words).output() {
            Ok(output) => output,
            Err(error) => panic!("failed to run curfewctl {words:?}: {error}"),
        }
    }

    /// What it prints; the test fails if it complains of anything.
    #[track_caller]
    pub fn ctl(&self, words: &[&str]) -> String {
        let output = self.curfewctl(words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && error.is_empty(), "curfewctl {words:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// As [`Self::ctl`], read as JSON.
    #[track_caller]
    pub fn ctl_json(&self, words: &[&str]) -> Value {
        let text = self.ctl(words);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("curfewctl {words:?}: {error}: {text}"))
    }

    /// It must refuse these words with that code, one line that has `expected`, and nothing else.
    #[track_caller]
    pub fn ctl_refuses(&self, words: &[&str], code: i32, expected: &str) {
        let output = self.curfewctl(words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "curfewctl {words:?}: {error}");
        assert!(output.stdout.is_empty(), "curfewctl {words:?}: {:?}", output.stdout);
        assert!(error.contains(expected), "curfewctl {words:?}: {error}");
        assert!(code != 1 || error.lines().count() == 1, "curfewctl {words:?}: {error}");
    }
}

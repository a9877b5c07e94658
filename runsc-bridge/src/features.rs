//! What a runsc can do, as far as whoever drives it may promise that.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ChildExits, Kind, RunscError, cli::spawn};

const CALL: &str = "features";

/// The part of `runsc features`, in the form of the OCI runtime specification, that is a matter of the sandbox. What
/// concerns the host (hooks, cgroups, ID-mapped mounts) or runsc's own annotations is not runsc's alone to promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// The oldest version of a spec that it reads.
    pub oci_version_min: String,
    /// The newest version of a spec that it knows.
    pub oci_version_max: String,
    /// The options of mounts that it knows.
    #[serde(default)]
    pub mount_options: Vec<String>,
    /// What is Linux's own.
    pub linux: LinuxFeatures,
}

/// See [`Features::linux`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxFeatures {
    /// Kinds of namespaces.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Names of capabilities.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// What guest profiles can say.
    #[serde(default)]
    pub seccomp: Value,
}

impl Features {
    fn parse(printed: &str) -> Result<Self, RunscError> {
        serde_json::from_str(printed).map_err(|e| RunscError::new(CALL, "", Kind::NotRunsc, e))
    }
}

/// Asks the runsc at `binary`.
///
/// # Errors
/// What kept it from running within `limit`, or [`Kind::NotRunsc`] for an answer that isn't that of a runsc.
pub async fn features(
    binary: &Path,
    limit: Duration,
    exits: &dyn ChildExits,
) -> Result<Features, RunscError> {
    Features::parse(&spawn::output_of(binary, CALL, limit, exits).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_the_host_is_left_out() {
        let printed = r#"{
            "ociVersionMin": "1.0.0", "ociVersionMax": "1.2.1", "hooks": ["prestart"], "mountOptions": ["ro"],
            "linux": {
                "namespaces": ["pid", "user"], "capabilities": ["CAP_KILL"], "cgroup": {"v1": true},
                "seccomp": {"enabled": true}, "mountExtensions": {"idmap": {"enabled": true}}
            },
            "annotations": {"dev.gvisor.flag.root": ""}
        }"#;
        let features = serde_json::to_value(Features::parse(printed).unwrap()).unwrap();
        let expected = serde_json::json!({
            "ociVersionMin": "1.0.0", "ociVersionMax": "1.2.1", "mountOptions": ["ro"],
            "linux": {
                "namespaces": ["pid", "user"], "capabilities": ["CAP_KILL"], "seccomp": {"enabled": true}
            }
        });
        assert_eq!(features, expected);
    }

    #[test]
    fn another_programs_words_are_not_runscs() {
        for words in ["", "runsc version x", "[]", r#"{"linux": {}}"#] {
            assert_eq!(Features::parse(words).unwrap_err().kind, Kind::NotRunsc, "{words:?}");
        }
    }
}

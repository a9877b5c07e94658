//! The OCI spec in a bundle: read once, bounded, and completed where runsc needs more than containerd gives.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::durable;

/// The largest `config.json` that is read, in bytes. Kubernetes bounds a pod at 1.5 MiB of protobuf, of which the
/// spec of one container is a small part.
const LARGEST: u64 = 1 << 20;

/// A `config.json` that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SpecError {
    /// It cannot be read: missing, too large, a directory.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// It isn't a spec.
    #[error("{} is no runtime spec: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    /// It cannot be rewritten.
    #[error("cannot rewrite {}: {source}", path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
}

/// What the shim needs of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    /// The container's annotations, which carry CRI's grouping and the pod's wishes.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Where the container's cgroup is to be.
    pub(crate) cgroups_path: String,
}

#[derive(Deserialize)]
struct Read {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    process: Option<ReadProcess>,
    root: Option<ReadRoot>,
    #[serde(default)]
    linux: Option<ReadLinux>,
}

#[derive(Deserialize)]
struct ReadProcess {
    #[serde(default)]
    args: Vec<String>,
}

#[derive(Deserialize)]
struct ReadRoot {
    #[serde(rename = "path")]
    _path: PathBuf,
}

#[derive(Deserialize, Default)]
struct ReadLinux {
    #[serde(rename = "cgroupsPath", default)]
    cgroups_path: String,
}

fn path_in(bundle: &Path) -> PathBuf {
    bundle.join("config.json")
}

fn read(bundle: &Path) -> Result<(Vec<u8>, Read), SpecError> {
    let path = path_in(bundle);
    let text = durable::read_bounded(&path, LARGEST)
        .map_err(|source| SpecError::Unreadable { path: path.clone(), source })?;
    let parsed =
        serde_json::from_slice(&text).map_err(|e| SpecError::Malformed { path, reason: e.to_string() })?;
    Ok((text, parsed))
}

/// The annotations of the spec in `bundle`, which is all that `start` needs.
///
/// # Errors
/// [`SpecError`] says what is wrong with the file.
pub(crate) fn annotations(bundle: &Path) -> Result<BTreeMap<String, String>, SpecError> {
    Ok(read(bundle)?.1.annotations.unwrap_or_default())
}

/// Reads the spec in `bundle` and gives it the cgroup `own_cgroup` if it names none: a sandbox without a cgroup of its
/// own could be neither limited nor ended through it.
///
/// # Errors
/// [`SpecError`] says what is wrong with the file.
pub(crate) fn complete(bundle: &Path, own_cgroup: &str) -> Result<Spec, SpecError> {
    let (text, parsed) = read(bundle)?;
    let path = path_in(bundle);
    let malformed = |reason: &str| SpecError::Malformed { path: path.clone(), reason: reason.to_owned() };
    if parsed.process.is_none_or(|process| process.args.is_empty()) {
        return Err(malformed("process.args is empty"));
    }
    if parsed.root.is_none() {
        return Err(malformed("root is missing"));
    }
    let mut cgroups_path = parsed.linux.unwrap_or_default().cgroups_path;
    if cgroups_path.is_empty() {
        own_cgroup.clone_into(&mut cgroups_path);
        let mut whole: Value = serde_json::from_slice(&text).map_err(|e| malformed(&e.to_string()))?;
        whole["linux"]["cgroupsPath"] = Value::String(cgroups_path.clone());
        durable::replace(&path, whole.to_string().as_bytes())
            .map_err(|source| SpecError::Unwritable { path: path.clone(), source })?;
    }
    let annotations = parsed.annotations.unwrap_or_default();
    Ok(Spec { annotations, cgroups_path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(text: &str) -> (Result<Spec, SpecError>, String) {
        let dir = tempfile::tempdir().unwrap();
        durable::replace(&path_in(dir.path()), text.as_bytes()).unwrap();
        let result = complete(dir.path(), "/curfew/x");
        (result, std::fs::read_to_string(path_in(dir.path())).unwrap())
    }

    #[test]
    fn a_spec_without_a_cgroup_gets_one_and_keeps_the_rest() {
        let (spec, text) = completed(r#"{"process":{"args":["a"]},"root":{"path":"r"},"x":1}"#);
        assert_eq!(spec.unwrap().cgroups_path, "/curfew/x");
        let whole: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(whole["linux"]["cgroupsPath"], "/curfew/x");
        assert_eq!(whole["x"], 1);
    }

    #[test]
    fn a_spec_with_a_cgroup_is_left_alone() {
        let text = r#"{ "process":{"args":["a"]},"root":{"path":"r"},"linux":{"cgroupsPath":"/pods/a"}}"#;
        let (spec, after) = completed(text);
        assert_eq!(spec.unwrap().cgroups_path, "/pods/a");
        assert_eq!(after, text);
    }

    #[test]
    fn a_cut_spec_one_of_another_shape_and_one_without_a_program_are_malformed() {
        for text in [
            r#"{"process":{"args":["a"#,
            "[]",
            r#"{"process":{"args":[]},"root":{"path":"r"}}"#,
            r#"{"process":{"args":["a"]}}"#,
            r#"{"annotations":{"a":1},"process":{"args":["a"]},"root":{"path":"r"}}"#,
            r#"{"process":{"args":["a"]},"root":{"path":"r"},"linux":7}"#,
        ] {
            assert!(matches!(completed(text).0, Err(SpecError::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn a_missing_or_huge_spec_is_unreadable() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(annotations(dir.path()), Err(SpecError::Unreadable { .. })));
        let huge = " ".repeat(2 << 20);
        assert!(matches!(completed(&huge).0, Err(SpecError::Unreadable { .. })));
    }
}

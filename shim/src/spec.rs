//! The OCI spec in a bundle: read once, bounded, and completed where runsc needs more than containerd gives.

pub(crate) mod exec_process;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use runsc_bridge::CapabilitySets;
use serde_json::Value;
use thiserror::Error;

pub(crate) use self::exec_process::TerminalSize;
use self::exec_process::{DescribedCapabilities, ExecCeiling};
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
    /// What the container's own process may do, and so an exec at most.
    pub(crate) exec_ceiling: ExecCeiling,
}

fn path_in(bundle: &Path) -> PathBuf {
    bundle.join("config.json")
}

pub(crate) type Object = serde_json::Map<String, Value>;

/// A parsed `config.json`, with its path for messages. Read by hand: serde takes an array for a struct.
struct Parsed {
    path: PathBuf,
    whole: Object,
}

impl Parsed {
    fn read(bundle: &Path) -> Result<Self, SpecError> {
        let path = path_in(bundle);
        let text = durable::read_bounded(&path, LARGEST)
            .map_err(|source| SpecError::Unreadable { path: path.clone(), source })?;
        let whole = serde_json::from_slice(&text)
            .map_err(|e| SpecError::Malformed { path: path.clone(), reason: e.to_string() })?;
        Ok(Self { path, whole })
    }

    fn malformed(&self, reason: &str) -> SpecError {
        SpecError::Malformed { path: self.path.clone(), reason: reason.to_owned() }
    }

    /// The object under `key`; absent and null are none.
    fn object(&self, key: &str) -> Result<Option<&Object>, SpecError> {
        match self.whole.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(self.malformed(&format!("{key} is no object"))),
        }
    }

    fn annotations(&self) -> Result<BTreeMap<String, String>, SpecError> {
        let Some(annotations) = self.object("annotations")? else { return Ok(BTreeMap::new()) };
        let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let read: Option<_> = annotations.iter().map(text).collect();
        read.ok_or_else(|| self.malformed("an annotation is no text"))
    }

    fn cgroups_path(&self) -> Result<String, SpecError> {
        match self.object("linux")?.and_then(|linux| linux.get("cgroupsPath")) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(path)) => Ok(path.clone()),
            Some(_) => Err(self.malformed("linux.cgroupsPath is no text")),
        }
    }

    fn capabilities(&self) -> Result<CapabilitySets, SpecError> {
        let named = self.object("process")?.and_then(|process| process.get("capabilities"));
        let Some(named) = named.filter(|named| !named.is_null()) else {
            return Ok(CapabilitySets::default());
        };
        let described: DescribedCapabilities = serde_json::from_value(named.clone())
            .map_err(|e| self.malformed(&format!("process.capabilities: {e}")))?;
        described.sets().map_err(|e| self.malformed(&e.to_string()))
    }

    fn no_new_privileges(&self) -> Result<bool, SpecError> {
        match self.object("process")?.and_then(|process| process.get("noNewPrivileges")) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(set)) => Ok(*set),
            Some(_) => Err(self.malformed("process.noNewPrivileges is neither true nor false")),
        }
    }

    fn require_program(&self) -> Result<(), SpecError> {
        let process = self.object("process")?;
        let args = process.and_then(|process| process.get("args")).and_then(Value::as_array);
        if args.is_none_or(|args| args.is_empty() || !args.iter().all(Value::is_string)) {
            return Err(self.malformed("process.args names no program"));
        }
        let root = self.object("root")?.and_then(|root| root.get("path"));
        if !root.is_some_and(Value::is_string) {
            return Err(self.malformed("root.path is missing"));
        }
        Ok(())
    }

    fn write(self) -> Result<(), SpecError> {
        let Self { path, whole } = self;
        durable::replace(&path, Value::Object(whole).to_string().as_bytes())
            .map_err(|source| SpecError::Unwritable { path, source })
    }

    fn set_cgroups_path(&mut self, cgroups_path: &str) {
        let linux = self.whole.entry("linux").or_insert(Value::Null);
        if linux.is_null() {
            *linux = Value::Object(Object::new());
        }
        if let Value::Object(linux) = linux {
            linux.insert("cgroupsPath".to_owned(), Value::String(cgroups_path.to_owned()));
        }
    }
}

/// The annotations of the spec in `bundle`, which is all that `start` needs.
///
/// # Errors
/// [`SpecError`] says what is wrong with the file.
pub(crate) fn annotations(bundle: &Path) -> Result<BTreeMap<String, String>, SpecError> {
    Parsed::read(bundle)?.annotations()
}

/// Adds mounts to the spec in `bundle`, after those that are there.
///
/// # Errors
/// [`SpecError`] says what is wrong with the file, or what kept it from being written.
pub(crate) fn add_mounts(bundle: &Path, mounts: Vec<Value>) -> Result<(), SpecError> {
    if mounts.is_empty() {
        return Ok(());
    }
    let mut parsed = Parsed::read(bundle)?;
    let Some(Value::Array(present)) = parsed.whole.get_mut("mounts") else {
        return Err(parsed.malformed("mounts is no list"));
    };
    present.extend(mounts);
    parsed.write()
}

/// A spec that has been read and not written back yet.
pub(crate) struct Draft {
    parsed: Parsed,
    /// As containerd gave them: they carry CRI's grouping and the pod's wishes.
    pub(crate) annotations: BTreeMap<String, String>,
    cgroups_path: String,
}

impl Draft {
    /// Reads the spec in `bundle` and gives it the cgroup `own_cgroup` if it names none: a sandbox without a cgroup of
    /// its own could be neither limited nor ended through it.
    ///
    /// # Errors
    /// [`SpecError`] says what is wrong with the file.
    pub(crate) fn read(bundle: &Path, own_cgroup: &str) -> Result<Self, SpecError> {
        let mut parsed = Parsed::read(bundle)?;
        parsed.require_program()?;
        let annotations = parsed.annotations()?;
        let mut cgroups_path = parsed.cgroups_path()?;
        if cgroups_path.is_empty() {
            own_cgroup.clone_into(&mut cgroups_path);
            parsed.set_cgroups_path(&cgroups_path);
        }
        Ok(Self { parsed, annotations, cgroups_path })
    }

    /// Where the container's cgroup is to be.
    pub(crate) fn cgroups_path(&self) -> &str {
        &self.cgroups_path
    }

    /// The whole of it, to be changed.
    pub(crate) fn whole(&mut self) -> &mut Object {
        &mut self.parsed.whole
    }

    /// Writes it to where it was read.
    ///
    /// # Errors
    /// [`SpecError`] says what kept it from being written; what was there is then still there.
    pub(crate) fn write(self) -> Result<Spec, SpecError> {
        let exec_ceiling = ExecCeiling {
            capabilities: self.parsed.capabilities()?,
            no_new_privileges: self.parsed.no_new_privileges()?,
        };
        self.parsed.write()?;
        Ok(Spec { annotations: self.annotations, cgroups_path: self.cgroups_path, exec_ceiling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(text: &str) -> (Result<Spec, SpecError>, String) {
        let dir = tempfile::tempdir().unwrap();
        durable::replace(&path_in(dir.path()), text.as_bytes()).unwrap();
        let result = Draft::read(dir.path(), "/curfew/x").and_then(Draft::write);
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
    fn a_spec_with_a_cgroup_keeps_it() {
        let text = r#"{ "process":{"args":["a"]},"root":{"path":"r"},"linux":{"cgroupsPath":"/pods/a"}}"#;
        let (spec, after) = completed(text);
        assert_eq!(spec.unwrap().cgroups_path, "/pods/a");
        let (before, after): (Value, Value) =
            (serde_json::from_str(text).unwrap(), serde_json::from_str(&after).unwrap());
        assert_eq!(before, after);
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
            r#"{"process":{"args":["a"]},"root":{"path":"r"},"linux":[]}"#,
            r#"{"process":{"args":["a"]},"root":["r"]}"#,
            r#"{"process":{"args":[1]},"root":{"path":"r"}}"#,
            "[null,null,null,null]",
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

//! Where on the host a file of the pod is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::DeadlineFileError;

/// A file by the mount that brings it into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The host's directory, or the file itself.
    pub(super) source: PathBuf,
    /// The path in that directory; empty for a mount of the file alone.
    pub(super) below: PathBuf,
}

/// Where kubelet binds what a container has by subPath: it doesn't renew that, nor does its path say what else shows it.
const SUBPATHS: &str = "volume-subpaths";

struct Mount<'a> {
    source: &'a str,
    target: &'a Path,
    is_bind: bool,
    is_read_only: bool,
}

impl<'a> Mount<'a> {
    fn of(mount: &'a Value) -> Option<Self> {
        let text = |key: &str| mount.get(key).and_then(Value::as_str);
        let options = || mount.get("options").and_then(Value::as_array).into_iter().flatten();
        let has = |names: &[&str]| options().filter_map(Value::as_str).any(|option| names.contains(&option));
        Some(Self {
            source: text("source").unwrap_or_default(),
            target: Path::new(text("destination")?),
            is_bind: text("type") == Some("bind") || has(&["bind", "rbind"]),
            // Policy has seen to it that whatever is read-only says so by this word.
            is_read_only: has(&["ro"]) && !has(&["rw"]),
        })
    }

    fn all(spec: &'a Map<String, Value>) -> impl Iterator<Item = Self> {
        spec.get("mounts").and_then(Value::as_array).into_iter().flatten().filter_map(Self::of)
    }
}

impl Place {
    /// Where the container with this spec has `file` from; `None` if that is no file of the host's.
    ///
    /// # Errors
    /// The container could write it.
    pub(crate) fn find(spec: &Map<String, Value>, file: &Path) -> Result<Option<Self>, DeadlineFileError> {
        // Of two at one place the later hides the other.
        let nearest = Mount::all(spec)
            .filter(|mount| file.starts_with(mount.target))
            .max_by_key(|mount| mount.target.components().count());
        let Some(mount) = nearest.filter(|mount| mount.is_bind) else { return Ok(None) };
        if !mount.is_read_only {
            return Err(DeadlineFileError::Writable { target: mount.target.to_owned() });
        }
        if Path::new(mount.source).components().any(|part| part.as_os_str() == SUBPATHS) {
            return Err(DeadlineFileError::Subpath { target: mount.target.to_owned() });
        }
        let below = file.strip_prefix(mount.target).unwrap_or(Path::new("")).to_owned();
        Ok(Some(Self { source: mount.source.into(), below }))
    }

    /// Where it really is, with what else is in the same volume.
    pub(crate) fn volume(&self) -> PathBuf {
        real(&self.source)
    }
}

/// What the container with this spec can write of the host's, where it really is.
pub(crate) fn writable_sources(spec: &Map<String, Value>) -> Vec<PathBuf> {
    let writable = Mount::all(spec).filter(|mount| mount.is_bind && !mount.is_read_only);
    writable.map(|mount| real(Path::new(mount.source))).collect()
}

fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether the volume shows any of those directories, or is in one.
pub(crate) fn overlaps_any(volume: &Path, others: &[PathBuf]) -> bool {
    others.iter().any(|other| other.starts_with(volume) || volume.starts_with(other))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(mounts: Value) -> Result<Option<(String, String)>, DeadlineFileError> {
        let Value::Object(spec) = json!({ "mounts": mounts }) else { unreachable!() };
        let place = Place::find(&spec, Path::new("/etc/podinfo/deadline"))?;
        let text = |path: PathBuf| path.display().to_string();
        Ok(place.map(|place| (text(place.source), text(place.below))))
    }

    fn bind(target: &str, source: &str, options: &[&str]) -> Value {
        json!({ "destination": target, "source": source, "type": "bind", "options": options })
    }

    #[test]
    fn a_mount_by_sub_path_is_refused() {
        let source = "/var/lib/kubelet/pods/uid/volume-subpaths/podinfo/agent/0";
        let error = find(json!([bind("/etc/podinfo", source, &["ro"])])).unwrap_err();
        assert!(error.to_string().contains("/etc/podinfo is a subPath's"), "{error}");
    }

    #[test]
    fn the_nearest_mount_has_the_file() {
        let (far, near) = (bind("/etc", "/far", &["rw"]), bind("/etc/podinfo", "/near", &["rbind", "ro"]));
        let found = Some(("/near".to_owned(), "deadline".to_owned()));
        for mounts in [json!([far, near]), json!([near, far]), json!([bind("/etc/pod", "/x", &[]), near])] {
            assert_eq!(find(mounts).unwrap(), found);
        }
        let file = bind("/etc/podinfo/deadline", "/file", &["ro"]);
        assert_eq!(find(json!([near, file])).unwrap(), Some(("/file".to_owned(), String::new())));
        let hidden = json!([near, bind("/etc/podinfo", "/later", &["ro"])]);
        assert_eq!(find(hidden).unwrap().unwrap().0, "/later");
    }

    #[test]
    fn a_file_of_no_mount_or_of_the_sandbox_s_own_is_none_of_the_host_s() {
        for mounts in [
            Value::Null,
            json!([]),
            json!([bind("/etc/podinf", "/x", &["ro"])]),
            json!([bind("/etc/podinfo/deadline/x", "/x", &["ro"])]),
            json!([bind("/etc", "/x", &["ro"]), { "destination": "/etc/podinfo", "type": "tmpfs" }]),
        ] {
            assert_eq!(find(mounts).unwrap(), None);
        }
    }

    #[test]
    fn a_mount_that_can_be_written_is_refused() {
        for options in [&["rbind"][..], &["rbind", "rw"], &["ro", "rw"], &["rbind", "rro"]] {
            let refused = find(json!([bind("/etc/podinfo", "/x", options)]));
            assert!(matches!(refused, Err(DeadlineFileError::Writable { .. })), "{options:?}");
        }
    }

    #[test]
    fn what_a_container_can_write_is_known_by_its_real_place() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, link) = (dir.path().join("volume"), dir.path().join("link"));
        fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink(&volume, &link).unwrap();
        let mounts = |options: &[&str]| {
            let Value::Object(spec) = json!({ "mounts": [bind("/x", link.to_str().unwrap(), options)] })
            else {
                unreachable!()
            };
            writable_sources(&spec)
        };
        assert!(mounts(&["ro"]).is_empty());
        let writable = mounts(&["rw"]);
        let volume = fs::canonicalize(volume).unwrap();
        for (other, overlaps) in
            [(volume.clone(), true), (volume.join("a"), true), (dir.path().join("b"), false)]
        {
            assert_eq!(overlaps_any(&other, &writable), overlaps, "{}", other.display());
        }
    }
}

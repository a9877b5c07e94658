//! Masked paths, which runsc ignores, as mounts: an empty directory or an empty file over each, both read-only.
//!
//! Nothing is there to mask below most paths that Kubernetes names, and a mount over a file that isn't there keeps the
//! container from starting. So it has to be known what is there. For a sandbox's proc and sysfs it is; for the image it
//! can be seen once that is mounted; what a volume will hold at a path cannot be known, and is not masked.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Object, Refusal, Subject, list, malformed, object, object_mut, plain_path};
use crate::{rootfs::Kind, sandbox_dir::empty_file};

const NAME: &str = "linux.maskedPaths";

/// A mount over `path`, which is a `kind`; `state_dir` has the empty file.
pub(crate) fn mask(path: &Path, kind: Kind, state_dir: &Path) -> Value {
    match kind {
        Kind::Directory => json!({
            "destination": path, "type": "tmpfs", "source": "tmpfs",
            "options": ["ro", "nosuid", "nodev", "noexec", "size=0k", "mode=555"],
        }),
        Kind::File => json!({
            "destination": path, "type": "bind", "source": empty_file(state_dir),
            "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
        }),
    }
}

/// Whether a mount is a mask over a file.
pub(super) fn is_mask(mount: &Object, subject: &Subject<'_>) -> bool {
    let target = mount.get("destination").and_then(Value::as_str).map(Path::new);
    target.is_some_and(|target| {
        mask(target, Kind::File, &subject.policy.state.dir).as_object().is_some_and(|mask| mask == mount)
    })
}

/// Masks what a sandbox is known to have. Returns the paths that are the image's, if they are there at all.
pub(super) fn confine(spec: &mut Object, subject: &Subject<'_>) -> Result<Vec<PathBuf>, Refusal> {
    let paths = asked(spec)?;
    if paths.is_empty() {
        return Ok(paths);
    }
    object_mut(spec, "linux")?.remove("maskedPaths");
    let mounts = list(spec, "mounts", "mounts")?;
    let (mut masks, mut of_image) = (Vec::new(), Vec::new());
    for path in paths {
        let Some(mount) = nearest(mounts, &path) else {
            of_image.push(path);
            continue;
        };
        let kind = match text(mount, "type") {
            _ if Path::new(text(mount, "destination")) == path => Some(kind_of(mount)),
            "proc" | "sysfs" => known(&path),
            _ => None,
        };
        masks.extend(kind.map(|kind| mask(&path, kind, &subject.policy.state.dir)));
    }
    let mounts = spec.entry("mounts").or_insert(Value::Null);
    mounts.as_array_mut().ok_or_else(|| malformed("mounts"))?.extend(masks);
    Ok(of_image)
}

/// The paths to be masked, each once, without those below another.
fn asked(spec: &Object) -> Result<Vec<PathBuf>, Refusal> {
    let Some(linux) = object(spec, "linux")? else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for path in list(linux, "maskedPaths", NAME)? {
        let path = path.as_str().and_then(plain_path).ok_or_else(|| malformed(NAME))?;
        // Without what is another way to write the same.
        paths.push(path.components().collect::<PathBuf>());
    }
    // Not the root: nothing would be left.
    paths.retain(|path| path.parent().is_some());
    paths.sort();
    paths.dedup_by(|later, first| later.starts_with(first));
    Ok(paths)
}

/// The mount that a path is, or is in; `None` for the root.
fn nearest<'a>(mounts: &'a [Value], path: &Path) -> Option<&'a Value> {
    let above = mounts.iter().filter(|mount| path.starts_with(text(mount, "destination")));
    above.max_by_key(|mount| Path::new(text(mount, "destination")).components().count())
}

/// Only a mount of the host's can be a file.
fn kind_of(mount: &Value) -> Kind {
    let source = Path::new(text(mount, "source"));
    if source.is_absolute() && source.is_file() { Kind::File } else { Kind::Directory }
}

fn text<'a>(mount: &'a Value, key: &str) -> &'a str {
    mount.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn known(path: &Path) -> Option<Kind> {
    let line = include_str!("masks/sandbox.txt").lines().find(|line| Path::new(line) == path)?;
    Some(if line.ends_with('/') { Kind::Directory } else { Kind::File })
}

//! `/dev/shm`: a file system of its own for a container without a pod, and one that a pod's containers share, which
//! CRI has mounted on the host. What is written to either counts in the sandbox's memory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{TMPFS_MAGIC, statfs},
};

use super::{Object, Subject, mounts::pods_own};

const TARGET: &str = "/dev/shm";
const SIZE: &str = "size=";
/// A file system is as large as its whole pages.
const PAGE: u64 = 4096;

/// Bytes of `/dev/shm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShmSize {
    pub(crate) bytes: u64,
    /// Whether the pod asked for just that: then nothing else that its spec says counts.
    pub(crate) asked: bool,
}

/// Gives a tmpfs its size if it is the one at `/dev/shm`: the pod's wish, else what the spec says under the node's
/// ceiling, else what every pod gets.
pub(super) fn confine_tmpfs(target: &str, options: &mut Vec<String>, subject: &Subject<'_>) {
    if target.trim_end_matches('/') != TARGET {
        return;
    }
    let written = options.iter().rev().find_map(|option| option.strip_prefix(SIZE));
    let written = written.and_then(size).map(|bytes| bytes.min(subject.policy.limits.shm));
    let bytes = written.filter(|bytes| !subject.shm.asked && *bytes >= PAGE).unwrap_or(subject.shm.bytes);
    options.retain(|option| !option.starts_with(SIZE));
    options.push(format!("{SIZE}{}", whole_pages(bytes)));
}

/// A size as the kernel's tmpfs reads it, percentages apart.
fn size(text: &str) -> Option<u64> {
    let shift = match text.bytes().last()?.to_ascii_lowercase() {
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        _ => return text.parse().ok(),
    };
    text.get(..text.len() - 1)?.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Down, so that no rounding goes above a ceiling.
fn whole_pages(bytes: u64) -> u64 {
    bytes / PAGE * PAGE
}

/// The directory on the host that CRI has made for the pod to be its `/dev/shm`, if `spec` mounts it.
pub(crate) fn shared_shm(spec: &Object, subject: &Subject<'_>) -> Option<PathBuf> {
    let sources = spec.get("mounts")?.as_array()?.iter().filter_map(|mount| mount.get("source")?.as_str());
    let real = sources.filter_map(|source| fs::canonicalize(source).ok());
    real.into_iter().find(|real| {
        let below = pods_own(real, subject);
        below.is_some_and(
            |below| matches!(&below[..], [_, kind, _, name] if kind == "sandboxes" && name == "shm"),
        )
    })
}

/// Makes the tmpfs that is mounted at `dir` so large, if it isn't. What is in it stays.
///
/// # Errors
/// There is none, or the kernel refuses: something is in it that wouldn't fit.
pub(crate) fn resize(dir: &Path, bytes: u64) -> io::Result<()> {
    let now = statfs(dir)?;
    if now.filesystem_type() != TMPFS_MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no tmpfs"));
    }
    let bytes = whole_pages(bytes);
    if now.blocks().saturating_mul(now.block_size().unsigned_abs()) == bytes {
        return Ok(());
    }
    // These are what it has: a change of its size sets all of them anew. It fails for what isn't a mount itself.
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let nothing: Option<&Path> = None;
    Ok(mount(nothing, dir, nothing, flags, Some(format!("{SIZE}{bytes}").as_str()))?)
}

#[cfg(test)]
mod tests {
    use curfew_config::NodePolicy;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        confine::{PodPlaces, tests::subject},
        pod::group::Role,
    };

    fn options(written: &[&str], target: &str, asked: Option<u64>) -> Vec<String> {
        let policy = NodePolicy::default();
        let shm = ShmSize { bytes: asked.unwrap_or(policy.limits.shm_default), asked: asked.is_some() };
        let mut options = written.iter().map(|option| (*option).to_owned()).collect();
        confine_tmpfs(target, &mut options, &Subject { shm, ..subject(&policy, &Role::Plain) });
        options
    }

    #[test]
    fn the_pods_wish_goes_before_the_specs_and_the_specs_before_the_default() {
        let asked = Some(200 << 20);
        for (written, asked, size) in [
            (&["mode=1777"][..], None, "size=67108864"),
            (&["size=32m", "mode=1777"], None, "size=33554432"),
            (&["size=1k", "size=32m", "mode=1777"], None, "size=33554432"),
            (&["size=2g", "mode=1777"], None, "size=1073741824"),
            (&["size=0", "mode=1777"], None, "size=67108864"),
            (&["size=50%", "mode=1777"], None, "size=67108864"),
            (&["size=32m", "mode=1777"], asked, "size=209715200"),
            (&["mode=1777"], Some(5000), "size=4096"),
        ] {
            assert_eq!(options(written, "/dev/shm", asked), ["mode=1777", size], "{written:?}");
            assert_eq!(options(written, "/dev/shm/", asked), ["mode=1777", size]);
            assert_eq!(options(written, "/run", asked), written);
        }
    }

    #[test]
    fn only_the_directory_that_cri_made_for_this_pod_is_its_shm() {
        let dir = tempfile::tempdir().unwrap();
        let mut policy = NodePolicy::default();
        policy.mounts.containerd = vec![dir.path().to_owned()];
        let pod = PodPlaces { uid: String::new(), sandbox: "s".into(), container: "c".into() };
        let shm = ShmSize { bytes: 1 << 20, asked: true };
        let subject = Subject { shm, pod: Some(pod), ..subject(&policy, &Role::Pause) };
        let found = |path: &str| {
            let source = dir.path().join(path);
            fs::create_dir_all(&source).unwrap();
            let spec = json!({ "mounts": [{ "type": "proc" }, { "source": source }] });
            let Value::Object(spec) = spec else { panic!("no object") };
            shared_shm(&spec, &subject)
        };
        let own = "cri/sandboxes/s/shm";
        assert_eq!(found(own), Some(fs::canonicalize(dir.path().join(own)).unwrap()));
        for other in
            ["cri/sandboxes/other/shm", "cri/containers/c/shm", "cri/sandboxes/s/shm/x", "cri/sandboxes/s/y"]
        {
            assert_eq!(found(other), None, "{other}");
        }
        let error = resize(Path::new("/proc"), 1 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn sizes_are_read_as_the_kernel_does() {
        for (text, bytes) in [
            ("65536k", Some(64 << 20)),
            ("64M", Some(64 << 20)),
            ("1g", Some(1 << 30)),
            ("1t", Some(1 << 40)),
            ("4096", Some(4096)),
            ("50%", None),
            ("", None),
            ("k", None),
            ("-1", None),
            ("99999999999999t", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}

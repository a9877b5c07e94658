//! What a machine holds besides processes: mounts, cgroups, sockets, files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A set of things, each as one line of text.
pub type Things = BTreeSet<String>;

/// One line of `/proc/self/mountinfo`, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub point: PathBuf,
    pub kind: String,
    line: String,
}

/// All mounts of our mount namespace, the oldest first.
pub fn mounts() -> Vec<Mount> {
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    info.lines().filter_map(Mount::parse).collect()
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        Some(Self {
            point: unescape(left.split(' ').nth(4)?).into(),
            kind: right.split(' ').next()?.into(),
            line: line.into(),
        })
    }

    pub fn is_below(&self, dir: &Path) -> bool {
        self.point.starts_with(dir)
    }

    /// Whether its path, source or options contain these words.
    pub fn speaks_of(&self, words: &str) -> bool {
        self.line.contains(words)
    }
}

/// Mountinfo writes blanks and the like as three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => plain.push(byte.into()),
            None => plain.push('\\'),
        }
        plain.push_str(part.get(3..).unwrap_or(part));
    }
    plain
}

/// The root of every cgroup hierarchy, v1 controllers and v2.
pub fn cgroup_roots() -> Vec<PathBuf> {
    let all = mounts().into_iter();
    all.filter(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2").map(|mount| mount.point).collect()
}

/// Every cgroup of every hierarchy.
pub fn cgroups() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for root in cgroup_roots() {
        directories(&root, &mut found);
    }
    found
}

fn directories(dir: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            directories(&entry.path(), into);
            into.insert(entry.path());
        }
    }
}

/// The names of all bound unix sockets, abstract ones with an `@`.
pub fn socket_names() -> Things {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let names = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7));
    names.map(str::to_owned).collect()
}

/// The entries of a directory, by path.
pub fn entries(dir: &Path) -> Things {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// All socket files below a directory, not crossing into other file systems.
pub fn socket_files(dir: &Path) -> Things {
    let mut found = Things::new();
    if let Ok(meta) = fs::symlink_metadata(dir) {
        sockets_below(dir, meta.dev(), &mut found);
    }
    found
}

fn sockets_below(dir: &Path, device: u64, into: &mut Things) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.file_type().is_socket() {
            into.insert(entry.path().display().to_string());
        } else if meta.is_dir() && meta.dev() == device {
            sockets_below(&entry.path(), device, into);
        }
    }
}

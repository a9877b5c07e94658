//! Where cgroups are: from paths and memberships to directories, as pure functions.

use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// A cgroup path for which no sandbox can be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CgroupPathError {
    /// It names no cgroup which could be a sandbox's own.
    #[error("cgroupsPath {0:?} is neither an absolute path below the root nor slice:prefix:name")]
    Malformed(String),
    /// It is systemd's form where runsc cannot use it.
    #[error("cgroupsPath {path:?} asks for systemd's cgroup driver, which works {only}: use cgroupfs's")]
    NoSystemd { path: String, only: &'static str },
}

/// One mounted hierarchy: where it is, and the part of the tree that the mount shows.
struct Hierarchy {
    mount_point: PathBuf,
    root: PathBuf,
}

/// The mounted hierarchies, each with the names by which `/proc/PID/cgroup` knows it; version 2 has an empty name.
fn hierarchies(mountinfo: &str) -> Vec<(Vec<String>, Hierarchy)> {
    mountinfo.lines().filter_map(parse_hierarchy).collect()
}

fn parse_hierarchy(line: &str) -> Option<(Vec<String>, Hierarchy)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let root = PathBuf::from(mount.next()?);
    let mount_point = PathBuf::from(mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let names = match filesystem.next()? {
        "cgroup2" => vec![String::new()],
        // The super options hold the controllers, or `name=` for a hierarchy without one.
        "cgroup" => filesystem.nth(1)?.split(',').map(str::to_owned).collect(),
        _ => return None,
    };
    Some((names, Hierarchy { mount_point, root }))
}

/// A path that names a cgroup below the root: never the root itself, never anything above it.
fn is_below_root(path: &Path) -> bool {
    let mut below = path.components().filter(|c| *c != Component::RootDir).peekable();
    below.peek().is_some() && below.all(|c| matches!(c, Component::Normal(_)))
}

/// Whose cgroup a spec's `cgroupsPath` is, and where below a hierarchy's root.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PlannedPath {
    /// A directory that runsc makes.
    Cgroupfs(PathBuf),
    /// A scope that runsc asks systemd for.
    Systemd(PathBuf),
}

impl PlannedPath {
    pub(super) fn parse(cgroups_path: &str) -> Result<Self, CgroupPathError> {
        let malformed = || CgroupPathError::Malformed(cgroups_path.to_owned());
        match cgroups_path.split(':').collect::<Vec<_>>()[..] {
            [path] if path.starts_with('/') => {
                let path = PathBuf::from(path.trim_start_matches('/'));
                if is_below_root(&path) { Ok(Self::Cgroupfs(path)) } else { Err(malformed()) }
            }
            [slice, prefix, name] => {
                systemd_scope(slice, prefix, name).map(Self::Systemd).ok_or_else(malformed)
            }
            _ => Err(malformed()),
        }
    }

    /// The directories that there will be in the mounted hierarchies.
    pub(super) fn directories(&self, mountinfo: &str) -> Vec<PathBuf> {
        let (Self::Cgroupfs(path) | Self::Systemd(path)) = self;
        hierarchies(mountinfo).into_iter().map(|(_, h)| h.mount_point.join(path)).collect()
    }
}

/// Whether cgroups are version 2 alone, told as runsc tells it.
pub(super) fn is_unified(mountinfo: &str) -> bool {
    let root = Path::new("/sys/fs/cgroup");
    hierarchies(mountinfo)
        .iter()
        .any(|(names, hierarchy)| hierarchy.mount_point == root && names.iter().all(String::is_empty))
}

/// Where systemd puts the scope `prefix-name` of a slice: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn systemd_scope(slice: &str, prefix: &str, name: &str) -> Option<PathBuf> {
    if ![slice, prefix, name].into_iter().all(is_part_of_unit_name) {
        return None;
    }
    let slices = slice.strip_suffix(".slice")?;
    let mut path = PathBuf::new();
    let ends = slices.match_indices('-').map(|(end, _)| end).chain([slices.len()]);
    for end in ends.filter(|_| slices != "-") {
        let start = slices.get(..end).filter(|start| !start.is_empty() && !start.ends_with('-'))?;
        path.push(format!("{start}.slice"));
    }
    Some(path.join(format!("{prefix}-{name}.scope")))
}

/// Whether systemd takes `text` in a unit's name (systemd.unit(5)), and it climbs nowhere as a path.
fn is_part_of_unit_name(text: &str) -> bool {
    let may_be = |c: char| c.is_ascii_alphanumeric() || "-_.\\@".contains(c);
    !text.is_empty() && text.chars().all(may_be) && !text.contains("..")
}

/// The directories of a process's cgroup that `ours`, our own `/proc/self/cgroup`, doesn't name.
pub(super) fn own_directories(mountinfo: &str, memberships: &str, ours: &str) -> Vec<PathBuf> {
    let ours = joined_directories(mountinfo, ours);
    let mut directories = joined_directories(mountinfo, memberships);
    directories.retain(|directory| !ours.contains(directory));
    directories
}

fn joined_directories(mountinfo: &str, memberships: &str) -> Vec<PathBuf> {
    let hierarchies = hierarchies(mountinfo);
    let mut directories = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else { continue };
        let wanted = names.split(',').next().unwrap_or_default();
        let mounted = hierarchies.iter().find(|(known, _)| known.iter().any(|name| name == wanted));
        let Some((_, hierarchy)) = mounted else { continue };
        let Ok(shown) = Path::new(path).strip_prefix(&hierarchy.root) else { continue };
        if is_below_root(shown) {
            directories.push(hierarchy.mount_point.join(shown));
        }
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str = "30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";

    fn paths(directories: Vec<PathBuf>) -> Vec<String> {
        directories.iter().map(|d| d.display().to_string()).collect()
    }

    fn planned(mountinfo: &str, cgroups_path: &str) -> Vec<String> {
        paths(PlannedPath::parse(cgroups_path).unwrap().directories(mountinfo))
    }

    #[test]
    fn a_planned_cgroup_has_a_directory_in_every_hierarchy() {
        assert_eq!(
            planned(HYBRID, "/pods/a"),
            ["/sys/fs/cgroup/cpu/pods/a", "/sys/fs/cgroup/systemd/pods/a", "/sys/fs/cgroup/unified/pods/a"]
        );
        assert_eq!(planned(UNIFIED, "/pods/a"), ["/sys/fs/cgroup/pods/a"]);
    }

    #[test]
    fn a_systemd_path_is_where_systemd_puts_the_scope() {
        assert_eq!(
            planned(UNIFIED, "kubepods-burstable-pod1_2.slice:cri-containerd:a"),
            [
                "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-a.scope"
            ]
        );
        assert_eq!(planned(UNIFIED, "-.slice:x:a"), ["/sys/fs/cgroup/x-a.scope"]);
    }

    #[test]
    fn the_root_cgroup_and_what_leaves_the_tree_are_refused() {
        for path in ["/", "", "/..", "/a/../..", "//", "relative"] {
            assert_eq!(PlannedPath::parse(path), Err(CgroupPathError::Malformed(path.to_owned())));
        }
        assert!(joined_directories(HYBRID, "2:cpu,cpuacct:/\n0::/\n").is_empty());
    }

    #[test]
    fn a_systemd_path_that_names_no_scope_of_a_slice_is_refused() {
        for path in [
            "a:b",
            "a:b:c",
            "a.slice:b",
            "a.slice:b:c:d",
            "a.slice:b:",
            "a.slice::c",
            ":b:c",
            ".slice:b:c",
            "-a.slice:b:c",
            "a-.slice:b:c",
            "a--b.slice:c:d",
            "--.slice:b:c",
            "a.slice:../b:c",
            "a.slice:b:..",
            "...slice:b:c",
            "a/b.slice:c:d",
            "/a.slice:b:c",
            "a.slice:b:c d",
        ] {
            assert_eq!(PlannedPath::parse(path), Err(CgroupPathError::Malformed(path.to_owned())));
        }
    }

    #[test]
    fn only_version_2_alone_is_unified() {
        assert!(is_unified(UNIFIED));
        assert!(!is_unified(HYBRID));
    }

    #[test]
    fn the_cgroup_of_a_process_is_found_by_the_hierarchys_names() {
        let memberships = "3:name=systemd:/pods/a\n2:cpu,cpuacct:/pods/a\n0::/\n";
        assert_eq!(
            paths(joined_directories(HYBRID, memberships)),
            ["/sys/fs/cgroup/systemd/pods/a", "/sys/fs/cgroup/cpu/pods/a"]
        );
        assert_eq!(paths(joined_directories(UNIFIED, "0::/pods/a\n")), ["/sys/fs/cgroup/pods/a"]);
    }

    #[test]
    fn a_directory_that_the_shim_is_in_is_never_the_sandboxs() {
        let sandbox = "2:cpu,cpuacct:/pods/a\n0::/system.slice/containerd.service\n";
        let shim = "2:cpu,cpuacct:/\n0::/system.slice/containerd.service\n";
        assert_eq!(paths(own_directories(HYBRID, sandbox, shim)), ["/sys/fs/cgroup/cpu/pods/a"]);
    }
}

//! Where cgroups are: from paths and memberships to directories, as pure functions.

use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// A cgroup path that names no cgroup which could be a sandbox's own.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("cgroupsPath {0:?} is neither an absolute path below the root nor slice:prefix:name")]
pub(crate) struct CgroupPathError(String);

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

/// The directories that runsc will make for a spec's `cgroupsPath`.
pub(super) fn planned_directories(
    mountinfo: &str,
    cgroups_path: &str,
) -> Result<Vec<PathBuf>, CgroupPathError> {
    let malformed = || CgroupPathError(cgroups_path.to_owned());
    let path = match cgroups_path.split(':').collect::<Vec<_>>()[..] {
        [path] if path.starts_with('/') => PathBuf::from(path.trim_start_matches('/')),
        [slice, prefix, name] => systemd_scope(slice, prefix, name).ok_or_else(malformed)?,
        _ => return Err(malformed()),
    };
    if !is_below_root(&path) {
        return Err(malformed());
    }
    Ok(hierarchies(mountinfo).into_iter().map(|(_, h)| h.mount_point.join(&path)).collect())
}

/// Where systemd puts the scope `prefix-name` of a slice: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn systemd_scope(slice: &str, prefix: &str, name: &str) -> Option<PathBuf> {
    let slices = slice.strip_suffix(".slice")?;
    let mut path = PathBuf::new();
    let ends = slices.match_indices('-').map(|(end, _)| end).chain([slices.len()]);
    for end in ends.filter(|_| slices != "-") {
        path.push(format!("{}.slice", slices.get(..end).filter(|start| !start.is_empty())?));
    }
    let scope = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    (!name.is_empty() && !scope.contains('/')).then(|| path.join(scope))
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

    #[test]
    fn a_planned_cgroup_has_a_directory_in_every_hierarchy() {
        assert_eq!(
            paths(planned_directories(HYBRID, "/pods/a").unwrap()),
            ["/sys/fs/cgroup/cpu/pods/a", "/sys/fs/cgroup/systemd/pods/a", "/sys/fs/cgroup/unified/pods/a"]
        );
        assert_eq!(paths(planned_directories(UNIFIED, "/pods/a").unwrap()), ["/sys/fs/cgroup/pods/a"]);
    }

    #[test]
    fn a_systemd_path_is_where_systemd_puts_the_scope() {
        assert_eq!(
            paths(planned_directories(UNIFIED, "kubepods-burstable-pod1.slice:cri-containerd:a").unwrap()),
            [
                "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-a.scope"
            ]
        );
        assert_eq!(paths(planned_directories(UNIFIED, "-.slice::a").unwrap()), ["/sys/fs/cgroup/a.scope"]);
    }

    #[test]
    fn the_root_cgroup_and_what_leaves_the_tree_are_refused() {
        for path in [
            "/",
            "",
            "/..",
            "/a/../..",
            "//",
            "relative",
            "a:b",
            "a:b:c",
            "-a.slice:b:c",
            "a.slice:b:",
            "a.slice:../b:c",
        ] {
            assert!(planned_directories(HYBRID, path).is_err(), "{path:?}");
        }
        assert!(joined_directories(HYBRID, "2:cpu,cpuacct:/\n0::/\n").is_empty());
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

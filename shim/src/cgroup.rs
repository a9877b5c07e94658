//! The cgroup of a sandbox, as directories: one on version 2, one in each hierarchy on version 1.
//!
//! A sandbox lives in its root container's own cgroup, so ending all of its members ends the sandbox and nobody else.
//! That is why a cgroup that has members already is refused at Create.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::process::PidFd;

/// How long to let the kernel take members out of a cgroup between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A cgroup: its directory in every hierarchy that has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    directories: Vec<PathBuf>,
}

/// One mounted hierarchy: where it is, and the part of the tree that the mount shows.
struct Hierarchy {
    mount_point: PathBuf,
    root: PathBuf,
}

impl Cgroup {
    /// The cgroup that runsc will make for `cgroups_path`, as the spec gives it. A systemd path
    /// (`slice:prefix:name`) is known only once it exists, so its cgroup is empty here.
    pub(crate) fn planned(cgroups_path: &str) -> io::Result<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self { directories: planned_directories(&mountinfo, cgroups_path) })
    }

    /// The cgroup that process `pid` is in.
    pub(crate) fn of_process(pid: i32) -> io::Result<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
        let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        Ok(Self { directories: joined_directories(&mountinfo, &memberships) })
    }

    /// This cgroup and `other`, each directory once.
    pub(crate) fn union(mut self, other: Self) -> Self {
        for directory in other.directories {
            if !self.directories.contains(&directory) {
                self.directories.push(directory);
            }
        }
        self
    }

    /// Whether any process is a member.
    pub(crate) fn is_populated(&self) -> bool {
        !self.members().is_empty()
    }

    /// The pids of all members, in any hierarchy, of child cgroups too.
    pub(crate) fn members(&self) -> BTreeSet<i32> {
        let mut members = BTreeSet::new();
        for directory in &self.directories {
            collect_members(directory, &mut members);
        }
        members
    }

    /// Sends SIGKILL to every member, once. Frozen members are thawed, since version 1 delivers nothing to them.
    pub(crate) fn kill(&self) {
        for directory in &self.directories {
            // Each file exists on one version only.
            let _ = write_control(&directory.join("cgroup.kill"), "1");
            let _ = write_control(&directory.join("freezer.state"), "THAWED");
        }
        for pid in self.members() {
            if let Ok(pidfd) = PidFd::open(pid)
                && self.members().contains(&pid)
            {
                pidfd.kill();
            }
        }
    }

    /// Kills until no member is left, for `limit` at most. Says whether it is empty.
    pub(crate) async fn kill_until_empty(&self, limit: Duration) -> bool {
        let emptying = async {
            while self.is_populated() {
                self.kill();
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(limit, emptying).await.is_ok()
    }

    /// Removes the empty cgroup; what is gone already is fine.
    ///
    /// # Errors
    /// The first directory that could not be removed.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for directory in &self.directories {
            remove_tree(directory).map_err(|e| {
                io::Error::new(e.kind(), format!("cannot remove {}: {e}", directory.display()))
            })?;
        }
        Ok(())
    }
}

fn write_control(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

fn collect_members(directory: &Path, members: &mut BTreeSet<i32>) {
    if let Ok(procs) = fs::read_to_string(directory.join("cgroup.procs")) {
        members.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    for child in child_directories(directory) {
        collect_members(&child, members);
    }
}

fn child_directories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|t| t.is_dir());
    entries.flatten().filter(is_dir).map(|entry| entry.path()).collect()
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    for child in child_directories(directory) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
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

fn planned_directories(mountinfo: &str, cgroups_path: &str) -> Vec<PathBuf> {
    let path = Path::new(cgroups_path);
    // A relative path would be below runsc's own cgroup; it is found once the sandbox is in it.
    if cgroups_path.contains(':') || !path.is_absolute() || !is_below_root(path) {
        return Vec::new();
    }
    let relative = cgroups_path.trim_start_matches('/');
    hierarchies(mountinfo).into_iter().map(|(_, h)| h.mount_point.join(relative)).collect()
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
            paths(planned_directories(HYBRID, "/pods/a")),
            ["/sys/fs/cgroup/cpu/pods/a", "/sys/fs/cgroup/systemd/pods/a", "/sys/fs/cgroup/unified/pods/a"]
        );
        assert_eq!(paths(planned_directories(UNIFIED, "/pods/a")), ["/sys/fs/cgroup/pods/a"]);
    }

    #[test]
    fn the_root_cgroup_and_what_leaves_the_tree_are_never_ours() {
        for path in ["/", "", "/..", "/a/../..", "//", "system.slice:cri:a", "relative"] {
            assert!(planned_directories(HYBRID, path).is_empty(), "{path:?}");
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
}

//! The cgroup of a sandbox, as directories: one on version 2, one in each hierarchy on version 1.
//!
//! A sandbox lives in its root container's own cgroup, so ending all of its members ends the sandbox and nobody else.
//! That is why a cgroup that has members already is refused at Create, and why a directory that the shim itself is in,
//! as in a hierarchy that runsc leaves alone, never counts as the sandbox's.

mod layout;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub(crate) use self::layout::CgroupPathError;
use self::layout::{PlannedPath, is_unified, own_directories};
use crate::process::PidFd;
use serde::{Deserialize, Serialize};

/// How long to let the kernel take members out of a cgroup between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The parent of the cgroups that we choose ourselves. It goes with the last of them.
pub(crate) const OWN_PARENT: &str = "curfew";

/// Where systemd is pid 1, this directory exists (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// A cgroup: its directory in every hierarchy that has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    directories: Vec<PathBuf>,
    /// Whether it is a scope of systemd's, which runsc asks systemd for and which systemd removes once it is empty.
    #[serde(default)]
    by_systemd: bool,
}

/// CPU time for each period, both in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuQuota {
    pub(crate) quota: u64,
    pub(crate) period: u64,
}

impl CpuQuota {
    /// What a directory of version 1 has; `None` without a limit.
    fn read(directory: &Path) -> Option<Self> {
        let number = |file| fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok();
        // -1 is none.
        Some(Self { quota: number("cpu.cfs_quota_us")?, period: number("cpu.cfs_period_us")? })
    }

    /// By the share of a CPU.
    pub(crate) fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let share = |a: &Self, b: &Self| u128::from(a.quota) * u128::from(b.period);
        share(self, other).cmp(&share(other, self))
    }
}

impl Cgroup {
    /// The cgroup that runsc will make for `cgroups_path`, as the spec gives it.
    ///
    /// # Errors
    /// A relative path, the root itself, or one that leaves the tree; systemd's form where systemd cannot be used; or
    /// the mounts cannot be read.
    pub(crate) fn planned(cgroups_path: &str) -> io::Result<Result<Self, CgroupPathError>> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(PlannedPath::parse(cgroups_path).and_then(|path| {
            let by_systemd = matches!(path, PlannedPath::Systemd(_));
            let refused = |only| CgroupPathError::NoSystemd { path: cgroups_path.to_owned(), only };
            if by_systemd && !is_unified(&mountinfo) {
                return Err(refused("on cgroups version 2 alone"));
            }
            if by_systemd && !Path::new(SYSTEMD).is_dir() {
                return Err(refused("where systemd runs"));
            }
            Ok(Self { directories: path.directories(&mountinfo), by_systemd })
        }))
    }

    /// The cgroup that process `pid` is in, apart from directories that this process is in too.
    pub(crate) fn of_process(pid: i32) -> io::Result<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
        let ours = fs::read_to_string("/proc/self/cgroup")?;
        let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        Ok(Self { directories: own_directories(&mountinfo, &memberships, &ours), by_systemd: false })
    }

    /// Whether it is a scope of systemd's.
    pub(crate) fn is_by_systemd(&self) -> bool {
        self.by_systemd
    }

    /// Has the kernel kill all members together if it kills one for want of memory: a sandbox that has lost one of its
    /// processes is of no use, and may hang. Version 1 has no such thing, and systemd takes it back when it is reloaded:
    /// then the shim ends what the kernel leaves.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(crate) fn end_together_when_out_of_memory(&self) -> io::Result<()> {
        const FILE: &str = "memory.oom.group";
        self.directory_with(FILE).map_or(Ok(()), |directory| write_control(&directory.join(FILE), "1"))
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

    /// The directory that has `file`, which is how to tell a controller's. Where the sandbox really is was added last, so
    /// that goes first.
    pub(crate) fn directory_with(&self, file: &str) -> Option<&Path> {
        self.directories.iter().rev().find(|directory| directory.join(file).exists()).map(PathBuf::as_path)
    }

    /// Each directory's parent, as a cgroup.
    pub(crate) fn parents(&self) -> impl Iterator<Item = Self> + '_ {
        self.directories
            .iter()
            .filter_map(|directory| directory.parent())
            .map(|parent| Self::at(parent.to_owned()))
    }

    /// The CPU quota that the cgroups above this one leave it, on version 1, where the kernel refuses a higher one. The
    /// cgroup itself needn't exist.
    pub(crate) fn quota_above(&self) -> Option<CpuQuota> {
        let above = self.directories.iter().flat_map(|directory| directory.ancestors().skip(1));
        above.filter_map(CpuQuota::read).min_by(CpuQuota::compare)
    }

    /// A cgroup that is no more than these directories.
    #[cfg(test)]
    pub(crate) fn of_directories(directories: Vec<PathBuf>) -> Self {
        Self { directories, by_systemd: false }
    }

    /// A scope of systemd's in this directory.
    #[cfg(test)]
    pub(crate) fn scope_at(directory: PathBuf) -> Self {
        Self { directories: vec![directory], by_systemd: true }
    }

    /// One directory of a cgroup.
    pub(crate) fn at(directory: PathBuf) -> Self {
        Self { directories: vec![directory], by_systemd: false }
    }

    /// Where it is, whether or not it is there.
    pub(crate) fn directories(&self) -> &[PathBuf] {
        &self.directories
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

    /// Removes the cgroup, killing whatever is in it, for `limit` at most. What is gone already is fine.
    ///
    /// # Errors
    /// The directory that could not be removed.
    pub(crate) async fn end(&self, limit: Duration) -> io::Result<()> {
        self.remove_with(limit, || self.kill()).await
    }

    /// Removes the cgroup, which has no members, for `limit` at most. What is gone already is fine.
    ///
    /// # Errors
    /// The directory that could not be removed.
    pub(crate) async fn remove(&self, limit: Duration) -> io::Result<()> {
        self.remove_with(limit, || {}).await
    }

    /// A directory is busy for a moment after its last member has gone, and a runsc that dies may join until it has.
    async fn remove_with(&self, limit: Duration, before_each_try: impl Fn()) -> io::Result<()> {
        let until = Instant::now() + limit;
        loop {
            before_each_try();
            match self.try_remove() {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                result => return result,
            }
        }
    }

    fn try_remove(&self) -> io::Result<()> {
        for directory in &self.directories {
            remove_tree(directory).map_err(|e| {
                io::Error::new(e.kind(), format!("cannot remove {}: {e}", directory.display()))
            })?;
            if let Some(parent) = directory.parent().filter(|parent| parent.ends_with(OWN_PARENT)) {
                // Still in use by other sandboxes, most of the time.
                let _ = fs::remove_dir(parent);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_quota_above_a_cgroup_counts_and_its_own_does_not() {
        let root = tempfile::tempdir().unwrap();
        let of = |path: &str, quota: &str| {
            let directory = root.path().join(path);
            fs::create_dir_all(&directory).unwrap();
            crate::durable::replace(&directory.join("cpu.cfs_quota_us"), quota.as_bytes()).unwrap();
            crate::durable::replace(&directory.join("cpu.cfs_period_us"), b"100000\n").unwrap();
        };
        let cgroup = Cgroup::of_directories(vec![root.path().join("a/b/c")]);
        assert_eq!(cgroup.quota_above(), None);
        of("a", "-1\n");
        of("a/b/c", "1000\n");
        assert_eq!(cgroup.quota_above(), None);
        of("a", "50000\n");
        of("a/b", "70000\n");
        assert_eq!(cgroup.quota_above(), Some(CpuQuota { quota: 50_000, period: 100_000 }));
    }
}

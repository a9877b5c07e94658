//! The cgroup of a sandbox, as directories: one on version 2, one in each hierarchy on version 1.
//!
//! A sandbox lives in its root container's own cgroup, so ending all of its members ends the sandbox and nobody else.
//! That is why a cgroup that has members already is refused at Create, and why a directory that the shim itself is in,
//! as in a hierarchy that runsc leaves alone, never counts as the sandbox's.

mod end;
mod layout;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub(crate) use self::end::Condemned;
pub(crate) use self::layout::CgroupPathError;
use self::layout::{PlannedPath, is_unified, own_directories};
use serde::{Deserialize, Serialize};

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

    /// The directory that has `file`, which is how to tell a controller's. The likely ones are asked first: version 1's
    /// hierarchies are mounted under the names of their controllers. Where the sandbox really is was added last, and goes
    /// before what was planned.
    pub(crate) fn directory_with(&self, file: &str) -> Option<&Path> {
        let controller = file.split('.').next().unwrap_or(file);
        let is_likely = |path: &&PathBuf| {
            let mut names = path.iter().filter_map(|name| name.to_str());
            names.any(|name| name.split(',').any(|name| name == controller))
        };
        let likely = self.directories.iter().rev().filter(is_likely);
        let others = self.directories.iter().rev().filter(|path| !is_likely(path));
        likely.chain(others).find(|directory| directory.join(file).exists()).map(PathBuf::as_path)
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
}

fn write_control(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
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

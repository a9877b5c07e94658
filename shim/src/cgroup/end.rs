//! Who is in a cgroup, and the end of both.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Cgroup, OWN_PARENT, write_control};
use crate::process::PidFd;

/// How long to let the kernel take members out of a cgroup between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Version 2 has it from Linux 5.14 on.
const KILL: &str = "cgroup.kill";

/// So many descriptors of processes at once: far less than a process may have.
const BATCH: usize = 128;

/// Those in one directory who are to be killed.
#[derive(Debug)]
pub(crate) struct Condemned {
    directory: PathBuf,
    /// Whom there is no file for. Not more than a batch of them.
    found: Vec<PidFd>,
    is_all: bool,
}

impl Condemned {
    fn of(directory: PathBuf, members: &BTreeSet<i32>) -> Self {
        if directory.join(KILL).exists() {
            return Self { directory, found: Vec::new(), is_all: false };
        }
        let pids: Vec<i32> = members.iter().copied().collect();
        let batch = pids.get(..BATCH).unwrap_or(&pids);
        Self {
            found: open_all(batch, || members_of(&directory)),
            is_all: batch.len() == pids.len(),
            directory,
        }
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&self) {
        self.found.iter().for_each(PidFd::kill);
        // A cgroup that is gone has nobody.
        if !self.is_all && write_control(&self.directory.join(KILL), "1").is_err() {
            kill_all(|| members_of(&self.directory));
        }
    }
}

impl Cgroup {
    /// Whether any process is a member.
    pub(crate) fn is_populated(&self) -> bool {
        self.directories.iter().any(|directory| !members_of(directory).is_empty())
    }

    /// The pids of all members, in any hierarchy, of child cgroups too.
    pub(crate) fn members(&self) -> BTreeSet<i32> {
        self.directories.iter().flat_map(|directory| members_of(directory)).collect()
    }

    /// Sends SIGKILL to every member, once. Frozen ones are thawed, since version 1 delivers nothing to them.
    pub(crate) fn kill(&self) {
        for directory in &self.directories {
            // Version 2 has it alone.
            let _ = write_control(&directory.join(KILL), "1");
        }
        self.thaw();
        kill_all(|| self.members());
    }

    /// Lets frozen members go on, on version 1; on version 2 a frozen process takes a SIGKILL.
    pub(crate) fn thaw(&self) {
        for directory in &self.directories {
            let _ = write_control(&directory.join("freezer.state"), "THAWED");
        }
    }

    /// Whom to kill, found before the first of them is: from then on their ends take the processors. As one hierarchy has
    /// them; [`Self::kill`] looks at all.
    pub(crate) fn condemned(&self) -> Option<Condemned> {
        self.directories.iter().rev().find_map(|directory| {
            let members = members_of(directory);
            (!members.is_empty()).then(|| Condemned::of(directory.clone(), &members))
        })
    }

    /// What tells its directories from others at the same places later. The kernel uses no number twice.
    pub(crate) fn inodes(&self) -> Vec<Option<u64>> {
        self.directories.iter().map(|directory| fs::metadata(directory).ok().map(|it| it.ino())).collect()
    }

    /// Those of its directories that are still the same as when [`Self::inodes`] was asked.
    pub(crate) fn still(&self, inodes: &[Option<u64>]) -> Self {
        let now = self.inodes();
        let is_same = |index: &usize| now[*index].is_some() && inodes.get(*index) == now.get(*index);
        let directories =
            (0..now.len()).filter(is_same).map(|index| self.directories[index].clone()).collect();
        Self { directories, by_systemd: self.by_systemd }
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

fn kill_all(members: impl Fn() -> BTreeSet<i32>) {
    let pids: Vec<i32> = members().into_iter().collect();
    for batch in pids.chunks(BATCH) {
        open_all(batch, &members).iter().for_each(PidFd::kill);
    }
}

/// Those of `pids` that are members still: a pid that belongs to somebody else by now is not among them.
fn open_all(pids: &[i32], members: impl Fn() -> BTreeSet<i32>) -> Vec<PidFd> {
    let open = |pid: &i32| PidFd::open(*pid).ok().map(|pidfd| (*pid, pidfd));
    let opened: Vec<(i32, PidFd)> = pids.iter().filter_map(open).collect();
    if opened.is_empty() {
        return Vec::new();
    }
    let still = members();
    opened.into_iter().filter(|(pid, _)| still.contains(pid)).map(|(_, pidfd)| pidfd).collect()
}

fn members_of(directory: &Path) -> BTreeSet<i32> {
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let own = procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0);
    let below = child_directories(directory);
    own.chain(below.iter().flat_map(|child| members_of(child))).collect()
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
mod tests;

//! What a sandbox uses, as its cgroup files say: a few small reads and no process.
//!
//! Either version of cgroups, and the mixed mounts that have both: each controller is read where it is, which its own
//! files tell. A file that a kernel doesn't have counts as nothing used or no limit.

mod network;
mod text;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, time::Duration};

use crate::cgroup::Cgroup;

#[cfg(test)]
pub(crate) use self::network::Traffic;
pub(crate) use self::network::{Interface, read as read_network};

/// A version of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// What a sandbox uses. A controller that the cgroup doesn't have is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stats {
    /// The version that the memory controller is on, or without one, the one that accounts for CPU time.
    pub(crate) version: Version,
    pub(crate) cpu: Option<Cpu>,
    pub(crate) memory: Option<Memory>,
    pub(crate) pids: Option<Pids>,
    /// One entry for each device that was read or written.
    pub(crate) io: Vec<DeviceIo>,
    /// The pod's interfaces; for the container that its network belongs to.
    pub(crate) network: Vec<Interface>,
}

/// CPU time since the cgroup was made, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// All of it.
    pub(crate) usage_ns: u64,
    /// The part in user mode; to the nearest 10 ms on version 1.
    pub(crate) user_ns: u64,
    /// The part in the kernel; to the nearest 10 ms on version 1.
    pub(crate) system_ns: u64,
    /// Periods of the quota in which anything ran.
    pub(crate) periods: u64,
    /// Periods in which the quota was used up.
    pub(crate) throttled_periods: u64,
    /// How long the members, all together, were held back by the quota.
    pub(crate) throttled_ns: u64,
}

/// Memory, in bytes where nothing else is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) usage: u64,
    /// The cgroup's own limit. A pod's can be lower.
    pub(crate) limit: Option<u64>,
    /// The highest usage so far. Version 2 has it from Linux 5.19 on.
    pub(crate) peak: Option<u64>,
    /// Anonymous memory (`anon`, `rss`): the sentry's own. The guest's is shared memory to the host.
    pub(crate) anon: u64,
    /// The page cache (`file`, `cache`), with shared memory.
    pub(crate) file: u64,
    /// Shared memory, a part of `file`: a sandbox's guest memory.
    pub(crate) shmem: u64,
    /// The part of the page cache that goes first. Usage without it is the working set.
    pub(crate) inactive_file: u64,
    /// Page faults since the cgroup was made.
    pub(crate) page_faults: u64,
    /// Those of them that had to read.
    pub(crate) major_page_faults: u64,
    /// How often usage ran into the limit.
    pub(crate) limit_hits: u64,
    /// Processes killed for want of memory, at this limit or at one above it.
    pub(crate) oom_kills: u64,
    /// Swap, if the kernel accounts for it.
    pub(crate) swap: Option<Swap>,
    /// Version 2 only.
    pub(crate) events: Option<MemoryEvents>,
}

/// Swap, in bytes: alone on version 2, together with memory on version 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swap {
    pub(crate) usage: u64,
    pub(crate) limit: Option<u64>,
}

/// The counters of `memory.events` that [`Memory`] doesn't have under another name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemoryEvents {
    /// Reclaims although usage was below `memory.low`.
    pub(crate) low: u64,
    /// Reclaims because usage was above `memory.high`.
    pub(crate) high: u64,
    /// Allocations that were about to fail at the limit.
    pub(crate) oom: u64,
    /// Kills of a whole group.
    pub(crate) oom_group_kill: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pids {
    pub(crate) current: u64,
    /// The most at once so far. Linux has it from 6.1 on, and on version 1 from 6.11.
    pub(crate) peak: Option<u64>,
    pub(crate) limit: Option<u64>,
}

/// Block I/O with one device since the cgroup was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeviceIo {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    /// Read operations.
    pub(crate) reads: u64,
    /// Write operations.
    pub(crate) writes: u64,
}

/// Reads what the members of `cgroup` use.
///
/// # Errors
/// None of the cgroup's directories exists, as before Create and after Delete, or one of them was removed meanwhile, as
/// systemd does with a scope's in the moment in which it is empty: what was read of it then counts for nothing.
pub(crate) fn read(cgroup: &Cgroup) -> io::Result<Stats> {
    let gone = |message| Err(io::Error::new(io::ErrorKind::NotFound, message));
    let there = existing(cgroup);
    if there == 0 {
        return gone("the sandbox's cgroup doesn't exist");
    }
    let stats = read_controllers(cgroup);
    if existing(cgroup) < there {
        return gone("the sandbox's cgroup was removed while it was read");
    }
    Ok(stats)
}

/// How many of the cgroup's directories are there.
fn existing(cgroup: &Cgroup) -> usize {
    cgroup.directories().iter().filter(|directory| directory.join("cgroup.procs").exists()).count()
}

fn read_controllers(cgroup: &Cgroup) -> Stats {
    let (memory, memory_version) = read_memory(cgroup).unzip();
    let (cpu, cpu_version) = read_cpu(cgroup).unzip();
    Stats {
        version: memory_version.or(cpu_version).unwrap_or(Version::V2),
        cpu,
        memory,
        pids: cgroup.directory_with("pids.current").map(|directory| Pids {
            current: text::number(directory, "pids.current").unwrap_or_default(),
            peak: text::number(directory, "pids.peak"),
            limit: text::limit(directory, "pids.max"),
        }),
        io: read_io(cgroup),
        network: Vec::new(),
    }
}

/// A cgroup's memory in use, to be read again and again: the file stays open.
#[derive(Debug)]
pub(crate) struct MemoryUsage(File);

impl MemoryUsage {
    /// `None` where memory isn't counted, or the cgroup is gone.
    pub(crate) fn open(cgroup: &Cgroup) -> Option<Self> {
        let of =
            |file| cgroup.directory_with(file).and_then(|directory| File::open(directory.join(file)).ok());
        of("memory.usage_in_bytes").or_else(|| of("memory.current")).map(Self)
    }

    /// In bytes; `None` once the cgroup is gone.
    pub(crate) fn read(&self) -> Option<u64> {
        let mut digits = [0; 32];
        let count = self.0.read_at(&mut digits, 0).ok()?;
        std::str::from_utf8(&digits[..count]).ok()?.trim().parse().ok()
    }
}

/// The limit of `cgroup`'s memory, in bytes; `None` where it has none of its own, or is gone.
pub(crate) fn memory_limit(cgroup: &Cgroup) -> Option<u64> {
    let of = |file| cgroup.directory_with(file).and_then(|directory| text::limit(directory, file));
    of("memory.limit_in_bytes").or_else(|| of("memory.max"))
}

/// How often a process or thread of `cgroup` could not be made for its limit of them; `None` where that isn't counted, or
/// the cgroup is gone.
pub(crate) fn pids_limit_hits(cgroup: &Cgroup) -> Option<u64> {
    let directory = cgroup.directory_with("pids.events")?;
    text::Table::read(directory, "pids.events").map(|table| table.get("max"))
}

/// How many members of `cgroup` were killed for want of memory; `None` where that isn't counted, or the cgroup is gone.
pub(crate) fn oom_kills(cgroup: &Cgroup) -> Option<u64> {
    let of = |file| cgroup.directory_with(file).and_then(|directory| text::Table::read(directory, file));
    of("memory.oom_control").or_else(|| of("memory.events")).map(|table| table.get("oom_kill"))
}

/// As [`oom_kills`], in one directory of version 2 and those below it.
pub(crate) fn oom_kills_in(directory: &Path) -> Option<u64> {
    text::Table::read(directory, "memory.events").map(|table| table.get("oom_kill"))
}

/// The version that a cgroup's memory, or without that its CPU time, is accounted on.
pub(crate) fn version(cgroup: &Cgroup) -> Version {
    let is_v1 =
        ["memory.usage_in_bytes", "cpuacct.usage"].iter().any(|file| cgroup.directory_with(file).is_some());
    if is_v1 { Version::V1 } else { Version::V2 }
}

/// The CPU time that the members of `cgroup` have used since it was made; `None` where that isn't counted, or the cgroup is
/// gone.
pub(crate) fn cpu_time(cgroup: &Cgroup) -> Option<Duration> {
    let v1 =
        || text::number(cgroup.directory_with("cpuacct.usage")?, "cpuacct.usage").map(Duration::from_nanos);
    // With its controllers on version 1 a cgroup of version 2 may have no members.
    let v2 = || {
        let directory = cgroup.directory_with("cgroup.controllers")?;
        let used = text::Table::read(directory, "cpu.stat")?.find("usage_usec")?;
        (used > 0 || version(cgroup) == Version::V2).then(|| Duration::from_micros(used))
    };
    v1().or_else(v2)
}

fn read_memory(cgroup: &Cgroup) -> Option<(Memory, Version)> {
    let v1 = || cgroup.directory_with("memory.usage_in_bytes").map(|dir| (v1::memory(dir), Version::V1));
    let v2 = || cgroup.directory_with("memory.current").map(|dir| (v2::memory(dir), Version::V2));
    v1().or_else(v2)
}

/// Version 1 first: a directory of version 2 has a `cpu.stat` even where its controllers are all on version 1.
fn read_cpu(cgroup: &Cgroup) -> Option<(Cpu, Version)> {
    let accounting = cgroup.directory_with("cpuacct.usage");
    let bandwidth = cgroup.directory_with("cpu.shares");
    if accounting.is_some() || bandwidth.is_some() {
        return Some((v1::cpu(accounting, bandwidth), Version::V1));
    }
    cgroup.directory_with("cgroup.controllers").map(|directory| (v2::cpu(directory), Version::V2))
}

fn read_io(cgroup: &Cgroup) -> Vec<DeviceIo> {
    if let Some(directory) = cgroup.directory_with("io.stat") {
        return v2::io(directory);
    }
    cgroup.directory_with(v1::IO_BYTES).map(v1::io).unwrap_or_default()
}

//! Version 1: a hierarchy for each controller.

use std::{fs, path::Path};

use super::{
    Cpu, DeviceIo, Memory, Swap,
    text::{self, Table},
};

/// How long a tick of `cpuacct.stat` is: USER_HZ, which is 100 wherever runsc runs.
const NANOSECONDS_A_TICK: u64 = 10_000_000;

/// The I/O that every kernel accounts for, whatever the scheduler.
pub(super) const IO_BYTES: &str = "blkio.throttle.io_service_bytes";
const IO_OPERATIONS: &str = "blkio.throttle.io_serviced";

/// `accounting` is the directory of `cpuacct`, `bandwidth` that of `cpu`; most distributions mount them as one.
pub(super) fn cpu(accounting: Option<&Path>, bandwidth: Option<&Path>) -> Cpu {
    let table = |directory: Option<&Path>, file| directory.and_then(|directory| Table::read(directory, file));
    let times = table(accounting, "cpuacct.stat").unwrap_or_default();
    let throttling = table(bandwidth, "cpu.stat").unwrap_or_default();
    Cpu {
        usage_ns: accounting.and_then(|dir| text::number(dir, "cpuacct.usage")).unwrap_or_default(),
        user_ns: times.get("user").saturating_mul(NANOSECONDS_A_TICK),
        system_ns: times.get("system").saturating_mul(NANOSECONDS_A_TICK),
        periods: throttling.get("nr_periods"),
        throttled_periods: throttling.get("nr_throttled"),
        throttled_ns: throttling.get("throttled_time"),
    }
}

pub(super) fn memory(directory: &Path) -> Memory {
    let number = |file| text::number(directory, file);
    let stat = Table::read(directory, "memory.stat").unwrap_or_default();
    // The plain keys leave child cgroups out, which usage and limit don't.
    let total = |key: &str| stat.find(&format!("total_{key}")).unwrap_or_else(|| stat.get(key));
    let oom_control = Table::read(directory, "memory.oom_control").unwrap_or_default();
    Memory {
        usage: number("memory.usage_in_bytes").unwrap_or_default(),
        limit: text::limit(directory, "memory.limit_in_bytes"),
        peak: number("memory.max_usage_in_bytes"),
        anon: total("rss"),
        file: total("cache"),
        shmem: total("shmem"),
        inactive_file: total("inactive_file"),
        page_faults: total("pgfault"),
        major_page_faults: total("pgmajfault"),
        limit_hits: number("memory.failcnt").unwrap_or_default(),
        oom_kills: oom_control.get("oom_kill"),
        swap: number("memory.memsw.usage_in_bytes")
            .map(|usage| Swap { usage, limit: text::limit(directory, "memory.memsw.limit_in_bytes") }),
        events: None,
    }
}

pub(super) fn io(directory: &Path) -> Vec<DeviceIo> {
    let mut devices = Vec::new();
    add(&mut devices, directory, IO_BYTES, |io| (&mut io.read_bytes, &mut io.written_bytes));
    add(&mut devices, directory, IO_OPERATIONS, |io| (&mut io.reads, &mut io.writes));
    devices
}

/// Adds what `file` says of reads and writes: lines like `8:0 Read 4096`, and a sum without a device at the end.
fn add(
    devices: &mut Vec<DeviceIo>,
    directory: &Path,
    file: &str,
    counters: fn(&mut DeviceIo) -> (&mut u64, &mut u64),
) {
    let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(operation), Some(count)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let (Some((major, minor)), Ok(count)) = (text::device(device), count.parse::<u64>()) else {
            continue;
        };
        let known = devices.iter().position(|io| (io.major, io.minor) == (major, minor));
        let at = known.unwrap_or(devices.len());
        if known.is_none() {
            devices.push(DeviceIo { major, minor, ..DeviceIo::default() });
        }
        let (reads, writes) = counters(&mut devices[at]);
        match operation {
            "Read" => *reads = count,
            "Write" => *writes = count,
            // Sync, Async, Discard and Total count the same again, in other ways.
            _ => {}
        }
    }
}

//! Usage as containerd takes it: a message of its own for each version of cgroups.

#[cfg(test)]
mod tests;

use containerd_shim_protos::{cgroups::metrics as v1, cgroups_v2::metrics as v2};
use protobuf::{Message, MessageField, well_known_types::any::Any};

use crate::stats::{Cpu, DeviceIo, Interface, Memory, Pids, Stats, Swap, Version};

/// The types' bare full names. Spelt out: asking the messages would bring protobuf's descriptors into the shim.
const V1: &str = "io.containerd.cgroups.v1.Metrics";
const V2: &str = "io.containerd.cgroups.v2.Metrics";

/// How version 1 of the memory controller says "no limit", with pages of 4 KiB; readers take anything above 2^62.
const NO_MEMORY_LIMIT_V1: u64 = 0x7fff_ffff_ffff_f000;

/// `stats` as the message for the version they come from.
///
/// # Errors
/// The message cannot be encoded.
pub(crate) fn encode(stats: &Stats) -> Result<Any, protobuf::Error> {
    let (type_url, value) = match stats.version {
        Version::V1 => (V1, metrics_v1(stats).write_to_bytes()?),
        Version::V2 => (V2, metrics_v2(stats).write_to_bytes()?),
    };
    Ok(Any { type_url: type_url.to_owned(), value, ..Any::default() })
}

/// An interface in the message of a version: they have the same one, as two types.
macro_rules! network {
    ($version:ident, $interface:expr) => {{
        let Interface { name, received, sent } = $interface;
        $version::NetworkStat {
            name: name.clone(),
            rx_bytes: received.bytes,
            rx_packets: received.packets,
            rx_errors: received.errors,
            rx_dropped: received.dropped,
            tx_bytes: sent.bytes,
            tx_packets: sent.packets,
            tx_errors: sent.errors,
            tx_dropped: sent.dropped,
            ..$version::NetworkStat::default()
        }
    }};
}

fn metrics_v1(stats: &Stats) -> v1::Metrics {
    let oom = |memory: &Memory| v1::MemoryOomControl {
        oom_kill: memory.oom_kills,
        ..v1::MemoryOomControl::default()
    };
    v1::Metrics {
        pids: stats.pids.as_ref().map(pids_v1).into(),
        cpu: stats.cpu.as_ref().map(cpu_v1).into(),
        memory: stats.memory.as_ref().map(memory_v1).into(),
        memory_oom_control: stats.memory.as_ref().map(oom).into(),
        blkio: MessageField::some(io_v1(&stats.io)),
        network: stats.network.iter().map(|interface| network!(v1, interface)).collect(),
        ..v1::Metrics::default()
    }
}

/// No limit is 0 here, though `u64::MAX` on version 2: that is what containerd's own shim makes of `max`.
fn pids_v1(pids: &Pids) -> v1::PidsStat {
    v1::PidsStat { current: pids.current, limit: pids.limit.unwrap_or_default(), ..v1::PidsStat::default() }
}

/// containerd's collector takes it that both parts are there.
fn cpu_v1(cpu: &Cpu) -> v1::CPUStat {
    let usage = v1::CPUUsage {
        total: cpu.usage_ns,
        kernel: cpu.system_ns,
        user: cpu.user_ns,
        ..v1::CPUUsage::default()
    };
    let throttling = v1::Throttle {
        periods: cpu.periods,
        throttled_periods: cpu.throttled_periods,
        throttled_time: cpu.throttled_ns,
        ..v1::Throttle::default()
    };
    v1::CPUStat {
        usage: MessageField::some(usage),
        throttling: MessageField::some(throttling),
        ..v1::CPUStat::default()
    }
}

/// A sandbox has no child cgroups, so what is its own and the total are the same.
fn memory_v1(memory: &Memory) -> v1::MemoryStat {
    let usage = v1::MemoryEntry {
        limit: memory.limit.unwrap_or(NO_MEMORY_LIMIT_V1),
        usage: memory.usage,
        max: memory.peak.unwrap_or_default(),
        failcnt: memory.limit_hits,
        ..v1::MemoryEntry::default()
    };
    let swap = |swap: &Swap| v1::MemoryEntry {
        limit: swap.limit.unwrap_or(NO_MEMORY_LIMIT_V1),
        usage: swap.usage,
        ..v1::MemoryEntry::default()
    };
    v1::MemoryStat {
        cache: memory.file,
        total_cache: memory.file,
        rss: memory.anon,
        total_rss: memory.anon,
        inactive_file: memory.inactive_file,
        total_inactive_file: memory.inactive_file,
        pg_fault: memory.page_faults,
        total_pg_fault: memory.page_faults,
        pg_maj_fault: memory.major_page_faults,
        total_pg_maj_fault: memory.major_page_faults,
        usage: MessageField::some(usage),
        swap: memory.swap.as_ref().map(swap).into(),
        ..v1::MemoryStat::default()
    }
}

fn io_v1(devices: &[DeviceIo]) -> v1::BlkIOStat {
    let entries = |io: &DeviceIo, reads, writes| {
        [("Read", reads), ("Write", writes)].map(|(operation, value)| v1::BlkIOEntry {
            op: operation.to_owned(),
            major: io.major,
            minor: io.minor,
            value,
            ..v1::BlkIOEntry::default()
        })
    };
    v1::BlkIOStat {
        io_service_bytes_recursive: devices
            .iter()
            .flat_map(|io| entries(io, io.read_bytes, io.written_bytes))
            .collect(),
        io_serviced_recursive: devices.iter().flat_map(|io| entries(io, io.reads, io.writes)).collect(),
        ..v1::BlkIOStat::default()
    }
}

fn metrics_v2(stats: &Stats) -> v2::Metrics {
    v2::Metrics {
        pids: stats.pids.as_ref().map(pids_v2).into(),
        cpu: stats.cpu.as_ref().map(cpu_v2).into(),
        memory: stats.memory.as_ref().map(memory_v2).into(),
        memory_events: stats.memory.as_ref().and_then(memory_events_v2).into(),
        io: MessageField::some(io_v2(&stats.io)),
        network: stats.network.iter().map(|interface| network!(v2, interface)).collect(),
        ..v2::Metrics::default()
    }
}

fn pids_v2(pids: &Pids) -> v2::PidsStat {
    v2::PidsStat { current: pids.current, limit: pids.limit.unwrap_or(u64::MAX), ..v2::PidsStat::default() }
}

fn cpu_v2(cpu: &Cpu) -> v2::CPUStat {
    v2::CPUStat {
        usage_usec: cpu.usage_ns / 1000,
        user_usec: cpu.user_ns / 1000,
        system_usec: cpu.system_ns / 1000,
        nr_periods: cpu.periods,
        nr_throttled: cpu.throttled_periods,
        throttled_usec: cpu.throttled_ns / 1000,
        ..v2::CPUStat::default()
    }
}

fn memory_v2(memory: &Memory) -> v2::MemoryStat {
    v2::MemoryStat {
        anon: memory.anon,
        file: memory.file,
        shmem: memory.shmem,
        inactive_file: memory.inactive_file,
        pgfault: memory.page_faults,
        pgmajfault: memory.major_page_faults,
        usage: memory.usage,
        usage_limit: memory.limit.unwrap_or(u64::MAX),
        max_usage: memory.peak.unwrap_or_default(),
        swap_usage: memory.swap.map_or(0, |swap| swap.usage),
        // A kernel without swap accounting has no file to say "max".
        swap_limit: memory.swap.map_or(0, |swap| swap.limit.unwrap_or(u64::MAX)),
        ..v2::MemoryStat::default()
    }
}

fn memory_events_v2(memory: &Memory) -> Option<v2::MemoryEvents> {
    memory.events.map(|events| v2::MemoryEvents {
        low: events.low,
        high: events.high,
        max: memory.limit_hits,
        oom: events.oom,
        oom_kill: memory.oom_kills,
        oom_group_kill: events.oom_group_kill,
        ..v2::MemoryEvents::default()
    })
}

fn io_v2(devices: &[DeviceIo]) -> v2::IOStat {
    let entry = |io: &DeviceIo| v2::IOEntry {
        major: io.major,
        minor: io.minor,
        rbytes: io.read_bytes,
        wbytes: io.written_bytes,
        rios: io.reads,
        wios: io.writes,
        ..v2::IOEntry::default()
    };
    v2::IOStat { usage: devices.iter().map(entry).collect(), ..v2::IOStat::default() }
}

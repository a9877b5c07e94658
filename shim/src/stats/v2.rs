//! Version 2: one directory for all controllers.

use std::{fs, path::Path};

use super::{
    Cpu, DeviceIo, Memory, MemoryEvents, Swap,
    text::{self, Table},
};

pub(super) fn cpu(directory: &Path) -> Cpu {
    let stat = Table::read(directory, "cpu.stat").unwrap_or_default();
    let nanoseconds = |key| stat.get(key).saturating_mul(1000);
    Cpu {
        usage_ns: nanoseconds("usage_usec"),
        user_ns: nanoseconds("user_usec"),
        system_ns: nanoseconds("system_usec"),
        periods: stat.get("nr_periods"),
        throttled_periods: stat.get("nr_throttled"),
        throttled_ns: nanoseconds("throttled_usec"),
    }
}

pub(super) fn memory(directory: &Path) -> Memory {
    let number = |file| text::number(directory, file);
    let stat = Table::read(directory, "memory.stat").unwrap_or_default();
    let events = Table::read(directory, "memory.events");
    let event = |key| events.as_ref().map_or(0, |events| events.get(key));
    Memory {
        usage: number("memory.current").unwrap_or_default(),
        limit: text::limit(directory, "memory.max"),
        peak: number("memory.peak"),
        anon: stat.get("anon"),
        file: stat.get("file"),
        shmem: stat.get("shmem"),
        inactive_file: stat.get("inactive_file"),
        page_faults: stat.get("pgfault"),
        major_page_faults: stat.get("pgmajfault"),
        limit_hits: event("max"),
        oom_kills: event("oom_kill"),
        swap: number("memory.swap.current")
            .map(|usage| Swap { usage, limit: text::limit(directory, "memory.swap.max") }),
        events: events.as_ref().map(|events| MemoryEvents {
            low: events.get("low"),
            high: events.get("high"),
            oom: events.get("oom"),
            oom_group_kill: events.get("oom_group_kill"),
        }),
    }
}

pub(super) fn io(directory: &Path) -> Vec<DeviceIo> {
    let text = fs::read_to_string(directory.join("io.stat")).unwrap_or_default();
    text.lines().filter_map(parse_device).collect()
}

/// Lines like `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`; a device without numbers did nothing.
fn parse_device(line: &str) -> Option<DeviceIo> {
    let (device, counters) = line.split_once(' ')?;
    let (major, minor) = text::device(device)?;
    let mut io = DeviceIo { major, minor, ..DeviceIo::default() };
    for (key, count) in counters.split(' ').filter_map(|pair| pair.split_once('=')) {
        let Ok(count) = count.parse() else { continue };
        match key {
            "rbytes" => io.read_bytes = count,
            "wbytes" => io.written_bytes = count,
            "rios" => io.reads = count,
            "wios" => io.writes = count,
            _ => {}
        }
    }
    Some(io)
}

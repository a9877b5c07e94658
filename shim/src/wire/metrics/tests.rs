use super::*;
use crate::stats::{MemoryEvents, Traffic};

fn stats(version: Version) -> Stats {
    Stats {
        version,
        cpu: Some(Cpu {
            usage_ns: 7_000_001,
            user_ns: 4_000_002,
            system_ns: 3_000_003,
            periods: 9,
            throttled_periods: 2,
            throttled_ns: 5_000,
        }),
        memory: Some(Memory {
            usage: 1 << 20,
            limit: Some(1 << 30),
            peak: Some(2 << 20),
            anon: 11,
            file: 12,
            shmem: 13,
            inactive_file: 14,
            page_faults: 15,
            major_page_faults: 16,
            limit_hits: 17,
            oom_kills: 1,
            swap: Some(Swap { usage: 18, limit: Some(19) }),
            events: Some(MemoryEvents { low: 20, high: 21, oom: 22, oom_group_kill: 23 }),
        }),
        pids: Some(Pids { current: 31, peak: None, limit: Some(512) }),
        io: vec![DeviceIo { major: 8, minor: 16, read_bytes: 41, written_bytes: 42, reads: 43, writes: 44 }],
        network: vec![Interface {
            name: "eth0".to_owned(),
            received: Traffic { bytes: 51, packets: 52, errors: 53, dropped: 54 },
            sent: Traffic { bytes: 61, packets: 62, errors: 63, dropped: 64 },
        }],
    }
}

fn decode_v1(stats: &Stats) -> v1::Metrics {
    let any = encode(stats).unwrap();
    assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
    v1::Metrics::parse_from_bytes(&any.value).unwrap()
}

fn decode_v2(stats: &Stats) -> v2::Metrics {
    let any = encode(stats).unwrap();
    assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
    v2::Metrics::parse_from_bytes(&any.value).unwrap()
}

#[test]
fn version_1_has_nanoseconds_and_the_totals_that_cri_reads() {
    let metrics = decode_v1(&stats(Version::V1));
    assert_eq!((metrics.pids.current, metrics.pids.limit), (31, 512));
    let usage = &metrics.cpu.usage;
    assert_eq!((usage.total, usage.user, usage.kernel), (7_000_001, 4_000_002, 3_000_003));
    let throttling = &metrics.cpu.throttling;
    assert_eq!((throttling.periods, throttling.throttled_periods), (9, 2));
    assert_eq!(throttling.throttled_time, 5_000);
    let memory = &metrics.memory;
    assert_eq!((memory.usage.usage, memory.usage.limit, memory.usage.max), (1 << 20, 1 << 30, 2 << 20));
    assert_eq!((memory.usage.failcnt, memory.swap.usage, memory.swap.limit), (17, 18, 19));
    assert_eq!((memory.total_rss, memory.total_cache, memory.total_inactive_file), (11, 12, 14));
    assert_eq!((memory.total_pg_fault, memory.total_pg_maj_fault), (15, 16));
    assert_eq!(metrics.memory_oom_control.oom_kill, 1);
    let blkio = |entries: &[v1::BlkIOEntry]| {
        entries.iter().map(|e| (e.op.clone(), e.major, e.minor, e.value)).collect::<Vec<_>>()
    };
    assert_eq!(
        blkio(&metrics.blkio.io_service_bytes_recursive),
        [("Read".into(), 8, 16, 41), ("Write".into(), 8, 16, 42)]
    );
    assert_eq!(
        blkio(&metrics.blkio.io_serviced_recursive),
        [("Read".into(), 8, 16, 43), ("Write".into(), 8, 16, 44)]
    );
}

#[test]
fn version_2_has_microseconds_and_its_own_names() {
    let metrics = decode_v2(&stats(Version::V2));
    assert_eq!((metrics.pids.current, metrics.pids.limit), (31, 512));
    let cpu = &metrics.cpu;
    assert_eq!((cpu.usage_usec, cpu.user_usec, cpu.system_usec), (7_000, 4_000, 3_000));
    assert_eq!((cpu.nr_periods, cpu.nr_throttled, cpu.throttled_usec), (9, 2, 5));
    let memory = &metrics.memory;
    assert_eq!((memory.usage, memory.usage_limit, memory.max_usage), (1 << 20, 1 << 30, 2 << 20));
    assert_eq!((memory.anon, memory.file, memory.shmem, memory.inactive_file), (11, 12, 13, 14));
    assert_eq!((memory.pgfault, memory.pgmajfault), (15, 16));
    assert_eq!((memory.swap_usage, memory.swap_limit), (18, 19));
    let events = &metrics.memory_events;
    assert_eq!((events.low, events.high, events.max, events.oom), (20, 21, 17, 22));
    assert_eq!((events.oom_kill, events.oom_group_kill), (1, 23));
    let io = &metrics.io.usage[0];
    assert_eq!((io.major, io.minor, io.rbytes, io.wbytes, io.rios, io.wios), (8, 16, 41, 42, 43, 44));
}

#[test]
fn no_limit_is_what_containerds_own_shim_sends() {
    let unlimited = |version| {
        let mut stats = stats(version);
        stats.pids = Some(Pids { current: 1, peak: None, limit: None });
        stats.memory = Some(Memory { swap: Some(Swap::default()), ..Memory::default() });
        stats
    };
    let v1 = decode_v1(&unlimited(Version::V1));
    assert_eq!(v1.pids.limit, 0);
    assert_eq!(
        (v1.memory.usage.limit, v1.memory.swap.limit),
        (9_223_372_036_854_771_712, 9_223_372_036_854_771_712)
    );
    let v2 = decode_v2(&unlimited(Version::V2));
    assert_eq!((v2.pids.limit, v2.memory.usage_limit, v2.memory.swap_limit), (u64::MAX, u64::MAX, u64::MAX));
}

#[test]
fn a_controller_that_is_missing_is_no_part_of_the_message() {
    let nothing =
        |version| Stats { version, cpu: None, memory: None, pids: None, io: Vec::new(), network: Vec::new() };
    let v1 = decode_v1(&nothing(Version::V1));
    assert!(v1.cpu.is_none() && v1.memory.is_none() && v1.memory_oom_control.is_none() && v1.pids.is_none());
    let v2 = decode_v2(&nothing(Version::V2));
    assert!(v2.cpu.is_none() && v2.memory.is_none() && v2.memory_events.is_none() && v2.pids.is_none());
}

#[test]
fn both_versions_have_the_interfaces() {
    let (v1, v2) = (decode_v1(&stats(Version::V1)), decode_v2(&stats(Version::V2)));
    let (one, two) = (&v1.network[0], &v2.network[0]);
    assert_eq!((v1.network.len(), v2.network.len()), (1, 1));
    assert_eq!((&*one.name, &*two.name), ("eth0", "eth0"));
    assert_eq!([one.rx_bytes, one.rx_packets, one.rx_errors, one.rx_dropped], [51, 52, 53, 54]);
    assert_eq!([two.rx_bytes, two.rx_packets, two.rx_errors, two.rx_dropped], [51, 52, 53, 54]);
    assert_eq!([one.tx_bytes, one.tx_packets, one.tx_errors, one.tx_dropped], [61, 62, 63, 64]);
    assert_eq!([two.tx_bytes, two.tx_packets, two.tx_errors, two.tx_dropped], [61, 62, 63, 64]);
}

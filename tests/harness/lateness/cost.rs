//! What ledger and watchdog cost: memory, and time at a pod's start.

use std::fs;
use std::path::Path;
use std::time::Instant;

use harness::{Harness, Spec};

use super::Result;
use super::pod::{Pod, Work, next_number, uid};

/// Of a watchdog, in KiB: resident, and its own alone.
pub(crate) fn watchdog_memory(h: &Harness, count: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut resident, mut private) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let pod = Pod::start(h, "2s", Work::Idle)?;
        let dir = format!("/proc/{}", pod.watchdog()?.pid);
        resident.push(kib(&format!("{dir}/status"), &["VmRSS"])?);
        private.push(kib(&format!("{dir}/smaps_rollup"), &["Private_Dirty", "Private_Clean"])?);
        pod.expired()?;
    }
    Ok((resident, private))
}

fn kib(path: &str, names: &[&str]) -> Result<f64> {
    let text = fs::read_to_string(path)?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let values = lines.filter(|(name, _)| names.contains(name));
    let values = values.map(|(_, value)| value.trim().trim_end_matches(" kB").parse::<f64>());
    Ok(values.sum::<std::result::Result<f64, _>>()?)
}

/// What a start is measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The earlier shim, which has neither ledger nor watchdog.
    Earlier,
    /// A container that isn't a pod's: a watchdog, and nothing for the ledger.
    WatchdogAlone,
    /// A pod's.
    Both,
}

impl Variant {
    pub(crate) const ALL: [Self; 3] = [Self::Earlier, Self::WatchdogAlone, Self::Both];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Earlier => "earlier shim",
            Self::WatchdogAlone => "with watchdog",
            Self::Both => "with watchdog and ledger",
        }
    }
}

/// Create and Start in milliseconds, of each variant.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    pub(crate) create: [Vec<f64>; 3],
    pub(crate) start: [Vec<f64>; 3],
    pub(crate) both: [Vec<f64>; 3],
}

/// Starts containers of each variant in turn, beginning with another one each time.
pub(crate) fn starts(h: &Harness, earlier: &Path, current: &Path, rounds: usize) -> Result<Starts> {
    let mut starts = Starts::default();
    for round in 0..rounds + 1 {
        for turn in 0..Variant::ALL.len() {
            let index = (round + turn) % Variant::ALL.len();
            let variant = Variant::ALL[index];
            h.containerd.install_shim(if variant == Variant::Earlier { earlier } else { current });
            let spec = Spec::sleeper();
            let spec = match variant {
                Variant::WatchdogAlone => spec,
                Variant::Earlier | Variant::Both => {
                    spec.annotation("io.kubernetes.cri.sandbox-uid", &uid(next_number()))
                }
            };
            let container = h.containerd.container(h.runtime, &spec)?;
            let began = Instant::now();
            let task = container.create()?;
            let created = began.elapsed();
            task.start()?;
            let started = began.elapsed();
            task.end()?;
            // The first of each fills caches.
            if round > 0 {
                starts.create[index].push(created.as_secs_f64() * 1e3);
                starts.start[index].push((started - created).as_secs_f64() * 1e3);
                starts.both[index].push(started.as_secs_f64() * 1e3);
            }
        }
    }
    Ok(starts)
}

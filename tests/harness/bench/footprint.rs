//! What a shim costs while its container runs.

use std::fs;
use std::path::PathBuf;

use harness::{Containerd, proc};

use super::Result;
use super::notes::{Measure, Notes};

/// Notes memory and descriptors of the shim of the only container that runs.
pub(crate) fn note(containerd: &Containerd, notes: &mut Notes<'_>) -> Result<()> {
    let shim = shim_of(containerd).ok_or("no shim is running")?;
    notes.add(Measure::Rss, kib(&shim.join("status"), &["VmRSS"])?);
    // Pages of the program's file are shared by all shims of a node, though here only one runs.
    notes.add(Measure::Private, kib(&shim.join("smaps_rollup"), &["Private_Dirty"])?);
    let descriptors = u32::try_from(fs::read_dir(shim.join("fd"))?.count())?;
    notes.add(Measure::Descriptors, descriptors.into());
    Ok(())
}

/// Its directory in /proc. Not every shim says its pid to whoever asks, but its program is named so.
fn shim_of(containerd: &Containerd) -> Option<PathBuf> {
    let processes = proc::of_test(containerd.namespace(), containerd.pid());
    let dirs = processes.iter().map(|process| PathBuf::from(format!("/proc/{}", process.pid)));
    let speaks_of_it = |dir: &PathBuf| {
        let program = fs::read_link(dir.join("exe")).unwrap_or_default();
        program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("containerd-shim-"))
    };
    dirs.into_iter().find(speaks_of_it)
}

/// The sum of a file's lines with these names.
fn kib(path: &std::path::Path, names: &[&str]) -> Result<f64> {
    let text = fs::read_to_string(path)?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let wanted = lines.filter(|(name, _)| names.contains(name));
    let values = wanted.map(|(_, value)| value.trim().trim_end_matches(" kB").parse::<f64>());
    Ok(values.sum::<std::result::Result<f64, _>>()?)
}

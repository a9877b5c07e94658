//! What the figures were taken on and with.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::version;

/// Name and value, in the order to show them.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    vec![
        ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("kernel", file("/proc/sys/kernel/osrelease")),
        ("cpu", cpu()),
        ("cgroups", if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" }.into()),
        ("load", file("/proc/loadavg").split(' ').take(2).collect::<Vec<_>>().join(" ")),
        ("curfew", env_or("CURFEW_COMMIT", "?")),
        ("runsc", version::pin("RUNSC_VERSION").into()),
        ("containerd", version::pin("CONTAINERD_VERSION").into()),
        ("runc", said("runc", &["--version"]).trim_start_matches("runc version ").into()),
    ]
}

/// Whether times are those of an emulated processor, and only their ratios mean something.
pub(crate) fn is_emulated() -> bool {
    cpu().contains("TCG")
}

fn cpu() -> String {
    let info = file("/proc/cpuinfo");
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    let models: Vec<&str> =
        lines.filter(|(name, _)| name.trim() == "model name").map(|(_, value)| value.trim()).collect();
    format!("{} × {}", models.len(), models.first().unwrap_or(&"?"))
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().into()
}

fn env_or(key: &str, other: &str) -> String {
    std::env::var(key).unwrap_or_else(|_| other.into())
}

/// The first line that a program says.
fn said(program: &str, args: &[&str]) -> String {
    let said = Command::new(program).args(args).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).lines().next().unwrap_or("?").into()
}

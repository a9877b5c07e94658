//! Where a test's containers have their cgroups: below a directory of the test's, or in a slice of it where systemd is
//! the one to ask.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Runtime, machine};

/// Whether cgroups are version 2 alone.
pub fn is_v2() -> bool {
    machine::cgroup_roots().iter().all(|root| root.join("cgroup.controllers").exists())
}

/// Whether systemd has the cgroups, and runtimes are to ask it for them.
pub fn is_by_systemd() -> bool {
    is_v2() && Path::new("/run/systemd/system").is_dir()
}

/// The spec's `cgroupsPath` for a container. containerd's runc shim would have to be told that it is a scope's.
pub(crate) fn spec_path(runtime: Runtime, namespace: &str, id: &str) -> String {
    if is_by_systemd() && runtime == Runtime::Curfew {
        return format!("{namespace}.slice:test:{id}");
    }
    format!("/curfew-test/{namespace}/{id}")
}

/// Where below a hierarchy's root the cgroup is that [`spec_path`] asks for.
pub fn path(namespace: &str, id: &str) -> PathBuf {
    if is_by_systemd() {
        return format!("curfew.slice/{namespace}.slice/test-{id}.scope").into();
    }
    format!("curfew-test/{namespace}/{id}").into()
}

/// The directory of a container's cgroup that has `file`.
pub fn directory_with(namespace: &str, id: &str, file: &str) -> Option<PathBuf> {
    let its = path(namespace, id);
    machine::cgroups().into_iter().find(|dir| dir.ends_with(&its) && dir.join(file).exists())
}

/// The cgroups that a test's are in, in every hierarchy.
pub(crate) fn parents(namespace: &str) -> [String; 4] {
    let slice = format!("curfew.slice/{namespace}.slice");
    ["curfew-test".to_owned(), format!("curfew-test/{namespace}"), "curfew.slice".to_owned(), slice]
}

/// The cgroup of a process in the hierarchy that has `file`.
pub fn of_process(pid: u32, file: &str) -> Option<PathBuf> {
    let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let paths = memberships.lines().filter_map(|line| line.splitn(3, ':').nth(2)?.strip_prefix('/'));
    let paths: Vec<&str> = paths.collect();
    let roots = machine::cgroup_roots();
    let mut all = roots.iter().flat_map(|root| paths.iter().map(|path| root.join(path)));
    all.find(|dir| {
        // The same path may exist in another hierarchy, where the process isn't.
        let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        dir.join(file).exists() && members.lines().any(|line| line == pid.to_string())
    })
}

/// systemd's scopes that speak of a test, also those that have ended and that it still knows.
pub(crate) fn scopes(namespace: &str) -> machine::Things {
    let mut found = machine::entries(Path::new("/run/systemd/transient"));
    found.retain(|unit| {
        unit.contains(namespace) || fs::read_to_string(unit).is_ok_and(|text| text.contains(namespace))
    });
    found
}

/// Stops and forgets a test's slice with all that is in it.
pub(crate) fn end_slice(namespace: &str) {
    if !is_by_systemd() {
        return;
    }
    for verb in ["stop", "reset-failed"] {
        let mut systemctl = Command::new("systemctl");
        systemctl.args([verb, &format!("{namespace}*.slice")]).stdout(Stdio::null()).stderr(Stdio::null());
        // None that matches is fine.
        let _ = systemctl.status();
    }
}

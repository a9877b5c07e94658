//! What a test left behind: the machine before and after it, compared.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::services::v1 as api;

use crate::machine::{self, Things};
use crate::rpc::{RpcError, poll};
use crate::{Containerd, cgroup, janitor, proc};

/// How long after a test its last processes may take to go.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(2);

/// The machine as it was, to be compared with later. Only what cannot be told from the test's
/// name needs remembering: cgroups, namespaces that are held by mounts, sockets in the shared directory.
#[derive(Debug)]
pub struct Snapshot {
    cgroups: BTreeSet<PathBuf>,
    namespaces: Things,
    shim_sockets: Things,
}

impl Snapshot {
    pub fn take() -> Self {
        Self { cgroups: machine::cgroups(), namespaces: held_namespaces(), shim_sockets: shim_sockets() }
    }

    /// What is there now that wasn't, and what bears the test's name; an empty text if nothing.
    /// Waits a moment for it to go away.
    pub fn leftovers(&self, containerd: &Containerd) -> String {
        let mut text = String::new();
        poll(SETTLE_LIMIT, || {
            text = self.leftovers_now(containerd);
            text.is_empty().then_some(())
        });
        text
    }

    /// Fails the test if anything is left.
    #[track_caller]
    pub fn assert_clean(&self, containerd: &Containerd) {
        let left = self.leftovers(containerd);
        assert!(left.is_empty(), "left behind:\n{left}");
    }

    /// As [`leftovers`](Self::leftovers), without waiting.
    pub fn leftovers_now(&self, containerd: &Containerd) -> String {
        let (dir, namespace) = (containerd.dir(), containerd.namespace());
        let mut report = String::new();
        list(&mut report, "process", processes(containerd));
        list(&mut report, "mount", mounts(containerd));
        let shared = shared(containerd).display().to_string();
        let mut namespaces = new(held_namespaces(), &self.namespaces);
        namespaces.retain(|point| !point.starts_with(&shared));
        namespaces.retain(|point| !janitor::is_another_test_s(point, namespace));
        list(&mut report, "namespace", namespaces);
        let mut cgroups = self.new_cgroups(namespace);
        cgroups.retain(|path| !janitor::is_another_test_s(path, namespace));
        let ours = proc::of_test(namespace, containerd.pid());
        cgroups.retain(|path| !is_somebody_else_s(path, &ours));
        list(&mut report, "cgroup", cgroups);
        list(&mut report, "scope", cgroup::scopes(namespace));
        list(&mut report, "socket", sockets(dir, namespace));
        list(&mut report, "socket", new(shim_sockets(), &self.shim_sockets));
        list(&mut report, "state of curfew", state_entries(containerd));
        list(&mut report, "state of curfew", default_state(namespace));
        let sub = |path: &str| machine::entries(&dir.join(path).join(namespace));
        list(&mut report, "bundle", sub("state/io.containerd.runtime.v2.task"));
        list(&mut report, "bundle work", sub("root/io.containerd.runtime.v2.task"));
        list(
            &mut report,
            "state of runc",
            machine::entries(&Path::new("/run/containerd/runc").join(namespace)),
        );
        if containerd.pid().is_some() {
            match records(containerd) {
                Ok(found) => list(&mut report, "containerd's", found),
                Err(error) => list(&mut report, "containerd does not answer:", [error.to_string()].into()),
            }
        }
        report
    }

    /// New ones anywhere, but for the parents that a runtime makes on the way to its own.
    fn new_cgroups(&self, namespace: &str) -> Things {
        let parents = cgroup::parents(namespace);
        let all = machine::cgroups();
        let new = all.difference(&self.cgroups);
        let new = new.filter(|path| !parents.iter().any(|parent| path.ends_with(parent)));
        new.map(|path| path.display().to_string()).collect()
    }
}

fn list(report: &mut String, what: &str, things: Things) {
    for thing in things {
        let _ = writeln!(report, "  {what} {thing}");
    }
}

fn new(now: Things, before: &Things) -> Things {
    now.difference(before).cloned().collect()
}

fn processes(containerd: &Containerd) -> Things {
    let left = proc::of_test(containerd.namespace(), containerd.pid()).into_iter();
    left.map(|p| format!("{} {} (parent {}, {}) {}", p.pid, p.name, p.parent, p.state, p.command)).collect()
}

/// What runsc keeps for all sandboxes of a node, such as an empty network namespace.
fn shared(containerd: &Containerd) -> PathBuf {
    containerd.state_dir().join("shared")
}

fn mounts(containerd: &Containerd) -> Things {
    let ours =
        |mount: &machine::Mount| mount.is_below(containerd.dir()) || mount.speaks_of(containerd.namespace());
    let all = machine::mounts().into_iter();
    all.filter(|mount| ours(mount) && !mount.is_below(&shared(containerd)))
        .map(|mount| format!("{} on {}", mount.kind, mount.point.display()))
        .collect()
}

/// Namespaces that live without a process. (One that lives by a process shows as that process.)
fn held_namespaces() -> Things {
    let mounts = machine::mounts().into_iter().filter(|mount| mount.kind == "nsfs");
    let mut found: Things = mounts.map(|mount| mount.point.display().to_string()).collect();
    found.extend(machine::entries(Path::new("/run/netns")));
    found
}

/// Where shims of containerd before 2.3 have their sockets, whatever containerd they belong to.
fn shim_sockets() -> Things {
    machine::entries(Path::new("/run/containerd/s"))
}

/// Whether a new cgroup has members and none of them is the test's: the machine runs more than tests, and what a test
/// leaves is empty or holds what it has left.
fn is_somebody_else_s(cgroup: &str, ours: &[proc::Process]) -> bool {
    let members = fs::read_to_string(Path::new(cgroup).join("cgroup.procs")).unwrap_or_default();
    let members: Vec<i32> = members.lines().filter_map(|pid| pid.parse().ok()).collect();
    !members.is_empty() && members.iter().all(|pid| ours.iter().all(|process| process.pid != *pid))
}

/// What a shim left that didn't know its class, and so neither its state directory.
fn default_state(namespace: &str) -> Things {
    let mut found = machine::entries(Path::new("/run/curfew/s"));
    found.retain(|dir| {
        let record = fs::read_to_string(Path::new(dir).join("record.json"));
        record.is_ok_and(|record| record.contains(namespace))
    });
    found
}

/// Socket files below the directory and bound names that speak of the test, but for containerd's own.
fn sockets(dir: &Path, namespace: &str) -> Things {
    let mut found = machine::socket_files(dir);
    let names = machine::socket_names().into_iter();
    found.extend(names.filter(|name| name.contains(namespace)));
    let own = dir.join("c.sock").display().to_string();
    found.retain(|name| !name.starts_with(&own));
    found
}

/// What sandboxes share may stay, and so may the directory of their roots, empty.
fn state_entries(containerd: &Containerd) -> Things {
    let roots = containerd.state_dir().join("s");
    let mut found = machine::entries(&containerd.state_dir());
    found.remove(&shared(containerd).display().to_string());
    if found.remove(&roots.display().to_string()) {
        found.extend(machine::entries(&roots));
    }
    found
}

/// What containerd has on record.
fn records(containerd: &Containerd) -> Result<Things, RpcError> {
    let client = containerd.client();
    let (mut containers, mut tasks, mut leases) = (client.containers(), client.tasks(), client.leases());
    let list = containers.list(containerd.request(api::ListContainersRequest::default()));
    let found = containerd.ask(list)?.containers.into_iter();
    let mut records: Things = found.map(|container| format!("container {}", container.id)).collect();
    let list = tasks.list(containerd.request(api::ListTasksRequest::default()));
    let found = containerd.ask(list)?.tasks.into_iter();
    records.extend(found.map(|task| format!("task {} (pid {}, status {})", task.id, task.pid, task.status)));
    let list = leases.list(containerd.request(api::ListRequest::default()));
    let found = containerd.ask(list)?.leases.into_iter();
    records.extend(found.map(|lease| format!("lease {}", lease.id)));
    let found = containerd.snapshots()?.into_iter();
    records.extend(found.map(|key| format!("snapshot {key}")));
    records.extend(containerd.pods()?.into_iter().map(|id| format!("pod {id}")));
    Ok(records)
}

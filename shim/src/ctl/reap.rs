//! `curfewctl reap`: what has outlived its shim or lost it, and with a shim what has outlived its time or lost its ledger.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use curfew_config::OnShimLoss;

use super::{
    Failure,
    node::{Node, clean, end_with_shim, within},
};
use crate::{
    cgroup::{Cgroup, OWN_PARENT},
    deadline::clock::Boottime,
    ledger::Ledger,
    process::ProcessName,
    record::{BundleNote, SandboxRecord},
    rootfs,
    sandbox_dir::SandboxDir,
};

/// Whatever shim and watchdog do, they have done so long after a deadline and a start.
const LATE: Duration = Duration::from_secs(15);
/// A cgroup so young may be one that a runsc is about to enter, of a state directory that isn't looked at.
const YOUNG: Duration = Duration::from_secs(5);
/// How long what has been killed may take to be gone.
const GOING: Duration = Duration::from_secs(2);

/// Something that nobody looks after any more.
enum Stray {
    /// A sandbox's directory, by whose record everything of it is found.
    Sandbox(SandboxDir),
    /// One whose shim lives and should have ended it.
    Overdue { dir: SandboxDir, why: String },
    /// A process of a sandbox that has no directory.
    Process { command: String, name: ProcessName },
    /// An empty cgroup that a shim has made.
    Cgroup(PathBuf),
    /// A root file system of a container.
    Mount(PathBuf),
}

impl Stray {
    fn words(&self) -> String {
        match self {
            Self::Sandbox(dir) => format!("sandbox {}", dir.path().display()),
            Self::Overdue { dir, why } => format!("sandbox {} with its shim: {why}", dir.path().display()),
            Self::Process { command, name } => format!("process {} {command}", name.pid),
            Self::Cgroup(directory) => format!("cgroup {}", directory.display()),
            Self::Mount(point) => format!("mount {}", point.display()),
        }
    }

    fn remove(&self) -> Result<(), String> {
        match self {
            Self::Sandbox(dir) => clean(dir),
            Self::Overdue { dir, .. } => end_with_shim(dir),
            Self::Process { name, .. } => {
                // One that has ended is what is wanted.
                let Some(process) = name.open() else { return Ok(()) };
                process.kill();
                match within(GOING, || process.has_ended().then_some(())) {
                    Some(()) => Ok(()),
                    None => Err("it survives SIGKILL".into()),
                }
            }
            Self::Cgroup(directory) => {
                // Children of a sandbox end a moment after it.
                let removed = || match fs::remove_dir(directory) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => None,
                    result => Some(result),
                };
                let removed = within(GOING, removed).unwrap_or_else(|| fs::remove_dir(directory));
                if let Some(parent) = directory.parent() {
                    // Still in use by other sandboxes, most of the time.
                    let _ = fs::remove_dir(parent);
                }
                removed.map_err(|error| error.to_string())
            }
            Self::Mount(point) => rootfs::unmount_all(point).map_err(|error| error.to_string()),
        }
    }
}

/// Finds and, unless `only_look`, ends and removes it.
pub(super) fn reap(node: &Node, only_look: bool) -> Result<String, Failure> {
    let mut said = String::new();
    let mut failures = Vec::new();
    // Most is gone with the sandboxes, so the rest is looked for afterwards.
    for find in [sandboxes, processes, cgroups, mounts] {
        for stray in find(node).map_err(|line| vec![line])? {
            match (only_look, stray.words()) {
                (true, words) => said += &format!("would end {words}\n"),
                (false, words) => match stray.remove() {
                    Ok(()) => said += &format!("ended {words}\n"),
                    Err(error) => failures.push(format!("{words}: {error}")),
                },
            }
        }
    }
    if !only_look {
        match node.ledger.sweep() {
            Ok(0) => {}
            Ok(count) => said += &format!("forgot {count} pods\n"),
            // There is none yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => failures.push(format!("the ledger: {error}")),
        }
    }
    match failures.is_empty() {
        true => Ok(said),
        false => {
            failures.extend(said.lines().map(str::to_owned));
            Err(failures)
        }
    }
}

fn sandboxes(node: &Node) -> Result<Vec<Stray>, String> {
    let dirs = SandboxDir::all(&node.state_dir);
    let dirs = dirs.map_err(|error| format!("{}: {error}", node.state_dir.display()))?;
    let strays = dirs.into_iter().filter_map(|dir| match dir.is_served() {
        false if is_held(&dir) => None,
        false => Some(Stray::Sandbox(dir)),
        true => overdue(&dir).map(|why| Stray::Overdue { dir, why }),
    });
    Ok(strays.collect())
}

/// Whether a sandbox without a shim may run on until its time is up, with its watchdog.
fn is_held(dir: &SandboxDir) -> bool {
    let Ok(record) = SandboxRecord::read(dir) else { return false };
    record.policy.timeout.on_shim_loss == OnShimLoss::Hold
        && record.process.is_some_and(ProcessName::is_running)
        && record.span.as_ref().is_some_and(|span| !span.is_over())
}

/// Why a sandbox that has a shim should be gone, if it should.
fn overdue(dir: &SandboxDir) -> Option<String> {
    let record = SandboxRecord::read(dir).ok()?;
    record.process.filter(|process| process.is_running())?;
    let (span, now) = (record.span.as_ref()?, Boottime::now());
    if span.over().is_ok_and(|over| over.after(LATE) < now) {
        return Some(format!(
            "its time was up at {}",
            humantime::format_rfc3339_seconds(span.due.on_the_wall())
        ));
    }
    // Both are written when its workload starts, one after the other.
    if span.started.here().is_ok_and(|started| started.after(LATE) > now) {
        return None;
    }
    let state = &record.policy.state;
    match Ledger::at(&state.ledger, state.retention).read(&record.pod.as_ref()?.uid) {
        Ok(Some(_)) => None,
        Ok(None) => Some("it has no ledger entry".to_owned()),
        // What a new attempt would be refused for. A file that cannot be read just now is none.
        Err(error) if error.is_of_the_entry() => Some(error.to_string()),
        Err(_) => None,
    }
}

/// Whether a sandbox of this name, the last part of its directory's path, has a shim.
fn is_served(node: &Node, name: &str) -> bool {
    SandboxDir::at(node.state_dir.join("s").join(name)).is_served()
}

fn processes(node: &Node) -> Result<Vec<Stray>, String> {
    let root = format!("--root={}/", node.state_dir.join("s").display());
    let entries = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    Ok(pids
        .filter_map(|pid| {
            let name = ProcessName::of(pid).ok()?;
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let command = line.split('\0').next()?.to_owned();
            let sandbox =
                line.split('\0').find_map(|word| word.strip_prefix(&root))?.split('/').next()?.to_owned();
            (command.starts_with("runsc-") && !is_served(node, &sandbox))
                .then_some(Stray::Process { command, name })
        })
        .collect())
}

fn cgroups(node: &Node) -> Result<Vec<Stray>, String> {
    let own = Cgroup::planned(&format!("/{OWN_PARENT}")).map_err(|error| format!("cgroups: {error}"))?;
    let own = own.map_err(|error| error.to_string())?;
    let children =
        own.directories().iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten());
    let directories = children.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let is_stray = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('-').next());
        name.is_some_and(|sandbox| !is_served(node, sandbox)) && is_deserted(path)
    };
    Ok(directories.filter(is_stray).map(Stray::Cgroup).collect())
}

/// Whether a cgroup has no member, nor will have one. Those of another state directory's sandboxes are here too.
fn is_deserted(directory: &Path) -> bool {
    let age = fs::metadata(directory).and_then(|of| of.modified()).ok().and_then(|made| made.elapsed().ok());
    let cgroup = Cgroup::at(directory.to_owned());
    // What was just killed may be on its way out.
    let is_empty = || within(GOING / 4, || (!cgroup.is_populated()).then_some(())).is_some();
    age.is_some_and(|age| age > YOUNG) && is_empty()
}

fn mounts(_: &Node) -> Result<Vec<Stray>, String> {
    let text = fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("mounts: {error}"))?;
    // Of a bundle, whose path has nothing that would be written in another way here (proc_pid_mountinfo(5)).
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let is_stray = |point: &&Path| {
        let bundle = point.parent().filter(|bundle| rootfs::mount_point(bundle) == **point);
        let note = bundle.and_then(|bundle| BundleNote::read(bundle).ok().flatten());
        note.is_some_and(|note| !SandboxDir::at(note.sandbox_dir).is_served())
    };
    let strays: BTreeSet<PathBuf> = points.filter(is_stray).map(Path::to_owned).collect();
    Ok(strays.into_iter().map(Stray::Mount).collect())
}

//! The part of Create that takes its time: runsc, and cleaning up where it failed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use runsc_bridge::{ContainerId, ControlSocket, CreateCall, state_file};
use serde_json::Value;

use super::{Created, Gofer, NewSandbox};
use crate::{
    cgroup::Cgroup,
    confine::mask,
    deadline_file::FirstReading,
    error::Error,
    panic_log::PanicLog,
    pod::{Tools, container::Container, span::TELLING},
    process::{PidFd, ProcessName},
    rootfs::{self, RootfsMount},
    spec,
    stdio::fifo::ContainerStdio,
    watchdog::Known,
};

/// How long what a failed create left behind may take to die.
const CLEANING: Duration = Duration::from_secs(5);

/// What `runsc create` is to do, apart from the pod's state.
pub(super) struct CreateWork {
    id: ContainerId,
    bundle: PathBuf,
    rootfs: Vec<RootfsMount>,
    cgroup: Cgroup,
    is_root: bool,
    /// Paths in the image to be masked, where they are.
    masked: Vec<PathBuf>,
    /// Where the empty file is.
    state_dir: PathBuf,
}

impl CreateWork {
    pub(super) fn of(container: &Container, masked: Vec<PathBuf>, state_dir: &Path) -> Self {
        Self {
            id: container.id.clone(),
            bundle: container.bundle.clone(),
            rootfs: container.rootfs.clone(),
            cgroup: container.cgroup.clone(),
            is_root: container.role.is_root(),
            masked,
            state_dir: state_dir.to_owned(),
        }
    }
}

/// What a Create waits for before anything is made.
pub(super) struct Before {
    /// That somebody watches over the sandbox.
    pub(super) watched: Option<Known>,
    /// That its deadline file has been read.
    pub(super) read: Option<FirstReading>,
}

/// Creates the container, or cleans up what the attempt left.
pub(super) async fn run_create(
    tools: &Tools,
    work: &CreateWork,
    before: Before,
    stdio: &mut ContainerStdio,
) -> Result<Created, Error> {
    if let Some(watched) = before.watched {
        // Nothing is made that nobody watches over.
        watched.within(TELLING).await?;
    }
    if let Some(read) = before.read {
        read.over().await?;
    }
    let result = create_and_find(tools, work, stdio).await;
    if result.is_err() {
        clean_failed_create(tools, work).await;
        for ending in std::mem::take(stdio).finish() {
            ending.over().await;
        }
    }
    result
}

async fn create_and_find(
    tools: &Tools,
    work: &CreateWork,
    stdio: &mut ContainerStdio,
) -> Result<Created, Error> {
    rootfs::mount_elsewhere(rootfs::mount_point(&work.bundle), work.rootfs.clone()).await?;
    if !work.masked.is_empty() {
        mask_in_image(work).await?;
    }
    if work.is_root {
        tools.cli.require_supported(tools.calls.probe).await?;
    }
    stdio.start_logger(&tools.logged(work.id.as_str()), &tools.reaper).await?;
    let panic_log = work.is_root.then(|| make_panic_log(tools)).flatten();
    let call = CreateCall {
        container: &work.id,
        bundle: &work.bundle,
        stdio: work.is_root.then(|| stdio.guest()),
        console_socket: stdio.console_socket(),
        systemd_cgroup: work.cgroup.is_by_systemd(),
        panic_log: panic_log.as_ref().map(PanicLog::path),
        limit: tools.calls.create,
    };
    tools.cli.create(call).await?;
    let mut created = find_created(tools, work)?;
    if let Some(sandbox) = &mut created.sandbox {
        sandbox.panic_log = panic_log;
    }
    if work.is_root
        && let Some(console) = stdio.take_console()
    {
        // The sandbox has it for its controlling terminal: keys and sizes reach the guest by themselves.
        created.streams = Some(console.attach(tools.calls.signal, |_| {}).await?);
    }
    Ok(created)
}

fn make_panic_log(tools: &Tools) -> Option<PanicLog> {
    let made = PanicLog::make(&tools.dir.panic_log());
    // Without it the sandbox runs as well, and doesn't say why it breaks down.
    made.inspect_err(|error| log::warn!("cannot make the sandbox's panic log: {error}")).ok()
}

/// Masks what the image has at the paths to be masked, now that it is mounted.
async fn mask_in_image(work: &CreateWork) -> Result<(), Error> {
    let (rootfs, bundle) = (rootfs::mount_point(&work.bundle), work.bundle.clone());
    let (paths, state_dir) = (work.masked.clone(), work.state_dir.clone());
    // A file system may take its time.
    let masked = tokio::task::spawn_blocking(move || {
        let kinds = paths.iter().filter_map(|path| Some((path, rootfs::kind_in(&rootfs, path)?)));
        let masks: Vec<Value> = kinds.map(|(path, kind)| mask(path, kind, &state_dir)).collect();
        spec::add_mounts(&bundle, masks)
    });
    Ok(masked.await.unwrap_or(Ok(()))?)
}

/// Takes hold of the processes that runsc left running, while nothing can reap them in between.
fn find_created(tools: &Tools, work: &CreateWork) -> Result<Created, Error> {
    let sandbox_id = &tools.sandbox;
    let state = state_file::read(tools.cli.paths(), sandbox_id, &work.id)?;
    let gone = Error::system("finding the new sandbox's process");
    let sandbox = if work.is_root {
        let process = PidFd::open(state.sandbox_pid).map_err(gone)?;
        let cgroup =
            Cgroup::of_process(state.sandbox_pid).map_err(Error::system("reading the sandbox's cgroup"))?;
        if let Err(error) = cgroup.end_together_when_out_of_memory() {
            // The shim ends what the kernel leaves, a little later.
            log::warn!(container = work.id.as_str(); "cannot set memory.oom.group: {error}");
        }
        Some(NewSandbox {
            name: ProcessName::of(state.sandbox_pid)
                .map_err(Error::system("naming the new sandbox's process"))?,
            process,
            exit: tools.reaper.exit_of_adopted(state.sandbox_pid),
            control: ControlSocket::open(tools.cli.paths(), sandbox_id)?,
            cgroup,
            panic_log: None,
        })
    } else {
        None
    };
    Ok(Created { sandbox, gofer: open_gofer(state.gofer_pid), streams: None })
}

/// The gofer of a container that has one by now: a sub-container gets it at its start.
pub(in crate::pod) fn find_gofer(tools: &Tools, id: &ContainerId) -> Option<Gofer> {
    let state = state_file::read(tools.cli.paths(), &tools.sandbox, id).ok()?;
    open_gofer(state.gofer_pid)
}

fn open_gofer(pid: i32) -> Option<Gofer> {
    let name = ProcessName::of(pid).ok()?;
    Some(Gofer { name, process: name.open()? })
}

async fn clean_failed_create(tools: &Tools, work: &CreateWork) {
    let id = work.id.as_str();
    if work.is_root {
        // A runsc that was killed in the middle leaves processes without a state file.
        if let Err(error) = work.cgroup.end(CLEANING).await {
            log::error!(container = id; "cannot clean up after a failed create: {error}");
        }
        if let Err(error) = tools.dir.reset_runsc_root() {
            log::error!(container = id; "cannot clean up after a failed create: {error}");
        }
    } else if let Err(error) = tools.cli.delete(&work.id, tools.calls.delete).await {
        log::error!(container = id; "cannot clean up after a failed create: {error}");
    }
    if let Err(error) = work.cgroup.remove(CLEANING).await {
        log::error!(container = id; "cannot clean up after a failed create: {error}");
    }
    if let Err(error) = rootfs::unmount_elsewhere(rootfs::mount_point(&work.bundle)).await {
        log::error!(container = id; "cannot clean up after a failed create: {error}");
    }
}

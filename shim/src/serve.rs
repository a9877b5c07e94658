//! The shim proper: one process, one thread, one pod.

use std::{fs::File, io, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use curfew_config::{NoNewPrivs, NodePolicy, OnShimLoss, State};
use nix::sys::prctl;
use runsc_bridge::{Cli, Settings, SettingsInput};
use ttrpc::r#async::{Server, transport::Listener};

use crate::{
    connections,
    events::EventQueue,
    last_checkpoint,
    ledger::Ledger,
    logging, operator, outer_filter,
    pod::{Ended, Pod, Tools},
    privileges,
    reaper::Reaper,
    record::SandboxRecord,
    sandbox_dir::SandboxDir,
    watchdog::{Watchdog, WatchedPod},
    wire,
};

/// How long containerd may take to accept the last events before the shim goes without.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// How long the disk may take to accept the pod's last entries.
const LAST_ENTRIES: Duration = Duration::from_secs(2);
/// Between two complaints that they aren't accepted.
const LONG: Duration = Duration::from_secs(3600);
/// How long what blocks may take to end with the shim.
const LAST_CALLS: Duration = Duration::from_secs(2);
/// So many can hang, as with output to a file on a server that is gone, before mounts wait for them.
const MOST_BLOCKING_THREADS: usize = 8;
/// How long a thread for what blocks waits for the next call.
const BLOCKING_THREAD: Duration = Duration::from_millis(50);
/// The reply to Shutdown has to leave the process before it ends.
const LAST_REPLY: Duration = Duration::from_millis(1);

/// What `start` hands to the shim that it starts.
pub(crate) struct Inherited {
    /// Listening already: containerd connects as soon as it has the address.
    pub(crate) listener: OwnedFd,
    /// The sandbox's lock. Held for the shim's life; closed by the kernel whatever ends it.
    pub(crate) lock: File,
    pub(crate) dir: SandboxDir,
}

/// Serves the pod to its end.
///
/// # Errors
/// The shim could not be set up; what is said goes nowhere but to the log.
pub(crate) fn serve(inherited: Inherited) -> anyhow::Result<()> {
    let record = SandboxRecord::read(&inherited.dir).context("reading the sandbox record")?;
    logging::start(&record.bundle, record.debug);
    SandboxDir::sign_lock(&inherited.lock).context("signing the lock")?;
    // While there is one thread: what is given up now is given up for everything that it starts.
    privileges::reduce(record.policy.pod.host_network).context("giving up capabilities")?;
    outer_filter::install(&record.policy.seccomp)?;
    // Sandboxes and gofers become our children when the runsc that made them ends.
    prctl::set_child_subreaper(true).context("becoming a subreaper")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For mounts, limits and output to files, which may all have to wait; gone when there is nothing to do.
        .max_blocking_threads(MOST_BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_THREAD)
        .build()?;
    let result = runtime.block_on(serve_pod(inherited, record));
    // A thread that waits for a disk or a file server that hangs mustn't keep the shim.
    runtime.shutdown_timeout(LAST_CALLS);
    if let Err(error) = &result {
        log::error!("the shim ends: {error:#}");
    }
    result
}

async fn serve_pod(inherited: Inherited, record: SandboxRecord) -> anyhow::Result<()> {
    let dir = inherited.dir;
    ignore_termination()?;
    let reaper = Reaper::start().context("watching children")?;
    let settings = settings_of(&record.policy)?;
    let cli = Cli::new(record.runsc.clone(), settings, dir.runsc_paths(), Arc::new(reaper.clone()));
    let calls = record.policy.calls.clone();
    let tools = Tools {
        namespace: record.namespace.clone(),
        sandbox: record.sandbox.clone(),
        dir: dir.clone(),
        cli,
        calls,
        reaper,
    };
    let events = EventQueue::start(record.events_address.clone(), record.namespace.clone());
    let listener = connections::Listener::new(inherited.listener).context("taking over the socket")?;
    let connections = listener.connections();
    let (state, checkpoints) = (record.policy.state.clone(), record.policy.checkpoint.dir.clone());
    // Early, since it takes its time to start.
    let watchdog = Watchdog::start(WatchedPod {
        namespace: record.namespace.clone(),
        id: record.sandbox.to_string(),
        dir: dir.clone(),
        hold: record.policy.timeout.on_shim_loss == OnShimLoss::Hold,
    })
    .context("taking hold of this process for the watchdog")?;
    let (pod, handle) = Pod::new(tools, record, watchdog, events.clone(), connections)
        .context("making the deadline's timer")?;
    let mut server =
        Server::new().add_listener(Listener::new(listener)).register_service(wire::task::services(&handle));
    server.start().await.context("starting the server")?;

    // Without it the pod runs as it is.
    if let Err(error) = operator::serve(&dir.operator_socket(), handle.clone()) {
        log::warn!("the operator's socket: {error}");
    }
    sweep(state, checkpoints);

    end(pod.run().await, &dir, &events).await;
    drop(inherited.lock);
    Ok(())
}

/// What is left to do once the pod has ended.
async fn end(ended: Ended, dir: &SandboxDir, events: &EventQueue) {
    ended.watchdog.release().await;
    let unwritten = match ended.ledger {
        Some(entry) if !entry.finish(LAST_ENTRIES).await && ended.has_verdict => Some(entry),
        Some(_) | None => None,
    };
    // First the directory: a new sandbox of the same name must not find this shim.
    if unwritten.is_none() {
        remove(dir);
    }
    events.flush(LAST_EVENTS).await;
    if ended.shutdowns.answer() {
        tokio::time::sleep(LAST_REPLY).await;
    }
    if let Some(entry) = unwritten {
        // Nobody else would say that the pod's time was up, and it would come back as soon as there is room. If this is
        // killed too, the record says so to whoever cleans up.
        while !entry.finish(LONG).await {}
        remove(dir);
    }
}

fn remove(dir: &SandboxDir) {
    if let Err(error) = dir.remove() {
        log::error!("cannot remove {}: {error}", dir.path().display());
    }
}

/// Removes what the node need not keep any more, beside the pod's start.
fn sweep(state: State, checkpoints: Option<PathBuf>) {
    let ledger = Ledger::at(&state.ledger, state.retention);
    tokio::task::spawn_blocking(move || {
        match ledger.sweep_now_and_then() {
            Ok(0) => {}
            Ok(count) => log::info!("{count} pods are forgotten"),
            Err(error) => log::warn!("cannot sweep the ledger: {error}"),
        }
        checkpoints.iter().for_each(|dir| last_checkpoint::sweep(dir));
    });
}

/// Checks what the record's policy asks of runsc.
pub(crate) fn settings_of(policy: &NodePolicy) -> Result<Settings, runsc_bridge::RunscError> {
    let runsc = &policy.runsc;
    Settings::new(SettingsInput {
        platform: runsc.platform.as_str(),
        network: runsc.network.as_str(),
        overlay2: &runsc.overlay2,
        directfs: runsc.directfs,
        allow_suid: policy.pod.no_new_privs == NoNewPrivs::Pod,
        debug_dir: runsc.debug.then_some(runsc.debug_dir.as_path()),
        flags: runsc.flags.clone(),
    })
}

/// A shim ends when its pod does. A stray SIGTERM, as when a service manager stops containerd's whole group, must not
/// take the pod with it. Handled and not ignored: children would inherit that.
fn ignore_termination() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let mut received = signal(kind)?;
        tokio::spawn(async move {
            while received.recv().await.is_some() {
                log::warn!("ignoring signal {}: a shim ends with its pod", kind.as_raw_value());
            }
        });
    }
    Ok(())
}

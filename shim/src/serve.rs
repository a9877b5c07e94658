//! The shim proper: one process, one thread, one pod.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixListener as StdListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use curfew_config::NodePolicy;
use futures_core::Stream;
use nix::sys::prctl;
use runsc_bridge::{Cli, Settings, SettingsInput};
use tokio::net::{UnixListener, UnixStream};
use ttrpc::r#async::{Server, transport::Listener};

use crate::{
    command::Reply,
    events::EventQueue,
    logging,
    pod::{Pod, Tools},
    reaper::Reaper,
    record::SandboxRecord,
    sandbox_dir::SandboxDir,
    wire,
};

/// How long containerd may take to accept the last events before the shim goes without.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// How long the thread for mounts waits for the next one.
const BLOCKING_THREAD: Duration = Duration::from_millis(50);
/// The reply to Shutdown has to leave the process before it ends.
const LAST_REPLY: Duration = Duration::from_millis(20);

/// What `start` hands to the shim that it starts.
pub(crate) struct Inherited {
    /// Listening already: containerd connects as soon as it has the address.
    pub(crate) listener: OwnedFd,
    /// The sandbox's lock. Held for the shim's life; closed by the kernel whatever ends it.
    pub(crate) lock: OwnedFd,
    pub(crate) dir: SandboxDir,
}

/// Serves the pod to its end.
///
/// # Errors
/// The shim could not be set up; what is said goes nowhere but to the log.
pub(crate) fn serve(inherited: Inherited) -> anyhow::Result<()> {
    let record = SandboxRecord::read(&inherited.dir).context("reading the sandbox record")?;
    logging::start(&record.bundle, record.debug);
    // Sandboxes and gofers become our children when the runsc that made them ends.
    prctl::set_child_subreaper(true).context("becoming a subreaper")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For mounts alone, one at a time, and gone when there is none to make.
        .max_blocking_threads(1)
        .thread_keep_alive(BLOCKING_THREAD)
        .build()?;
    let result = runtime.block_on(serve_pod(inherited, record));
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
    let tools = Tools { sandbox: record.sandbox.clone(), dir: dir.clone(), cli, calls, reaper };
    let events = EventQueue::start(record.events_address.clone(), record.namespace.clone());
    let (pod, handle) = Pod::new(tools, record, events.clone()).context("making the deadline's timer")?;
    let mut server = Server::new()
        .add_listener(Listener::new(RootOnly::new(inherited.listener)?))
        .register_service(wire::task::services(&handle));
    server.start().await.context("starting the server")?;

    let shut_down = pod.run().await;
    // First the directory: a new sandbox of the same name must not find this shim.
    if let Err(error) = dir.remove() {
        log::error!("cannot remove {}: {error}", dir.path().display());
    }
    events.flush(LAST_EVENTS).await;
    if let Some(responder) = shut_down {
        let _ = responder.send(Ok(Reply::Done));
        tokio::time::sleep(LAST_REPLY).await;
    }
    drop(inherited.lock);
    Ok(())
}

/// Checks what the record's policy asks of runsc.
pub(crate) fn settings_of(policy: &NodePolicy) -> Result<Settings, runsc_bridge::RunscError> {
    let runsc = &policy.runsc;
    Settings::new(SettingsInput {
        platform: runsc.platform.as_str(),
        network: runsc.network.as_str(),
        overlay2: &runsc.overlay2,
        directfs: runsc.directfs,
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

/// Connections from root. The socket's mode says the same; this holds whatever becomes of the mode.
struct RootOnly(UnixListener);

impl RootOnly {
    fn new(listener: OwnedFd) -> io::Result<Self> {
        let listener = StdListener::from(listener);
        listener.set_nonblocking(true)?;
        Ok(Self(UnixListener::from_std(listener)?))
    }
}

impl Stream for RootOnly {
    type Item = io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Poll::Ready(accepted) = self.0.poll_accept(context) else { return Poll::Pending };
            match accepted {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == nix::unistd::geteuid().as_raw() => {
                        return Poll::Ready(Some(Ok(stream)));
                    }
                    _ => log::warn!("refused a connection that isn't root's"),
                },
                // The peer was gone before it was accepted, or descriptors ran out for a moment.
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

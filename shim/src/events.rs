//! Events to containerd: one queue, one publisher, in order, each once.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use containerd_events::Publisher;
use tokio::sync::{mpsc, oneshot};

use crate::{process::Exit, rootfs::RootfsMount, stdio::StdioPaths, wire::events as containerd_events};

/// While containerd is down, events wait; a pod has a handful of them, so this many mean that something is wrong.
const LONGEST_QUEUE: usize = 4096;
/// Pauses between attempts to reach containerd.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Create {
        id: String,
        pid: u32,
        bundle: PathBuf,
        rootfs: Vec<RootfsMount>,
        stdio: StdioPaths,
    },
    Start {
        id: String,
        pid: u32,
    },
    ExecAdded {
        id: String,
        exec: String,
    },
    ExecStarted {
        id: String,
        exec: String,
        pid: u32,
    },
    Checkpointed {
        id: String,
        image: PathBuf,
    },
    Paused {
        id: String,
    },
    Resumed {
        id: String,
    },
    /// Comes before the exit that it brings about.
    Oom {
        id: String,
    },
    /// Of a container's init, or of one of its execs.
    Exit {
        id: String,
        exec: Option<String>,
        pid: u32,
        exit: Exit,
    },
    Delete {
        id: String,
        pid: u32,
        exit: Exit,
    },
}

enum Item {
    Publish(Event, SystemTime),
    Flush(oneshot::Sender<()>),
}

/// Where the pod task puts events. Putting never waits.
#[derive(Clone)]
pub(crate) struct EventQueue(mpsc::Sender<Item>);

impl EventQueue {
    /// Starts the publisher for containerd's ttrpc `address`; an empty one drops all events.
    pub(crate) fn start(address: String, namespace: String) -> Self {
        let (sender, receiver) = mpsc::channel(LONGEST_QUEUE);
        tokio::spawn(publish_all(receiver, Publisher::new(address, namespace)));
        Self(sender)
    }

    /// Queues an event.
    pub(crate) fn publish(&self, event: Event) {
        if let Err(error) = self.0.try_send(Item::Publish(event, SystemTime::now())) {
            log::error!("cannot queue an event: {error}");
        }
    }

    /// Waits until everything queued so far has reached containerd, for `limit` at most.
    pub(crate) async fn flush(&self, limit: Duration) {
        let (sender, flushed) = oneshot::channel();
        let flushing = async {
            let _ = self.0.send(Item::Flush(sender)).await;
            let _ = flushed.await;
        };
        if tokio::time::timeout(limit, flushing).await.is_err() {
            log::warn!("containerd took no events within {limit:?}: some are lost");
        }
    }
}

async fn publish_all(mut queue: mpsc::Receiver<Item>, mut publisher: Publisher) {
    while let Some(item) = queue.recv().await {
        match item {
            Item::Publish(event, at) => publish_one(&mut publisher, &event, at).await,
            Item::Flush(done) => drop(done.send(())),
        }
    }
}

/// Tries until containerd has the event: the next one must not overtake it.
async fn publish_one(publisher: &mut Publisher, event: &Event, at: SystemTime) {
    let mut pause = FIRST_PAUSE;
    while let Err(unreachable) = publisher.publish(event, at).await {
        log::debug!("containerd takes no events yet: {unreachable}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

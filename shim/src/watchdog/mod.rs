//! The watchdog: a small process beside the shim that ends the sandbox where the shim cannot.
//!
//! It knows what the shim has told it, and acts in two cases: the pod's time and its grace have been over for
//! [`message::MARGIN`] and the sandbox lives, or the shim is gone. In the first the shim hangs, so unless it shows a sign of
//! life it is ended too: then containerd cleans up after it instead of waiting for ever. The watchdog is itself watched: a
//! shim whose watchdog dies, or doesn't answer, starts another.

mod confine;
mod end;
mod keeper;
mod message;
mod run;
mod spawn;

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

pub(crate) use self::{end::SandboxEnd, run::run};
use self::{keeper::Keeper, message::Message};
use crate::{
    cgroup::Cgroup, deadline::clock::Boottime, error::Error, process::PidFd, sandbox_dir::SandboxDir,
};

/// More than a keeper takes that can do it at all.
const RELEASE: Duration = Duration::from_secs(1);

/// One thing to tell it.
struct Telling {
    message: Message,
    process: Option<Arc<PidFd>>,
    known: oneshot::Sender<()>,
}

/// A pod's watchdog, as the shim has it. Dropped without [`Self::release`], it ends the pod.
pub(crate) struct Watchdog {
    tellings: mpsc::UnboundedSender<Telling>,
}

/// Whose watchdog it is.
#[derive(Debug, Clone)]
pub(crate) struct WatchedPod {
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) dir: SandboxDir,
    /// Whether the pod may run on when its shim has died, until its time is up.
    pub(crate) hold: bool,
}

/// Whether the watchdog knows by now what it was told.
#[must_use]
pub(crate) struct Known(oneshot::Receiver<()>);

impl Known {
    /// Waits until it does.
    ///
    /// # Errors
    /// There is none that answers in time.
    pub(crate) async fn within(self, limit: Duration) -> Result<(), Error> {
        match tokio::time::timeout(limit, self.0).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Error::NoWatchdog { limit }),
        }
    }
}

impl Watchdog {
    /// Starts it, and another whenever it dies.
    ///
    /// # Errors
    /// This process cannot be told of.
    pub(crate) fn start(pod: WatchedPod) -> std::io::Result<Self> {
        let (tellings, inbox) = mpsc::unbounded_channel();
        tokio::spawn(Keeper::new(pod)?.run(inbox));
        Ok(Self { tellings })
    }

    /// Where the sandbox will be, before anything of it is there.
    pub(crate) fn guard(&self, cgroup: Cgroup) -> Known {
        self.tell(Message::Cgroup(cgroup), None)
    }

    /// A process of the sandbox.
    pub(crate) fn add(&self, process: Arc<PidFd>) {
        drop(self.tell(Message::Process, Some(process)));
    }

    /// When the pod's time and its grace are over.
    pub(crate) fn over_at(&self, over: Boottime) -> Known {
        self.tell(Message::Over(Some(over)), None)
    }

    /// The sandbox is gone, and another may come.
    pub(crate) fn forget(&self) {
        drop(self.tell(Message::Forget, None));
    }

    /// Lets it go, since the pod has ended, and waits until it has.
    pub(crate) async fn release(self) {
        let _ = self.tell(Message::Release, None).within(RELEASE).await;
    }

    fn tell(&self, message: Message, process: Option<Arc<PidFd>>) -> Known {
        let (known, receiver) = oneshot::channel();
        // A keeper that is gone answers nobody, which is what the caller sees.
        let _ = self.tellings.send(Telling { message, process, known });
        Known(receiver)
    }
}

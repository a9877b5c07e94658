//! What the Task service has of the pod: a way in for requests, and the view that it publishes.

use runsc_bridge::ContainerId;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Input,
    view::{ContainerView, PodView},
};
use crate::{
    command::{Command, Reply},
    error::Error,
};

/// How the Task service reaches the pod.
#[derive(Clone)]
pub(crate) struct PodHandle {
    pub(super) inbox: mpsc::UnboundedSender<Input>,
    pub(super) view: watch::Receiver<PodView>,
}

impl PodHandle {
    /// Has a command carried out and returns the answer. Dropping the future doesn't stop the work.
    ///
    /// # Errors
    /// What the pod task answers.
    pub(crate) async fn request(&self, command: Command) -> Result<Reply, Error> {
        self.ask(command).await.unwrap_or(Err(Error::Internal("the shim is shutting down")))
    }

    /// `None` if the pod has ended.
    async fn ask(&self, command: Command) -> Option<Result<Reply, Error>> {
        let (responder, reply) = oneshot::channel();
        self.inbox.send(Input::Request(command, responder)).ok()?;
        reply.await.ok()
    }

    /// Asks the pod to end if it is empty. For one that is ending already there is nothing to do: kubelet and containerd may
    /// both have asked.
    ///
    /// # Errors
    /// What the pod task answers.
    pub(crate) async fn shut_down(&self) -> Result<(), Error> {
        self.ask(Command::Shutdown).await.map_or(Ok(()), |answer| answer.map(drop))
    }

    /// What container `id` looks like now.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn container(&self, id: &ContainerId) -> Result<ContainerView, Error> {
        let view = self.view.borrow();
        view.get(id).cloned().ok_or_else(|| Error::NotFound { what: "container", id: id.to_string() })
    }
}

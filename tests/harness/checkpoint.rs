//! Checkpoints through containerd's content store, as its clients take and restore them.

use containerd_client::services::v1 as api;
use containerd_client::types::Descriptor;
use prost_types::Any;

use crate::rpc::{Code, RpcError};
use crate::{Container, Task};

/// The media type under which containerd keeps what the runtime wrote.
const CHECKPOINT: &str = "application/vnd.containerd.container.criu.checkpoint.criu.tar";

impl Task {
    /// Has the task written to the content store; with `exit` it ends with that.
    pub fn checkpoint(&self, exit: bool) -> Result<Descriptor, RpcError> {
        let options = exit.then(|| Any {
            type_url: "containerd.runc.v1.CheckpointOptions".into(),
            // Its first field, `exit`, is true.
            value: vec![0x08, 0x01],
        });
        let request = api::CheckpointTaskRequest {
            container_id: self.id().into(),
            options,
            ..api::CheckpointTaskRequest::default()
        };
        let containerd = self.containerd();
        let mut tasks = containerd.client().tasks();
        let made = containerd.ask(tasks.checkpoint(containerd.request(request)))?.descriptors;
        let found = made.into_iter().find(|descriptor| descriptor.media_type == CHECKPOINT);
        found.ok_or_else(|| RpcError::new(Code::NotFound, "containerd returned no checkpoint"))
    }
}

impl Container {
    /// Creates the task from a checkpoint: its Start goes on where that was taken.
    pub fn create_from(&self, checkpoint: Descriptor) -> Result<Task, RpcError> {
        self.create_with(|request| request.checkpoint = Some(checkpoint))
    }
}

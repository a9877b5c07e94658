//! Checkpoints through containerd's content store, as its clients take and restore them.

use std::path::Path;

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
        let found =
            found.ok_or_else(|| RpcError::new(Code::NotFound, "containerd returned no checkpoint"))?;
        self.keep(&found)?;
        Ok(found)
    }

    /// Nothing refers to a checkpoint, so containerd may collect it at any moment.
    fn keep(&self, checkpoint: &Descriptor) -> Result<(), RpcError> {
        let labels = [("containerd.io/gc.root".to_owned(), "test".to_owned())].into();
        let info = api::Info { digest: checkpoint.digest.clone(), labels, ..api::Info::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["labels".into()] });
        let request = api::UpdateRequest { info: Some(info), update_mask };
        let containerd = self.containerd();
        let mut content = containerd.client().content();
        containerd.ask(content.update(containerd.request(request))).map(drop)
    }
}

impl Container {
    /// Creates the task from a checkpoint: its Start goes on where that was taken.
    pub fn create_from(&self, checkpoint: Descriptor) -> Result<Task, RpcError> {
        self.create_with(|request| request.checkpoint = Some(checkpoint))
    }
}

impl Container {
    /// Creates the task from a checkpoint in a directory, which containerd passes on as it is, and starts it.
    pub fn create_from_directory(&self, directory: &Path) -> Result<Task, RpcError> {
        let annotations = [("RestoreFromPath".to_owned(), directory.display().to_string())].into();
        let checkpoint = Descriptor { annotations, ..Descriptor::default() };
        self.create_with(|request| request.checkpoint = Some(checkpoint))
    }
}

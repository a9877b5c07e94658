//! Checkpoint: a sandbox written to disk, from which Create can start it again, on the same node with the same runsc.

use std::{fs, io, path::Path};

use runsc_bridge::{ContainerId, RunscError};

use super::{Input, Pod, process::Responder};
use crate::{
    command::{self, Reply},
    error::Error,
    events::Event,
    lifecycle::Phase,
};

/// The file that every checkpoint of runsc has.
const IMAGE_FILE: &str = "checkpoint.img";

impl Pod {
    pub(super) fn checkpoint(&mut self, request: command::Checkpoint, responder: Responder) {
        if let Err(error) = self.may_checkpoint(&request) {
            let _ = responder.send(Err(error));
            return;
        }
        let Some(container) = self.containers.get_mut(&request.id) else { return };
        container.checkpointing = Some(responder);
        let tools = self.tools.clone();
        self.spawn(async move {
            let limit = tools.calls.checkpoint;
            let result = tools.cli.checkpoint(&request.id, &request.image, !request.exit, limit).await;
            Input::Checkpointed(request, result)
        });
    }

    fn may_checkpoint(&mut self, request: &command::Checkpoint) -> Result<(), Error> {
        let alone = self.containers.values().all(|c| c.id == request.id || c.init.has_ended());
        let saving = self.saving;
        let container = self.container_mut(&request.id)?;
        let phase = container.init.phase;
        let is_busy = container.checkpointing.is_some() || saving;
        if !matches!(phase, Phase::Running | Phase::Paused) || is_busy {
            return Err(Error::Phase { id: request.id.to_string(), phase, request: "Checkpoint" });
        }
        if !alone {
            return Err(Error::Siblings(request.id.to_string()));
        }
        prepare_image(&request.image)
    }

    pub(super) fn checkpointed(&mut self, request: command::Checkpoint, result: Result<(), RunscError>) {
        let Some(container) = self.containers.get_mut(&request.id) else { return };
        let responder = container.checkpointing.take();
        if result.is_ok() {
            let id = request.id.to_string();
            self.events.publish(Event::Checkpointed { id, image: request.image });
        } else {
            log::warn!(container = request.id.as_str(); "checkpoint failed");
            // What is half written is nobody's checkpoint. The directory may be containerd's.
            let left = fs::read_dir(&request.image).into_iter().flatten().flatten();
            left.for_each(|entry| drop(fs::remove_file(entry.path())));
        }
        if let Some(responder) = responder {
            let _ = responder.send(result.map(|()| Reply::Done).map_err(Error::from));
        }
    }
}

/// Makes the directory for a checkpoint. One that is there, as containerd makes it, has to be empty.
fn prepare_image(image: &Path) -> Result<(), Error> {
    let refused = |reason: io::Error| Error::CheckpointImage { path: image.to_owned(), reason };
    if !image.is_absolute() {
        return Err(refused(io::ErrorKind::InvalidInput.into()));
    }
    match fs::create_dir(image) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(image).map_err(refused)?;
            match entries.next() {
                None => Ok(()),
                Some(_) => Err(refused(io::ErrorKind::DirectoryNotEmpty.into())),
            }
        }
        result => result.map_err(refused),
    }
}

/// Refuses to create a container from what is no checkpoint: better now than at its start.
pub(super) fn check_image(id: &ContainerId, image: &Path) -> Result<(), Error> {
    let file = image.join(IMAGE_FILE);
    match fs::metadata(&file) {
        Ok(found) if found.is_file() && found.len() > 0 => Ok(()),
        Ok(_) | Err(_) => Err(Error::NoCheckpoint { id: id.to_string(), path: file }),
    }
}

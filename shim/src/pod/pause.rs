//! Pause and Resume: there is one sentry, so they are about the whole pod.

use runsc_bridge::{ContainerId, RunscError};

use super::{Input, Pod, process::Responder};
use crate::{
    command::Reply,
    error::Error,
    events::Event,
    lifecycle::{Effect, Trigger},
};

/// Which of the two was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Pause,
    Resume,
}

impl Pod {
    pub(super) fn pause_or_resume(&mut self, id: &ContainerId, direction: Direction, responder: Responder) {
        match self.begin_pause(id, direction) {
            Err(error) => drop(responder.send(Err(error))),
            Ok(work) => {
                if let Some(container) = self.containers.get_mut(id) {
                    container.init.waiting.push(responder);
                }
                self.spawn(work);
            }
        }
    }

    fn begin_pause(
        &mut self,
        id: &ContainerId,
        direction: Direction,
    ) -> Result<impl Future<Output = Input> + Send + use<>, Error> {
        if matches!(direction, Direction::Resume) {
            // What is stopped then stays so until it is killed.
            self.refuse_if_expired()?;
        }
        let alone = self.containers.values().all(|c| c.id == *id || c.init.has_ended());
        let control = self.control();
        let limit = self.tools.calls.signal;
        let trigger = match direction {
            Direction::Pause => Trigger::Pause,
            Direction::Resume => Trigger::Resume,
        };
        let container = self.container_mut(id)?;
        if !alone {
            return Err(Error::Siblings(id.to_string()));
        }
        container.init.transition(trigger)?;
        let (control, id) = (control?, id.clone());
        Ok(async move {
            let result = match direction {
                Direction::Pause => control.pause(limit).await,
                Direction::Resume => control.resume(limit).await,
            };
            Input::PauseDone(id, direction, result)
        })
    }

    pub(super) fn pause_done(
        &mut self,
        id: &ContainerId,
        direction: Direction,
        result: Result<(), RunscError>,
    ) {
        let trigger = match (direction, result.is_ok()) {
            (Direction::Pause, true) => Trigger::PauseSucceeded,
            (Direction::Pause, false) => Trigger::PauseFailed,
            (Direction::Resume, true) => Trigger::ResumeSucceeded,
            (Direction::Resume, false) => Trigger::ResumeFailed,
        };
        let Some(container) = self.containers.get_mut(id) else { return };
        match (container.init.transition(trigger), result) {
            (Ok(Effect::AnnouncePaused), _) => {
                container.init.answer(Reply::Done);
                self.events.publish(Event::Paused { id: id.to_string() });
            }
            (Ok(Effect::AnnounceResumed), _) => {
                container.init.answer(Reply::Done);
                self.events.publish(Event::Resumed { id: id.to_string() });
            }
            (Ok(_), result) => {
                let error = match result {
                    Err(error) => error.into(),
                    Ok(()) => Error::NotFound { what: "running process", id: id.to_string() },
                };
                if let Some(responder) = container.init.waiting.pop() {
                    let _ = responder.send(Err(error));
                }
            }
            (Err(error), _) => log::error!(container = id.as_str(); "{error}"),
        }
    }
}

//! The pod's deadline file, as far as the pod task has to do with it: where it is, and what it has said.

use std::path::PathBuf;

use runsc_bridge::ContainerId;
use serde_json::{Map, Value};

use super::{
    Input, Pod,
    extend::{Asker, Extension},
    group::Role,
    memory::AbortOnDrop,
    span::READING,
};
use crate::{
    deadline::{claim::Claim, clock::Boottime, span::Span},
    deadline_file::{DeadlineFileError, FirstReading, Follower, Place, overlaps_any, writable_sources},
    error::Error,
};

/// What a pod's deadline file has to do with it.
#[derive(Default)]
pub(super) struct PodClaim {
    /// What the pod's containers can write of the host's.
    writable: Vec<PathBuf>,
    file: Option<ClaimFile>,
    /// What it has said last.
    latest: Option<Claim>,
}

struct ClaimFile {
    /// Who has brought it, and who has to wait for the first reading.
    container: ContainerId,
    volume: PathBuf,
    first: Option<FirstReading>,
    follower: Option<AbortOnDrop>,
}

/// What a container has to do with the file.
#[derive(Default)]
pub(super) struct PlannedFile {
    writable: Vec<PathBuf>,
    /// The file, in the first container that has it.
    place: Option<Place>,
}

impl PodClaim {
    /// What the Create of this container has to wait for.
    pub(super) fn first_reading(&mut self, id: &ContainerId) -> Option<FirstReading> {
        self.file.as_mut().filter(|file| file.container == *id)?.first.take()
    }

    /// Stops reading the file: kubelet may want to take the volume away.
    pub(super) fn forget_file(&mut self) {
        if let Some(file) = &mut self.file {
            file.follower = None;
        }
    }

    /// The container that may have brought it hasn't been made.
    pub(super) fn forget_file_of(&mut self, id: &ContainerId) {
        self.file.take_if(|file| file.container == *id);
    }
}

impl Pod {
    /// What the container with this spec has to do with the pod's deadline file, if the pod has one.
    ///
    /// # Errors
    /// It could set its own deadline, or another's.
    pub(super) fn plan_claim_file(
        &self,
        spec: &Map<String, Value>,
        role: &Role,
    ) -> Result<PlannedFile, DeadlineFileError> {
        let policy = self.record.pod_policy.as_ref();
        let Some(path) = policy.and_then(|policy| policy.deadline_file.as_ref()) else {
            return Ok(PlannedFile::default());
        };
        let place = if role.is_workload() { Place::find(spec, path)? } else { None };
        let place = place.filter(|_| self.claim.file.is_none());
        let writable = writable_sources(spec);
        let volume =
            place.as_ref().map(Place::volume).or_else(|| Some(self.claim.file.as_ref()?.volume.clone()));
        match volume {
            Some(volume)
                if overlaps_any(&volume, &writable) || overlaps_any(&volume, &self.claim.writable) =>
            {
                Err(DeadlineFileError::Exposed { volume })
            }
            Some(_) | None => Ok(PlannedFile { writable, place }),
        }
    }

    /// Begins to follow the file that this container brings.
    pub(super) fn take_claim_file(&mut self, id: &ContainerId, planned: PlannedFile) {
        self.claim.writable.extend(planned.writable);
        let Some(place) = planned.place else { return };
        let (volume, outcomes) = (place.volume(), self.outcomes.clone());
        let tell = move |claim| drop(outcomes.send(Input::Claimed(claim)));
        let (follower, first) = Follower::new(self.record.sandbox.to_string(), place, tell);
        let follower = Some(AbortOnDrop::new(tokio::spawn(follower.run())));
        self.claim.file = Some(ClaimFile { container: id.clone(), volume, first: Some(first), follower });
    }

    /// The file says something.
    pub(super) fn claimed(&mut self, claim: Claim) {
        // A moment that was read twice is what it was at first.
        if self.claim.latest.as_ref().is_none_or(|latest| latest.text() != claim.text()) {
            self.claim.latest = Some(claim);
        }
        self.apply_claim();
    }

    /// Has the pod's time be what the file said last, unless that has been done; of a pod that hasn't started, once it does.
    pub(super) fn apply_claim(&mut self) {
        if !self.deadline.is_armed() || self.deadline.has_expired() || self.extending {
            return;
        }
        let Some(now) = self.record.span.clone() else { return };
        let planned = match self.with_claim(now.clone()) {
            Ok(span) if span == now => return,
            Ok(span) => self.make_known(span.clone()).map(|known| (span, known)),
            Err(error) => Err(error),
        };
        match planned {
            Ok((span, known)) => {
                let claim = self.claim.latest.as_ref().map_or("", Claim::text);
                log::info!(pod = self.record.sandbox.as_str(); "the deadline file says {claim}");
                self.announce(Extension { span, asker: Asker::Claim }, known);
            }
            Err(error) => {
                log::error!(pod = self.record.sandbox.as_str(); "cannot do as the deadline file says: {error}");
            }
        }
    }

    /// A time with what the file said last.
    ///
    /// # Errors
    /// The kernel doesn't say what time it is.
    pub(super) fn with_claim(&self, span: Span) -> Result<Span, Error> {
        let Some(claim) = &self.claim.latest else { return Ok(span) };
        let most = self.record.policy.timeout.max;
        let claimed = span.claimed(claim, Boottime::now(), most).map_err(Error::system(READING))?;
        Ok(claimed.unwrap_or(span))
    }

    /// Whether the pod's time is only how long it can wait for its own.
    pub(super) fn waits_for_claim(&self) -> bool {
        self.record.span.as_ref().is_some_and(|span| span.waits)
    }

    /// At the first workload's start.
    pub(super) fn warn_of_no_claim_file(&self) {
        let policy = self.record.pod_policy.as_ref();
        let path = policy.and_then(|policy| policy.deadline_file.as_ref());
        if let (Some(path), None) = (path, &self.claim.file) {
            log::warn!(
                pod = self.record.sandbox.as_str();
                "no container has a mount with the deadline file {}: unless a later one has, nothing sets the deadline",
                path.display()
            );
        }
    }
}

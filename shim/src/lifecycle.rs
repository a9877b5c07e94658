//! What a container may do when: a pure function from phase and trigger to the next phase and an effect.
//!
//! ```text
//!             CreateSucceeded        Start            StartSucceeded
//!  Creating ───────────────▶ Created ─────▶ Starting ───────────────▶ Running
//!     │ Kill                    │ Kill          │ StartFailed            │ Exited
//!     ▼                         ▼               ▼                        ▼
//!  CreatingKilled ─────────▶ Stopped ◀──────────┴────────────────────────┘
//!                               │ Delete              ▲ DeleteFailed
//!                               ▼                     │
//!                            Deleting ────────────────┘ DeleteSucceeded: gone
//!
//!  Running ──Pause──▶ Pausing ──▶ Paused ──Resume──▶ Resuming ──▶ Running, and from each of them to Stopped
//! ```
//! The pod task holds the phases and carries the effects out. Requests are refused here and nowhere else.

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// `runsc create` runs.
    Creating,
    /// `runsc create` runs, and a Kill waits for its outcome.
    CreatingKilled,
    /// The container is set up; its program hasn't started.
    Created,
    /// `runsc start` runs.
    Starting,
    /// The program runs.
    Running,
    /// The sandbox is being paused.
    Pausing,
    /// The sandbox is paused, and all of it with the program.
    Paused,
    /// The sandbox is being let go on.
    Resuming,
    /// The program has ended, or never started and never will.
    Stopped,
    /// What is left of the container is being removed.
    Deleting,
}

/// What happens to a container: a request, an outcome of runsc, or an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Trigger {
    Start,
    /// A request for a further process in the container.
    Exec,
    Kill,
    Pause,
    Resume,
    Delete,
    CreateSucceeded,
    CreateFailed,
    StartSucceeded,
    StartFailed,
    PauseSucceeded,
    PauseFailed,
    ResumeSucceeded,
    ResumeFailed,
    Exited,
    DeleteSucceeded,
    DeleteFailed,
}

/// What the pod task has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    /// Nothing more than the change of phase.
    None,
    /// Tell whoever asked for the container that it is there.
    AnnounceCreated,
    /// The container came to nothing: forget it and tell whoever asked.
    Forget,
    /// Run `runsc start`.
    RunStart,
    /// Take the exec down, to be started.
    AddExec,
    /// Publish the start, tell whoever asked, and apply an exit that came in between.
    AnnounceStarted,
    /// End what failed to start.
    EndFailedStart,
    /// Keep the exit until the outcome of `runsc start` is known: an exit follows its start.
    HoldExit,
    /// End a container whose program never ran, with 137.
    EndUnstarted,
    /// Deliver the signal.
    SendSignal,
    /// Deliver the signal to a sandbox that is paused: SIGKILL lands once it goes on.
    SendSignalPaused,
    /// Pause the sandbox.
    RunPause,
    /// Let the sandbox go on.
    RunResume,
    /// Publish that it is paused and tell whoever asked.
    AnnouncePaused,
    /// Publish that it goes on and tell whoever asked.
    AnnounceResumed,
    /// Tell whoever asked that it failed.
    ReportPauseFailed,
    /// Record and publish the exit.
    RecordExit,
    /// End the container if it lives, and remove what is left of it.
    RunDelete,
    /// Wait for the removal that is under way.
    JoinDelete,
    /// Remove the container from the pod and answer.
    AnnounceDeleted,
    /// Answer that the removal failed; it can be asked for again.
    ReportDeleteFailed,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// Not in this phase.
    Precondition,
    /// What the request is about is no longer there.
    NotFound,
    /// An outcome that cannot come in this phase: a fault of ours.
    Unexpected,
}

/// The next phase and what has to be done, or why not.
pub(crate) fn next(phase: Phase, trigger: Trigger) -> Result<(Phase, Effect), Refusal> {
    use Phase as P;
    match trigger {
        Trigger::Start => match phase {
            P::Created => Ok((P::Starting, Effect::RunStart)),
            P::Deleting => Err(Refusal::NotFound),
            P::Creating | P::CreatingKilled | P::Starting | P::Running | P::Stopped => {
                Err(Refusal::Precondition)
            }
            P::Pausing | P::Paused | P::Resuming => Err(Refusal::Precondition),
        },
        Trigger::Exec => match phase {
            P::Running => Ok((P::Running, Effect::AddExec)),
            P::Creating | P::CreatingKilled | P::Created | P::Starting => Err(Refusal::Precondition),
            P::Pausing | P::Paused | P::Resuming => Err(Refusal::Precondition),
            P::Stopped | P::Deleting => Err(Refusal::NotFound),
        },
        Trigger::Kill => match phase {
            // Answered once the container is created and ended.
            P::Creating | P::CreatingKilled => Ok((P::CreatingKilled, Effect::None)),
            P::Created => Ok((P::Created, Effect::EndUnstarted)),
            P::Starting | P::Running => Ok((phase, Effect::SendSignal)),
            P::Pausing | P::Paused | P::Resuming => Ok((phase, Effect::SendSignalPaused)),
            P::Stopped | P::Deleting => Err(Refusal::NotFound),
        },
        Trigger::Delete => match phase {
            P::Creating | P::CreatingKilled | P::Starting | P::Running => Err(Refusal::Precondition),
            P::Pausing | P::Paused | P::Resuming => Err(Refusal::Precondition),
            P::Created | P::Stopped => Ok((P::Deleting, Effect::RunDelete)),
            P::Deleting => Ok((P::Deleting, Effect::JoinDelete)),
        },
        Trigger::CreateSucceeded | Trigger::CreateFailed => created(phase, trigger),
        Trigger::StartSucceeded | Trigger::StartFailed => match (phase, trigger) {
            (P::Starting, Trigger::StartSucceeded) => Ok((P::Running, Effect::AnnounceStarted)),
            (P::Starting, _) => Ok((P::Stopped, Effect::EndFailedStart)),
            _ => Err(Refusal::Unexpected),
        },
        Trigger::Pause | Trigger::Resume => pause_or_resume(phase, trigger),
        Trigger::PauseSucceeded | Trigger::PauseFailed => match (phase, trigger) {
            (P::Pausing, Trigger::PauseSucceeded) => Ok((P::Paused, Effect::AnnouncePaused)),
            (P::Pausing, _) => Ok((P::Running, Effect::ReportPauseFailed)),
            _ => overtaken(phase),
        },
        Trigger::ResumeSucceeded | Trigger::ResumeFailed => match (phase, trigger) {
            (P::Resuming, Trigger::ResumeSucceeded) => Ok((P::Running, Effect::AnnounceResumed)),
            (P::Resuming, _) => Ok((P::Paused, Effect::ReportPauseFailed)),
            _ => overtaken(phase),
        },
        Trigger::Exited => match phase {
            P::Created | P::Running | P::Pausing | P::Paused | P::Resuming => {
                Ok((P::Stopped, Effect::RecordExit))
            }
            P::Starting => Ok((P::Starting, Effect::HoldExit)),
            // Being created, it fails by itself; an exit that is recorded stays as it is.
            P::Creating | P::CreatingKilled | P::Stopped | P::Deleting => Ok((phase, Effect::None)),
        },
        Trigger::DeleteSucceeded | Trigger::DeleteFailed => deleted(phase, trigger),
    }
}

fn deleted(phase: Phase, trigger: Trigger) -> Result<(Phase, Effect), Refusal> {
    match (phase, trigger) {
        (Phase::Deleting, Trigger::DeleteSucceeded) => Ok((Phase::Deleting, Effect::AnnounceDeleted)),
        (Phase::Deleting, _) => Ok((Phase::Stopped, Effect::ReportDeleteFailed)),
        _ => Err(Refusal::Unexpected),
    }
}

fn pause_or_resume(phase: Phase, trigger: Trigger) -> Result<(Phase, Effect), Refusal> {
    match (phase, trigger) {
        (Phase::Running, Trigger::Pause) => Ok((Phase::Pausing, Effect::RunPause)),
        (Phase::Paused, Trigger::Resume) => Ok((Phase::Resuming, Effect::RunResume)),
        (Phase::Deleting, _) => Err(Refusal::NotFound),
        _ => Err(Refusal::Precondition),
    }
}

/// The program ended before the outcome of a pause or a resume came: an exit always wins.
fn overtaken(phase: Phase) -> Result<(Phase, Effect), Refusal> {
    match phase {
        Phase::Stopped | Phase::Deleting => Ok((phase, Effect::ReportPauseFailed)),
        Phase::Creating | Phase::CreatingKilled | Phase::Created | Phase::Starting => {
            Err(Refusal::Unexpected)
        }
        Phase::Running | Phase::Pausing | Phase::Paused | Phase::Resuming => Err(Refusal::Unexpected),
    }
}

fn created(phase: Phase, trigger: Trigger) -> Result<(Phase, Effect), Refusal> {
    let succeeded = trigger == Trigger::CreateSucceeded;
    match phase {
        Phase::Creating if succeeded => Ok((Phase::Created, Effect::AnnounceCreated)),
        Phase::CreatingKilled if succeeded => Ok((Phase::Created, Effect::EndUnstarted)),
        Phase::Creating | Phase::CreatingKilled => Ok((phase, Effect::Forget)),
        Phase::Created | Phase::Starting | Phase::Running | Phase::Stopped | Phase::Deleting => {
            Err(Refusal::Unexpected)
        }
        Phase::Pausing | Phase::Paused | Phase::Resuming => Err(Refusal::Unexpected),
    }
}

#[cfg(test)]
mod tests;

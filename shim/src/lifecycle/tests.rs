use super::{Effect as E, Phase as P, Refusal as R, Trigger as T, *};

const PHASES: [P; 10] = [
    P::Creating,
    P::CreatingKilled,
    P::Created,
    P::Starting,
    P::Running,
    P::Pausing,
    P::Paused,
    P::Resuming,
    P::Stopped,
    P::Deleting,
];

const TRIGGERS: [T; 17] = [
    T::Start,
    T::Exec,
    T::Kill,
    T::Pause,
    T::Resume,
    T::Delete,
    T::CreateSucceeded,
    T::CreateFailed,
    T::StartSucceeded,
    T::StartFailed,
    T::PauseSucceeded,
    T::PauseFailed,
    T::ResumeSucceeded,
    T::ResumeFailed,
    T::Exited,
    T::DeleteSucceeded,
    T::DeleteFailed,
];

/// Checks what `trigger` does in every phase, in the order of `PHASES`.
fn rule(trigger: T, expected: [Result<(P, E), R>; 10]) {
    for (phase, expected) in PHASES.into_iter().zip(expected) {
        assert_eq!(next(phase, trigger), expected, "{trigger:?} in {phase:?}");
    }
}

const PRECONDITION: Result<(P, E), R> = Err(R::Precondition);
const NOT_FOUND: Result<(P, E), R> = Err(R::NotFound);
const UNEXPECTED: Result<(P, E), R> = Err(R::Unexpected);

#[test]
fn only_a_created_container_can_be_started() {
    let started = Ok((P::Starting, E::RunStart));
    rule(
        T::Start,
        [
            PRECONDITION,
            PRECONDITION,
            started,
            PRECONDITION,
            PRECONDITION,
            PRECONDITION,
            PRECONDITION,
            PRECONDITION,
            PRECONDITION,
            NOT_FOUND,
        ],
    );
}

#[test]
fn only_a_running_container_takes_an_exec() {
    let added = Ok((P::Running, E::AddExec));
    rule(
        T::Exec,
        [
            PRECONDITION,
            PRECONDITION,
            PRECONDITION,
            PRECONDITION,
            added,
            PRECONDITION,
            PRECONDITION,
            PRECONDITION,
            NOT_FOUND,
            NOT_FOUND,
        ],
    );
}

#[test]
fn a_kill_is_remembered_ends_what_never_ran_and_does_not_find_what_has_ended() {
    let remembered = Ok((P::CreatingKilled, E::None));
    rule(
        T::Kill,
        [
            remembered,
            remembered,
            Ok((P::Created, E::EndUnstarted)),
            Ok((P::Starting, E::SendSignal)),
            Ok((P::Running, E::SendSignal)),
            Ok((P::Pausing, E::SendSignalPaused)),
            Ok((P::Paused, E::SendSignalPaused)),
            Ok((P::Resuming, E::SendSignalPaused)),
            NOT_FOUND,
            NOT_FOUND,
        ],
    );
}

#[test]
fn only_what_does_not_run_can_be_deleted_and_a_second_delete_joins_the_first() {
    let deleted = Ok((P::Deleting, E::RunDelete));
    let joined = Ok((P::Deleting, E::JoinDelete));
    rule(
        T::Delete,
        [
            PRECONDITION,
            PRECONDITION,
            deleted,
            PRECONDITION,
            PRECONDITION,
            PRECONDITION,
            PRECONDITION,
            PRECONDITION,
            deleted,
            joined,
        ],
    );
}

#[test]
fn a_kill_that_came_during_create_is_applied_at_its_end() {
    assert_eq!(next(P::Creating, T::CreateSucceeded), Ok((P::Created, E::AnnounceCreated)));
    assert_eq!(next(P::CreatingKilled, T::CreateSucceeded), Ok((P::Created, E::EndUnstarted)));
}

#[test]
fn a_failed_create_leaves_no_container() {
    let forgotten = |phase| Ok((phase, E::Forget));
    rule(
        T::CreateFailed,
        [
            forgotten(P::Creating),
            forgotten(P::CreatingKilled),
            UNEXPECTED,
            UNEXPECTED,
            UNEXPECTED,
            UNEXPECTED,
            UNEXPECTED,
            UNEXPECTED,
            UNEXPECTED,
            UNEXPECTED,
        ],
    );
}

#[test]
fn an_exit_waits_for_the_outcome_of_a_start() {
    rule(
        T::Exited,
        [
            Ok((P::Creating, E::None)),
            Ok((P::CreatingKilled, E::None)),
            Ok((P::Stopped, E::RecordExit)),
            Ok((P::Starting, E::HoldExit)),
            Ok((P::Stopped, E::RecordExit)),
            Ok((P::Stopped, E::RecordExit)),
            Ok((P::Stopped, E::RecordExit)),
            Ok((P::Stopped, E::RecordExit)),
            Ok((P::Stopped, E::None)),
            Ok((P::Deleting, E::None)),
        ],
    );
}

#[test]
fn a_failed_delete_can_be_asked_for_again() {
    assert_eq!(next(P::Deleting, T::DeleteFailed), Ok((P::Stopped, E::ReportDeleteFailed)));
    assert_eq!(next(P::Stopped, T::Delete), Ok((P::Deleting, E::RunDelete)));
}

#[test]
fn an_outcome_is_expected_only_where_its_call_runs() {
    for phase in PHASES {
        let starting = phase == P::Starting;
        assert_eq!(next(phase, T::StartSucceeded).is_ok(), starting, "{phase:?}");
        assert_eq!(next(phase, T::StartFailed).is_ok(), starting, "{phase:?}");
        let deleting = phase == P::Deleting;
        assert_eq!(next(phase, T::DeleteSucceeded).is_ok(), deleting, "{phase:?}");
        let creating = matches!(phase, P::Creating | P::CreatingKilled);
        assert_eq!(next(phase, T::CreateSucceeded).is_ok(), creating, "{phase:?}");
    }
}

#[test]
fn nothing_ever_runs_again_after_it_has_stopped() {
    let mut reached = vec![P::Stopped];
    for _ in 0..PHASES.len() {
        for phase in reached.clone() {
            for trigger in TRIGGERS {
                if let Ok((after, _)) = next(phase, trigger)
                    && !reached.contains(&after)
                {
                    reached.push(after);
                }
            }
        }
    }
    assert_eq!(reached, [P::Stopped, P::Deleting]);
}

#[test]
fn no_request_is_ever_answered_as_our_own_fault() {
    for phase in PHASES {
        for request in [T::Start, T::Exec, T::Kill, T::Pause, T::Resume, T::Delete] {
            assert_ne!(next(phase, request), UNEXPECTED, "{request:?} in {phase:?}");
        }
    }
}

#[test]
fn only_what_runs_is_paused_and_only_what_is_paused_goes_on() {
    for phase in PHASES {
        let refused = if phase == P::Deleting { NOT_FOUND } else { PRECONDITION };
        let pause = if phase == P::Running { Ok((P::Pausing, E::RunPause)) } else { refused };
        assert_eq!(next(phase, T::Pause), pause, "{phase:?}");
        let resume = if phase == P::Paused { Ok((P::Resuming, E::RunResume)) } else { refused };
        assert_eq!(next(phase, T::Resume), resume, "{phase:?}");
    }
    assert_eq!(next(P::Pausing, T::PauseSucceeded), Ok((P::Paused, E::AnnouncePaused)));
    assert_eq!(next(P::Pausing, T::PauseFailed), Ok((P::Running, E::ReportPauseFailed)));
    assert_eq!(next(P::Resuming, T::ResumeSucceeded), Ok((P::Running, E::AnnounceResumed)));
    assert_eq!(next(P::Resuming, T::ResumeFailed), Ok((P::Paused, E::ReportPauseFailed)));
}

#[test]
fn an_exit_wins_over_a_pause_that_is_under_way() {
    assert_eq!(next(P::Pausing, T::Exited), Ok((P::Stopped, E::RecordExit)));
    for outcome in [T::PauseSucceeded, T::PauseFailed, T::ResumeSucceeded, T::ResumeFailed] {
        assert_eq!(next(P::Stopped, outcome), Ok((P::Stopped, E::ReportPauseFailed)), "{outcome:?}");
    }
}

//! Why a request failed, and the one place that decides which code containerd sees.

use std::time::Duration;

use runsc_bridge::{IdError, Kind, RunscError};
use thiserror::Error;

use crate::{
    cgroup::CgroupPathError,
    confine::Refusal,
    deadline_file::DeadlineFileError,
    ledger::LedgerError,
    lifecycle::Phase,
    resources::ResourcesError,
    rootfs::RootfsError,
    spec::{SpecError, exec_process::ProcessError},
    stdio::error::StdioError,
};

/// The codes containerd tells apart. Never UNKNOWN: it means "task gone" to nobody and "retry" to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    DeadlineExceeded,
    Unavailable,
    Unimplemented,
    Internal,
}

/// A request that failed.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Id(#[from] IdError),
    #[error("bundle {0:?} is not an absolute path")]
    Bundle(String),
    #[error("signal {0} is not between 1 and 64")]
    Signal(u32),
    #[error("{what} {id:?} is unknown")]
    NotFound { what: &'static str, id: String },
    #[error("container {0:?} exists already")]
    AlreadyExists(String),
    #[error("container {id:?} is {phase:?}: {request} is not possible")]
    Phase { id: String, phase: Phase, request: &'static str },
    #[error("pod {pod:?} has used up its time of {limit}: nothing starts in it any more")]
    Expired { pod: String, limit: String },
    #[error("no workload of the pod has started, so its time doesn't run")]
    NotArmed,
    #[error("the pod's time is being extended already")]
    Extending,
    #[error("the pod has all the time that its class allows: {limit} from its beginning")]
    AtCeiling { limit: String },
    #[error(transparent)]
    DeadlineFile(#[from] DeadlineFileError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the watchdog doesn't answer within {limit:?}, and nothing runs without one")]
    NoWatchdog { limit: Duration },
    #[error("{key} = {uid:?}: a pod's UID is letters, digits and '-'")]
    BadPodUid { key: &'static str, uid: String },
    #[error("the ledger cannot be written within {limit:?}, and nothing runs without it")]
    SlowLedger { limit: Duration },
    #[error("the pod may use {budget} of CPU time, and this node doesn't count what it uses")]
    CpuNotCounted { budget: String },
    #[error(transparent)]
    Resources(#[from] ResourcesError),
    #[error("container {0:?} has no sandbox whose usage could be told")]
    NoUsage(String),
    #[error("checkpoint options of type {0:?} are not supported")]
    CheckpointOptions(String),
    #[error("checkpoint to {}: {reason}", path.display())]
    CheckpointImage { path: std::path::PathBuf, reason: std::io::Error },
    #[error("container {id:?} cannot be restored: {} is no checkpoint", path.display())]
    NoCheckpoint { id: String, path: std::path::PathBuf },
    #[error("container {0:?} has siblings that run: pausing would stop the whole pod")]
    Siblings(String),
    #[error("sandbox {0:?} doesn't run")]
    NoSandbox(String),
    #[error("cgroup {path:?} of container {id:?} has members already: a sandbox needs one of its own")]
    CgroupInUse { id: String, path: String },
    /// runsc takes an id for every container whose own begins with it, so it could delete the wrong one.
    #[error(
        "container {id:?} and container {other:?} of its pod: one's id begins with the other's, and runsc confuses them"
    )]
    AmbiguousId { id: String, other: String },
    #[error("exec {0:?} exists already")]
    ExecExists(String),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("exec process of type {0:?}: the type is {expected}", expected = crate::wire::request::PROCESS_TYPE)]
    ProcessType(String),
    #[error("a terminal of {0} characters a side is larger than {max}", max = u16::MAX)]
    TerminalSize(u32),
    #[error("{0:?} has no terminal")]
    NoTerminal(String),
    #[error(transparent)]
    CgroupPath(#[from] CgroupPathError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Refusal(#[from] Refusal),
    #[error(transparent)]
    Annotation(#[from] curfew_config::AnnotationError),
    #[error(transparent)]
    Stdio(#[from] StdioError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Runsc(#[from] RunscError),
    #[error("{doing}: {source}")]
    System { doing: &'static str, source: std::io::Error },
    #[error("{0}")]
    Internal(&'static str),
}

impl Error {
    /// A failed system call, with what it was for.
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { doing, source }
    }

    /// The code containerd gets.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Id(_)
            | Self::NoCheckpoint { .. }
            | Self::Bundle(_)
            | Self::CgroupPath(CgroupPathError::Malformed(_))
            | Self::Process(_)
            | Self::ProcessType(_)
            | Self::TerminalSize(_)
            | Self::Signal(_)
            | Self::Spec(_)
            | Self::BadPodUid { .. }
            | Self::Annotation(_) => Code::InvalidArgument,
            Self::DeadlineFile(_) => Code::FailedPrecondition,
            Self::Refusal(Refusal::Malformed { .. }) => Code::InvalidArgument,
            Self::Refusal(_) => Code::FailedPrecondition,
            Self::Stdio(StdioError::Unsupported { .. }) => Code::Unimplemented,
            Self::Stdio(StdioError::LoggerNotAllowed { .. }) => Code::FailedPrecondition,
            Self::Stdio(StdioError::Logger { source, .. })
                if source.kind() == std::io::ErrorKind::TimedOut =>
            {
                Code::DeadlineExceeded
            }
            Self::Stdio(StdioError::Pipe { .. }) => Code::Internal,
            Self::Stdio(_)
            | Self::Rootfs(RootfsError::Target { .. } | RootfsError::OptionsTooLong { .. }) => {
                Code::InvalidArgument
            }
            Self::CheckpointImage { reason, .. }
                if reason.kind() == std::io::ErrorKind::DirectoryNotEmpty =>
            {
                Code::AlreadyExists
            }
            Self::CheckpointOptions(_) | Self::CheckpointImage { .. } => Code::InvalidArgument,
            Self::NotFound { .. } => Code::NotFound,
            Self::AlreadyExists(_) | Self::ExecExists(_) => Code::AlreadyExists,
            Self::NoTerminal(_)
            | Self::Siblings(_)
            | Self::Phase { .. }
            | Self::Expired { .. }
            | Self::NotArmed
            | Self::CpuNotCounted { .. }
            | Self::AtCeiling { .. }
            | Self::Ledger(LedgerError::Expired { .. } | LedgerError::Unreadable { .. })
            | Self::NoSandbox(_)
            | Self::CgroupPath(CgroupPathError::NoSystemd { .. })
            | Self::AmbiguousId { .. }
            | Self::CgroupInUse { .. } => Code::FailedPrecondition,
            Self::Runsc(error) => code_of_runsc(error.kind),
            Self::Resources(error) => code_of_resources(error),
            Self::NoWatchdog { .. } | Self::SlowLedger { .. } | Self::Extending => Code::Unavailable,
            Self::NoUsage(_) => Code::FailedPrecondition,
            Self::Rootfs(_)
            | Self::System { .. }
            | Self::Internal(_)
            | Self::Ledger(LedgerError::Unwritable { .. }) => Code::Internal,
        }
    }
}

fn code_of_resources(error: &ResourcesError) -> Code {
    match error {
        ResourcesError::Type { .. } | ResourcesError::TooLong { .. } | ResourcesError::Malformed { .. } => {
            Code::InvalidArgument
        }
        ResourcesError::Value { .. } => Code::InvalidArgument,
        ResourcesError::BelowUsage { .. } | ResourcesError::NoController { .. } => Code::FailedPrecondition,
        ResourcesError::Read { .. } | ResourcesError::Write { .. } | ResourcesError::NotUndone { .. } => {
            Code::Internal
        }
    }
}

fn code_of_runsc(kind: Kind) -> Code {
    match kind {
        // The node is set up wrongly: asking again won't help until somebody changes that.
        Kind::BinaryMissing | Kind::NotExecutable | Kind::TooOld | Kind::NotRunsc | Kind::FlagNotAllowed => {
            Code::FailedPrecondition
        }
        Kind::NotStarted | Kind::OtherRunsc => Code::FailedPrecondition,
        Kind::TimedOut => Code::DeadlineExceeded,
        Kind::NoSuchContainer | Kind::NoSuchProcess => Code::NotFound,
        Kind::ProgramNotFound | Kind::BadSpec | Kind::OtherSpec => Code::InvalidArgument,
        Kind::SandboxGone => Code::Unavailable,
        Kind::UnknownMethod | Kind::Protocol | Kind::Failed => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_runscs_failures_has_its_code() {
        for (kind, code) in [
            (Kind::BinaryMissing, Code::FailedPrecondition),
            (Kind::NotExecutable, Code::FailedPrecondition),
            (Kind::TooOld, Code::FailedPrecondition),
            (Kind::NotRunsc, Code::FailedPrecondition),
            (Kind::FlagNotAllowed, Code::FailedPrecondition),
            (Kind::NotStarted, Code::FailedPrecondition),
            (Kind::TimedOut, Code::DeadlineExceeded),
            (Kind::NoSuchContainer, Code::NotFound),
            (Kind::NoSuchProcess, Code::NotFound),
            (Kind::ProgramNotFound, Code::InvalidArgument),
            (Kind::BadSpec, Code::InvalidArgument),
            (Kind::OtherRunsc, Code::FailedPrecondition),
            (Kind::OtherSpec, Code::InvalidArgument),
            (Kind::SandboxGone, Code::Unavailable),
            (Kind::UnknownMethod, Code::Internal),
            (Kind::Protocol, Code::Internal),
            (Kind::Failed, Code::Internal),
        ] {
            let error = Error::from(RunscError::new("create", "c", kind, "x"));
            assert_eq!(error.code(), code, "{kind:?}");
        }
    }

    #[test]
    fn bad_input_is_told_from_a_wrong_moment_and_from_our_own_fault() {
        let phase = Error::Phase { id: "c".into(), phase: Phase::Running, request: "Delete" };
        let stdio = StdioError::NotAbsolute { stream: "stdin", path: "x".into() };
        let scheme = StdioError::Unsupported { stream: "stdin", uri: "binary:///x".into() };
        for (error, code) in [
            (Error::Signal(65), Code::InvalidArgument),
            (Error::Id(IdError::Empty { what: "id" }), Code::InvalidArgument),
            (Error::NotFound { what: "container", id: "c".into() }, Code::NotFound),
            (Error::AlreadyExists("c".into()), Code::AlreadyExists),
            (phase, Code::FailedPrecondition),
            (Error::Expired { pod: "p".into(), limit: "1s".into() }, Code::FailedPrecondition),
            (Error::NoSandbox("s".into()), Code::FailedPrecondition),
            (Error::Stdio(stdio), Code::InvalidArgument),
            (Error::Stdio(scheme), Code::Unimplemented),
            (Error::Internal("x"), Code::Internal),
        ] {
            assert_eq!(error.code(), code, "{error}");
        }
    }
}

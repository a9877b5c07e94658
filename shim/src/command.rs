//! What containerd may ask of a pod, in our own words.
//!
//! `wire` turns requests into these, and nothing else in the shim sees a protobuf message.

use std::{path::PathBuf, time::Duration};

use runsc_bridge::{ContainerId, ExecId};

use crate::{
    process::Exit, resources::Resources, rootfs::RootfsMount, spec::TerminalSize, stdio::StdioPaths,
};

/// A process that containerd knows: a container's init, or one of its execs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) container: ContainerId,
    pub(crate) exec: Option<ExecId>,
}

/// A request that changes something. The pod task carries it out, whether or not the caller waits for the answer.
#[derive(Debug)]
pub(crate) enum Command {
    Create(Create),
    Exec(Exec),
    Start {
        id: ProcessId,
    },
    Kill {
        id: ProcessId,
        signal: Signal,
        all: bool,
    },
    Delete {
        id: ProcessId,
    },
    CloseStdin {
        id: ProcessId,
    },
    Resize {
        id: ProcessId,
        size: TerminalSize,
    },
    Checkpoint(Checkpoint),
    Update {
        id: ContainerId,
        resources: Resources,
    },
    Pause {
        id: ContainerId,
    },
    Resume {
        id: ContainerId,
    },
    Shutdown,
    /// More time for the pod.
    Extend {
        by: Duration,
    },
    /// The pod's end, whatever runs in it.
    End,
}

/// A container's sandbox to be written to disk.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) id: ContainerId,
    pub(crate) image: PathBuf,
    /// Whether the container ends with it.
    pub(crate) exit: bool,
}

/// A further process for a running container.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) container: ContainerId,
    pub(crate) id: ExecId,
    /// The OCI process, as JSON.
    pub(crate) process: Vec<u8>,
    pub(crate) stdio: StdioPaths,
    pub(crate) terminal: bool,
}

/// A container to create.
#[derive(Debug)]
pub(crate) struct Create {
    pub(crate) id: ContainerId,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: Vec<RootfsMount>,
    pub(crate) stdio: StdioPaths,
    pub(crate) terminal: bool,
    /// The checkpoint from which the container is to start.
    pub(crate) restore_from: Option<PathBuf>,
}

/// A signal number that exists: 1 to 64, real-time signals included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signal(i32);

impl Signal {
    pub(crate) const TERM: Self = Self(libc::SIGTERM);
    pub(crate) const KILL: Self = Self(libc::SIGKILL);

    /// Checks a number from outside.
    pub(crate) fn new(number: u32) -> Result<Self, crate::error::Error> {
        match i32::try_from(number) {
            Ok(signal) if (1..=64).contains(&signal) => Ok(Self(signal)),
            _ => Err(crate::error::Error::Signal(number)),
        }
    }

    pub(crate) fn number(self) -> i32 {
        self.0
    }
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Done; there is nothing to say.
    Done,
    /// The host pid that stands for the container.
    Pid(u32),
    /// The container is gone; how it had ended.
    Deleted { pid: u32, exit: Exit },
    /// The time that the pod has from its beginning, and whether that is less than was asked for.
    Extended { limit: Duration, clamped: bool },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_number_from_1_to_64() {
        for bad in [0, 65, 1 << 31, u32::MAX] {
            assert!(Signal::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Signal::new(64).unwrap().number(), 64);
    }
}

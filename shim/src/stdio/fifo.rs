//! containerd's FIFOs, handed to the sandbox as they are: the shim copies nothing, unless the node limits the output.
//!
//! Each FIFO is opened twice. The *keeper*, read-write, holds it open so that a containerd restart breaks no writer and
//! no reader sees an early end. The *guest's end* is a description of its own, one way only, and blocking: the guest
//! sees O_NONBLOCK, and a `cat` dies of it.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::pipe2,
};
use runsc_bridge::{ChildExits, GuestStdio};
use tokio::sync::watch;

use super::{
    StdioPaths,
    budget::{OutputBudget, gate},
    console::Console,
    copier::{Sink, copy},
    ending::Ending,
    error::StdioError,
    logger::{LoggedProcess, LoggerPipes, LoggerProgram, RunningLogger},
    open::{fifo_path, open_fifo, open_file_at},
    release::release,
};
use crate::watched::watch as watched;

/// The open streams of one container.
#[derive(Debug, Default)]
pub(crate) struct ContainerStdio {
    guest: GuestStdio,
    keepers: [Option<OwnedFd>; 3],
    console: Option<Console>,
    /// Says to the copies into files that the program has ended.
    copies_ended: Option<watch::Sender<bool>>,
    copies: Vec<Ending>,
    /// To be started before the container is.
    logger: Option<LoggerProgram>,
    running_logger: Option<RunningLogger>,
    /// Of the output, if it has one.
    budget: Option<Arc<OutputBudget>>,
}

impl ContainerStdio {
    /// Opens what `paths` names.
    ///
    /// # Errors
    /// [`StdioError`] names the stream and its path.
    pub(crate) fn open(paths: &StdioPaths, budget: Option<Arc<OutputBudget>>) -> Result<Self, StdioError> {
        let mut stdio = Self { logger: LoggerProgram::of(paths)?, budget, ..Self::default() };
        let broken = |source| StdioError::Pipe { source };
        let streams = [
            ("stdin", &paths.stdin, OFlag::O_RDONLY),
            ("stdout", &paths.stdout, OFlag::O_WRONLY),
            ("stderr", &paths.stderr, OFlag::O_WRONLY),
        ];
        for (index, (stream, path, direction)) in streams.into_iter().enumerate() {
            if path.is_empty() || (index > 0 && stdio.logger.is_some()) {
                continue;
            }
            if index > 0
                && let Some(file) = open_file_at(stream, path)?
            {
                stdio.guest.0[index] = Some(stdio.copy_to(Sink::File(Arc::new(file))).map_err(broken)?);
                continue;
            }
            let path = fifo_path(stream, path)?;
            let keeper = open_fifo(stream, path, OFlag::O_RDWR)?;
            if index > 0 && stdio.budget.is_some() {
                let sink = Sink::Fifo(Arc::new(watched(keeper).map_err(broken)?));
                stdio.guest.0[index] = Some(stdio.copy_to(sink).map_err(broken)?);
                continue;
            }
            // Cannot block: the keeper is the other end.
            let guest = open_fifo(stream, path, direction)?;
            let open_error =
                |e: nix::Error| StdioError::Open { stream, path: path.to_owned(), source: e.into() };
            fcntl(&guest, FcntlArg::F_SETFL(direction)).map_err(open_error)?;
            stdio.keepers[index] = Some(keeper);
            stdio.guest.0[index] = Some(guest);
        }
        Ok(stdio)
    }

    /// A guest's end whose output is copied: to a file, which the guest must not have itself, since it could change its
    /// length and content, or counted.
    fn copy_to(&mut self, sink: Sink) -> io::Result<OwnedFd> {
        let (ours, guest) = pipe2(OFlag::O_CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let source = Arc::new(watched(ours)?);
        let ended = self.copies_ended.get_or_insert_with(|| watch::Sender::new(false)).subscribe();
        let to_file = matches!(sink, Sink::File(_));
        let copying = tokio::spawn(copy(source, sink, ended, gate(self.budget.clone())));
        self.copies.push(Ending::of_copy(copying, to_file));
        Ok(guest)
    }

    /// Starts the logger, if there is one, and connects the container with it.
    ///
    /// # Errors
    /// [`StdioError::Logger`]; then it doesn't run.
    pub(crate) async fn start_logger(
        &mut self,
        process: &LoggedProcess,
        exits: &dyn ChildExits,
    ) -> Result<(), StdioError> {
        let Some(program) = self.logger.take() else { return Ok(()) };
        let (LoggerPipes { stdout, stderr }, running) = program.start(process, exits).await?.split();
        self.running_logger = Some(running);
        match &mut self.console {
            Some(console) => console.log_to(stdout),
            None => {
                for (index, pipe) in [(1, stdout), (2, stderr)] {
                    let counted =
                        self.count_on_the_way(pipe).map_err(|source| StdioError::Pipe { source })?;
                    self.guest.0[index] = Some(counted);
                }
            }
        }
        Ok(())
    }

    /// The guest's end of a logger's pipe: that itself, or where output is limited, one that is copied to it.
    fn count_on_the_way(&mut self, pipe: OwnedFd) -> io::Result<OwnedFd> {
        if self.budget.is_none() {
            return Ok(pipe);
        }
        rustix::io::ioctl_fionbio(&pipe, true)?;
        self.copy_to(Sink::Watched(Arc::new(watched(pipe)?)))
    }

    /// The program has ended: what is in its pipes is still copied, then everything closes. Returns what that
    /// takes.
    pub(crate) fn finish(self) -> Vec<Ending> {
        let [_, stdout, stderr] = self.keepers;
        [stdout, stderr].into_iter().flatten().for_each(release);
        if let Some(ended) = &self.copies_ended {
            ended.send_replace(true);
        }
        self.copies.into_iter().chain(self.running_logger.map(RunningLogger::finish)).collect()
    }

    /// Opens what `paths` names for a container with a terminal, which runsc sends to `socket`.
    ///
    /// # Errors
    /// [`StdioError`] names the stream and its path.
    pub(crate) fn open_terminal(
        paths: &StdioPaths,
        socket: PathBuf,
        budget: Option<Arc<OutputBudget>>,
    ) -> Result<Self, StdioError> {
        let logger = LoggerProgram::of(paths)?;
        let mut console = Console::open(paths, socket)?;
        if let Some(budget) = budget {
            console.limit_to(budget);
        }
        Ok(Self { console: Some(console), logger, ..Self::default() })
    }

    /// Where runsc sends the terminal to.
    pub(crate) fn console_socket(&self) -> Option<&Path> {
        self.console.as_ref().map(Console::path)
    }

    /// The terminal to come, once.
    pub(crate) fn take_console(&mut self) -> Option<Console> {
        self.console.take()
    }

    /// What the sandbox gets.
    pub(crate) fn guest(&self) -> &GuestStdio {
        &self.guest
    }

    /// Lets go of the keeper of stdin: once every writer has gone, the guest sees the end after what was written.
    pub(crate) fn close_stdin(&mut self) {
        self.keepers[0] = None;
    }

    /// Lets go of the guest's ends, once `runsc start` has returned and the sandbox holds its own.
    pub(crate) fn release_guest_ends(&mut self) {
        self.guest = GuestStdio::default();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::fs::symlink,
    };

    use nix::sys::stat::Mode;

    use super::*;

    fn with_stdout(path: impl Into<String>) -> StdioPaths {
        StdioPaths { stdout: path.into(), ..StdioPaths::default() }
    }

    fn fifo_in(dir: &Path) -> PathBuf {
        let path = dir.join("out");
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        path
    }

    #[test]
    fn a_directory_a_link_and_a_regular_file_are_no_fifos() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo_in(dir.path());
        symlink(&fifo, dir.path().join("link")).unwrap();
        crate::durable::replace(&dir.path().join("file"), b"").unwrap();
        for name in ["", "link", "file"] {
            let path = dir.path().join(name).display().to_string();
            let result = ContainerStdio::open(&with_stdout(path.clone()), None);
            assert!(matches!(result, Err(StdioError::NotFifo { .. })), "{path}: {result:?}");
        }
    }

    #[test]
    fn a_missing_path_a_relative_one_and_another_scheme_are_refused() {
        let open = |path: &str| ContainerStdio::open(&with_stdout(path), None).unwrap_err();
        assert!(matches!(open("/nonexistent/out"), StdioError::Open { .. }));
        assert!(matches!(open("out"), StdioError::NotAbsolute { .. }));
        assert!(matches!(open("https://x/y"), StdioError::Unsupported { .. }));
        let stderr = StdioPaths { stderr: "binary:///bin/sh".into(), ..StdioPaths::default() };
        assert!(matches!(ContainerStdio::open(&stderr, None), Err(StdioError::Unsupported { .. })));
    }

    #[test]
    fn the_guests_end_is_blocking_and_one_way() {
        let dir = tempfile::tempdir().unwrap();
        let stdio =
            ContainerStdio::open(&with_stdout(fifo_in(dir.path()).display().to_string()), None).unwrap();
        let guest = stdio.guest.0[1].as_ref().unwrap();
        let flags = OFlag::from_bits_truncate(fcntl(guest, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK));
        assert_eq!(flags & OFlag::O_ACCMODE, OFlag::O_WRONLY);
    }

    #[test]
    fn a_reader_sees_the_end_when_the_keeper_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo_in(dir.path());
        let stdio = ContainerStdio::open(&with_stdout(path.display().to_string()), None).unwrap();
        let mut reader = std::fs::File::open(&path).unwrap();
        let guest = stdio.guest.0[1].as_ref().unwrap().try_clone().unwrap();
        std::fs::File::from(guest).write_all(b"hello").unwrap();
        drop(stdio);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}

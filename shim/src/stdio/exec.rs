//! An exec's streams: pipes or a terminal for the sandbox, and copies to and from containerd's FIFOs.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::{fcntl::OFlag, unistd::pipe2};
use tokio::sync::watch;

use super::{
    StdioPaths,
    budget::{OutputBudget, gate},
    copier::{Sink, copy, forward},
    ending::Ending,
    error::StdioError,
    logger::{LoggerPipes, RunningLogger},
    open::{TERMINAL_STDIN, open_fifo_at, open_file_at},
    terminal::Terminal,
};
use crate::watched::watch as watched;

/// What execs have been given to read, in bytes. A shim has one pod.
static INPUT: AtomicU64 = AtomicU64::new(0);

/// How many execs have been given their streams.
static EXECS: AtomicU64 = AtomicU64::new(0);

/// How many execs the pod has had so far.
pub(crate) fn execs_so_far() -> u64 {
    EXECS.load(Ordering::Relaxed)
}

/// What the pod's execs, and terminals, have been given to read so far, in bytes.
pub(crate) fn input_so_far() -> u64 {
    INPUT.load(Ordering::Relaxed)
}

/// Where an output goes.
#[derive(Debug)]
pub(super) enum Output {
    /// Opened both ways, so that a containerd that restarts breaks no pipe.
    Fifo(OwnedFd),
    File(File),
    /// A pipe of which a logger has the other end.
    Logger(OwnedFd),
}

impl Output {
    pub(super) fn open(stream: &'static str, path: &str) -> Result<Option<Self>, StdioError> {
        match open_file_at(stream, path)? {
            Some(file) => Ok(Some(Self::File(file))),
            None => Ok(open_fifo_at(stream, path, OFlag::O_RDWR)?.map(Self::Fifo)),
        }
    }

    fn sink(self) -> io::Result<Sink> {
        Ok(match self {
            Self::Fifo(fifo) => Sink::Fifo(Arc::new(watched(fifo)?)),
            Self::File(file) => Sink::File(Arc::new(file)),
            Self::Logger(pipe) => Sink::Watched(Arc::new(watched(nonblocking(pipe)?)?)),
        })
    }
}

/// Streams that are open and not copied yet.
pub(crate) struct ExecStdio {
    /// What the sandbox gets copies of.
    pub(crate) guest: [OwnedFd; 3],
    input: Option<(OwnedFd, OwnedFd)>,
    outputs: Vec<(OwnedFd, Output)>,
    terminal: Option<Terminal>,
    /// Of the output, if it has one.
    budget: Option<Arc<OutputBudget>>,
}

/// The copies of a running exec. Dropped, they end at once.
#[derive(Debug)]
pub(crate) struct ExecStreams {
    ended: watch::Sender<bool>,
    stdin_closed: watch::Sender<bool>,
    terminal: Option<Terminal>,
    logger: Option<RunningLogger>,
    outputs: Vec<Ending>,
}

impl ExecStdio {
    /// Opens containerd's FIFOs and makes the pipes, or the terminal, for the sandbox. A terminal has one output: CRI
    /// names a stderr for it that never exists.
    ///
    /// # Errors
    /// [`StdioError`] names the stream.
    pub(crate) fn open(
        paths: &StdioPaths,
        terminal: bool,
        logger: Option<LoggerPipes>,
    ) -> Result<Self, StdioError> {
        // Without a keeper, but for a terminal: once a writer has been there, the last one's end is the end of input.
        let direction = if terminal { TERMINAL_STDIN } else { OFlag::O_RDONLY };
        let stdin = open_fifo_at("stdin", &paths.stdin, direction)?;
        let outputs = match logger {
            Some(pipes) => [Some(Output::Logger(pipes.stdout)), Some(Output::Logger(pipes.stderr))],
            None if terminal => [Output::open("stdout", &paths.stdout)?, None],
            None => [Output::open("stdout", &paths.stdout)?, Output::open("stderr", &paths.stderr)?],
        };
        let opened = match outputs {
            [stdout, _] if terminal => Self::with_terminal(stdin, stdout),
            outputs => Self::with_pipes(stdin, outputs),
        };
        opened.map_err(|source| StdioError::Pipe { source })
    }

    fn with_pipes(stdin: Option<OwnedFd>, sinks: [Option<Output>; 2]) -> io::Result<Self> {
        let (guest_stdin, input) = match stdin {
            None => (null()?, None),
            Some(fifo) => {
                let (guest, ours) = pipe2(OFlag::O_CLOEXEC)?;
                (guest, Some((fifo, nonblocking(ours)?)))
            }
        };
        let mut outputs = Vec::new();
        let mut guest_output = |sink: Option<Output>| -> io::Result<OwnedFd> {
            let Some(output) = sink else { return null() };
            let (ours, guest) = pipe2(OFlag::O_CLOEXEC)?;
            outputs.push((nonblocking(ours)?, output));
            Ok(guest)
        };
        let [stdout, stderr] = sinks;
        let guest = [guest_stdin, guest_output(stdout)?, guest_output(stderr)?];
        Ok(Self { guest, input, outputs, terminal: None, budget: None })
    }

    fn with_terminal(stdin: Option<OwnedFd>, stdout: Option<Output>) -> io::Result<Self> {
        let (terminal, guest) = Terminal::open()?;
        let guest = [guest.try_clone()?, guest.try_clone()?, guest];
        Self::of_terminal(terminal, guest, stdin, stdout)
    }

    /// Copies for a terminal of which the sandbox has the inner side already.
    pub(super) fn of_received(
        terminal: Terminal,
        stdin: Option<OwnedFd>,
        stdout: Option<Output>,
    ) -> io::Result<Self> {
        let guest = [null()?, null()?, null()?];
        Self::of_terminal(terminal, guest, stdin, stdout)
    }

    fn of_terminal(
        terminal: Terminal,
        guest: [OwnedFd; 3],
        stdin: Option<OwnedFd>,
        stdout: Option<Output>,
    ) -> io::Result<Self> {
        let master = || terminal.master().try_clone();
        let input = stdin.map(|fifo| Ok::<_, io::Error>((fifo, master()?))).transpose()?;
        let outputs =
            stdout.map(|output| Ok::<_, io::Error>((master()?, output))).transpose()?.into_iter().collect();
        Ok(Self { guest, input, outputs, terminal: Some(terminal), budget: None })
    }

    /// Has the output limited.
    pub(super) fn with_budget(mut self, budget: Option<Arc<OutputBudget>>) -> Self {
        self.budget = budget;
        self
    }

    /// The terminal, if it is one.
    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    /// Lets go of the guest's ends, which the sandbox has copies of, and starts to copy. What a terminal's input asks
    /// for, such as an interrupt, is told to `on_signal`.
    ///
    /// # Errors
    /// A descriptor cannot be watched.
    pub(crate) fn start(self, on_signal: impl Fn(i32) + Send + 'static) -> io::Result<ExecStreams> {
        EXECS.fetch_add(1, Ordering::Relaxed);
        let (ended, ended_receiver) = watch::channel(false);
        let (stdin_closed, stdin_receiver) = watch::channel(false);
        drop(self.guest);
        let mut outputs = Vec::new();
        for (source, sink) in self.outputs {
            let (source, ended) = (Arc::new(watched(source)?), ended_receiver.clone());
            let sink = sink.sink()?;
            let to_file = matches!(sink, Sink::File(_));
            let task = match sink {
                // A terminal's outer side is no pipe.
                Sink::Fifo(fifo) if self.terminal.is_none() => tokio::spawn(forward(source, fifo, ended)),
                sink @ (Sink::Watched(_) | Sink::Fifo(_) | Sink::File(_)) => {
                    tokio::spawn(copy(source, sink, ended, gate(self.budget.clone())))
                }
            };
            outputs.push(Ending::of_copy(task, to_file));
        }
        if let Some((source, sink)) = self.input {
            let source = Arc::new(watched(source)?);
            let sink = Sink::Watched(Arc::new(watched(sink)?));
            let terminal = self.terminal.clone();
            let watcher = move |bytes: &[u8]| {
                INPUT.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                if let Some(terminal) = &terminal {
                    terminal.signals_in(bytes).for_each(&on_signal);
                }
                bytes.len()
            };
            tokio::spawn(copy(source, sink, stdin_receiver, watcher));
        }
        Ok(ExecStreams { ended, stdin_closed, terminal: self.terminal, logger: None, outputs })
    }
}

impl ExecStreams {
    /// Has the logger that is written to end with the copies.
    pub(crate) fn keep_logger(&mut self, logger: RunningLogger) {
        self.logger = Some(logger);
    }

    /// The process has ended: what is in its pipes is still copied, then the FIFOs close. Returns what that takes.
    pub(crate) fn finish(self) -> Vec<Ending> {
        self.ended.send_replace(true);
        self.outputs.into_iter().chain(self.logger.map(RunningLogger::finish)).collect()
    }

    /// containerd has closed stdin: what was written is still copied, then the process sees the end.
    pub(crate) fn close_stdin(&self) {
        self.stdin_closed.send_replace(true);
    }

    /// The terminal, if it is one.
    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }
}

fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

//! A process's stdin, stdout and stderr as containerd's clients make them: FIFOs,
//! read by a thread each until the last writer has closed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use nix::sys::stat::Mode;

/// How long the end of the output may take once a process has exited.
pub const EOF_LIMIT: Duration = Duration::from_secs(10);

/// What a process's stdio is connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Stdio {
    /// FIFOs for stdout and stderr, nothing for stdin: CRI's default.
    #[default]
    Fifos,
    /// FIFOs for all three.
    WithStdin,
    /// FIFOs for stdin and stdout, and a terminal between them.
    Terminal,
    /// Empty names: output is lost.
    None,
    /// These words as they are, for stdout and stderr: a URI, or something hostile.
    Path(String),
    /// A terminal whose output goes there.
    TerminalTo(String),
}

impl Stdio {
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal | Self::TerminalTo(_))
    }
}

/// The names that go into Create or Exec, and the readers behind them.
#[derive(Debug, Default)]
pub struct Streams {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
    input: Mutex<Option<File>>,
    out: Arc<Reader>,
    err: Arc<Reader>,
}

impl Streams {
    /// FIFOs in a directory that is made for them.
    pub(crate) fn make(stdio: &Stdio, dir: &Path) -> io::Result<Self> {
        let mut streams = Self::default();
        let (stdin, stderr) = match stdio {
            Stdio::None => return Ok(streams),
            Stdio::Path(words) => {
                streams.stdout.clone_from(words);
                streams.stderr.clone_from(words);
                return Ok(streams);
            }
            Stdio::TerminalTo(words) => {
                streams.stdout.clone_from(words);
                streams.terminal = true;
                return Ok(streams);
            }
            Stdio::Fifos => (false, true),
            Stdio::WithStdin => (true, true),
            Stdio::Terminal => (true, false),
        };
        std::fs::create_dir_all(dir)?;
        streams.terminal = !stderr;
        if stdin {
            streams.stdin = fifo(dir.join("in"))?;
        }
        streams.stdout = fifo(dir.join("out"))?;
        streams.out = Reader::start(&streams.stdout);
        if stderr {
            streams.stderr = fifo(dir.join("err"))?;
            streams.err = Reader::start(&streams.stderr);
        }
        Ok(streams)
    }

    /// Everything written to stdout, once its last writer has closed.
    #[track_caller]
    pub fn stdout(&self) -> String {
        text(self.out.whole("stdout"))
    }

    /// Everything written to stderr, once its last writer has closed.
    #[track_caller]
    pub fn stderr(&self) -> String {
        text(self.err.whole("stderr"))
    }

    /// As [`stdout`](Self::stdout), for what isn't text.
    #[track_caller]
    pub fn stdout_bytes(&self) -> Vec<u8> {
        self.out.whole("stdout")
    }

    /// What has come on stdout until now.
    pub fn stdout_so_far(&self) -> String {
        text(self.out.text())
    }

    /// Waits until stdout contains these words; the test fails if they don't come.
    #[track_caller]
    pub fn wait_for_output(&self, words: &str) {
        let found = |got: &Received| String::from_utf8_lossy(&got.bytes).contains(words);
        if !self.out.wait(EOF_LIMIT, |got| got.closed || found(got)) || !found(&self.out.lock()) {
            panic!("stdout never said {words:?}, only {:?}", self.stdout_so_far());
        }
    }

    /// Whether every writer of stdout has gone.
    pub fn stdout_is_closed(&self, limit: Duration) -> bool {
        self.out.wait(limit, |got| got.closed)
    }

    /// Writes to stdin, waiting for the other side to open it.
    #[track_caller]
    pub fn write_stdin(&self, bytes: &[u8]) {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        if input.is_none() {
            let opened = crate::rpc::poll(Duration::from_secs(5), || open_writer(&self.stdin).ok());
            *input = opened;
        }
        match input.as_mut().map(|input| input.write_all(bytes)) {
            Some(Ok(())) => {}
            Some(Err(error)) => panic!("failed to write to stdin: {error}"),
            None => panic!("nobody opened stdin ({:?}) for reading", self.stdin),
        }
    }

    /// Closes our end of stdin, if it was ever opened.
    pub fn close_stdin(&self) {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Streams {
    /// Lets readers go that still wait for a first writer.
    fn drop(&mut self) {
        for path in [&self.stdout, &self.stderr] {
            if path.starts_with('/') {
                drop(OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path));
            }
        }
    }
}

fn fifo(path: PathBuf) -> io::Result<String> {
    nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    path.into_os_string().into_string().map_err(|_| io::Error::other("the directory's name is not UTF-8"))
}

/// A blocking writer; fails at once while nobody reads.
fn open_writer(path: &str) -> io::Result<File> {
    // Held open, this keeps the reader that was found from being the last.
    let probe = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path)?;
    let writer = OpenOptions::new().write(true).open(path)?;
    drop(probe);
    Ok(writer)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Debug, Default)]
struct Reader {
    received: Mutex<Received>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
    closed: bool,
}

impl Reader {
    fn start(path: &str) -> Arc<Self> {
        let reader = Arc::new(Self::default());
        let (to, path) = (Arc::clone(&reader), path.to_owned());
        std::thread::spawn(move || {
            // Waits for the first writer, as containerd's own clients do.
            if let Ok(mut fifo) = File::open(path) {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(n @ 1..) = fifo.read(&mut buffer) {
                    to.lock().bytes.extend_from_slice(&buffer[..n]);
                    to.changed.notify_all();
                }
            }
            to.lock().closed = true;
            to.changed.notify_all();
        });
        reader
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until that is so; false if the limit passed first.
    fn wait(&self, limit: Duration, is_so: impl Fn(&Received) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut received = self.lock();
        while !is_so(&received) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(received, left);
            received = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    #[track_caller]
    fn whole(&self, name: &str) -> Vec<u8> {
        if !self.wait(EOF_LIMIT, |got| got.closed) {
            let tail = text(self.text());
            panic!("somebody still holds {name} open after {EOF_LIMIT:?}; it said {tail:?}");
        }
        self.text()
    }

    fn text(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }
}

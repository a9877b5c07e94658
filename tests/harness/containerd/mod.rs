//! A private containerd: its own directory, sockets, namespace and configuration.

mod config;
mod daemon;
mod restart;

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use containerd_client::Client;
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Request, Response, Status};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use crate::rpc::{CALL_LIMIT, RpcError, Wire};
use crate::{Runtime, janitor, version};

/// The name of the socket at which shims deliver events.
const EVENTS: &str = "c.sock.ttrpc";

/// How a private containerd is to be. Without more it is the pinned one, as users have it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which of those in the cache.
    pub version: String,
    /// containerd's debug level, which it passes on to shims.
    pub debug: bool,
    /// More lines for containerd's own configuration.
    pub config: String,
    /// Keys of the class file (Curfew's configuration) that differ from the harness's.
    pub class: String,
    /// The node's own file, Curfew's base configuration. Where it isn't empty, containerd and its shims have a mount
    /// namespace in which it is the machine's, and the mounts that they make are seen only there.
    pub node: String,
    /// Directories before all others in containerd's PATH, for programs that stand in for runsc or runc.
    pub path: Vec<PathBuf>,
    /// Where snapshots are kept; `None` is overlayfs where that works and native elsewhere.
    pub snapshotter: Option<String>,
}

impl Options {
    /// A containerd of another version, one of those that `scripts/setup versions` obtains.
    pub fn on(version: &str) -> Self {
        Self { version: version.into(), ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: version::pin("CONTAINERD_VERSION").into(),
            debug: false,
            config: String::new(),
            class: String::new(),
            node: String::new(),
            path: Vec::new(),
            snapshotter: None,
        }
    }
}

/// A running containerd that only the test knows.
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    namespace: String,
    options: Options,
    snapshotter: String,
    process: Mutex<Option<Child>>,
    pub(crate) wire: Wire,
    channel: Mutex<Channel>,
    pub(crate) images: Mutex<Vec<(&'static str, String)>>,
    /// Held for life: a directory whose lock is free belongs to a test that was killed.
    _owner: Flock<File>,
}

impl Containerd {
    /// Starts one and waits until it answers.
    #[track_caller]
    pub fn start(options: Options) -> Arc<Self> {
        Self::try_start(options).unwrap_or_else(|error| panic!("failed to start containerd: {error}"))
    }

    fn try_start(options: Options) -> io::Result<Arc<Self>> {
        // Short, for the sake of socket paths; gone in `end`, after what lives in it has ended.
        let dir = tempfile::Builder::new()
            .prefix(janitor::PREFIX)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in("/tmp")?
            .keep();
        let owner = File::create(dir.join(janitor::OWNER))?;
        let owner = Flock::lock(owner, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e)?;
        let namespace = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for sub in ["root", "state", "temp", "s", "io", "run", "ledger", "bin"] {
            fs::create_dir(dir.join(sub))?;
            fs::set_permissions(dir.join(sub), fs::Permissions::from_mode(0o700))?;
        }
        fs::write(dir.join("containerd.toml"), config::containerd(&dir, &options, EVENTS))?;
        fs::write(dir.join("curfew.toml"), config::class(&dir, &options))?;

        let wire = Wire::start();
        let process = daemon::spawn(&wire, &dir, &options)?;
        let (client, process) = daemon::connect(&wire, &dir, process)?;
        let snapshotter = match &options.snapshotter {
            Some(name) => name.clone(),
            None if janitor::overlay_works(&dir) => "overlayfs".into(),
            None => "native".into(),
        };
        Ok(Arc::new(Self {
            dir,
            namespace,
            options,
            snapshotter,
            process: Mutex::new(Some(process)),
            wire,
            channel: Mutex::new(client.channel()),
            images: Mutex::default(),
            _owner: owner,
        }))
    }

    /// The directory with everything of this containerd and its test.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The containerd namespace, which is the directory's name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// The class file, which a test may rewrite.
    pub fn class_file(&self) -> PathBuf {
        self.dir.join("curfew.toml")
    }

    /// Curfew's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The bundle that containerd makes for a container.
    pub fn bundle(&self, container: &str) -> PathBuf {
        let bundles = self.dir.join("state/io.containerd.runtime.v2.task");
        bundles.join(&self.namespace).join(container)
    }

    /// containerd's log, into which it also copies what shims log.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.join("containerd.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The process, or `None` while it is stopped.
    pub fn pid(&self) -> Option<i32> {
        self.process().as_ref().map(pid_of)
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn client(&self) -> Client {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        Client::from(channel.clone())
    }

    /// A message with our namespace on it.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let namespace = self.namespace.parse().expect("a namespace is plain ASCII");
        request.metadata_mut().insert("containerd-namespace", namespace);
        request
    }

    /// The answer to a call within the usual limit.
    pub(crate) fn ask<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, RpcError> {
        self.wire.call(CALL_LIMIT, call)
    }

    /// A call of `ctr`, the newest, on this containerd.
    pub fn ctr<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> io::Result<std::process::Output> {
        Command::new(version::containerd(version::pin("CONTAINERD_VERSION")).join("ctr"))
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", &self.namespace])
            .args(args)
            .stdin(Stdio::null())
            .output()
    }

    /// How a runtime is named in a container's record.
    pub(crate) fn runtime_name(&self, runtime: Runtime) -> String {
        match runtime {
            Runtime::Runc => "io.containerd.runc.v2".into(),
            Runtime::Curfew => "io.containerd.curfew.v1".into(),
        }
    }
}

impl Drop for Containerd {
    /// Ends containerd and whatever of it is still there, and removes the directory.
    /// `CURFEW_KEEP=1` leaves the directory for a look at it.
    fn drop(&mut self) {
        self.stop(Signal::SIGTERM);
        janitor::end_all(&self.dir, &self.namespace);
        if std::env::var_os("CURFEW_KEEP").is_none() {
            janitor::remove(&self.dir);
        }
    }
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a pid fits")
}

//! runsc by command line: the verbs whose arguments change between releases.

mod args;
mod output;
pub(crate) mod spawn;

use std::{
    ffi::OsString,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

pub use args::{ALLOWED_FLAGS, Settings, SettingsInput};
use output::CallLog;

use crate::{ChildExits, ContainerId, Kind, RunscError, version::Version};

/// Where one sandbox's runsc keeps its things.
///
/// Each sandbox has a `--root` of its own: runsc looks ids up by prefix, so a shared one makes `a` ambiguous with `ab`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPaths {
    root: PathBuf,
    shared: PathBuf,
}

impl SandboxPaths {
    /// Paths below `directory`, the sandbox's own, and `shared`, which all sandboxes of the node use.
    pub fn new(directory: &Path, shared: &Path) -> Self {
        Self { root: directory.join("r"), shared: shared.to_owned() }
    }

    /// runsc's `--root`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// runsc's `--shared-root`, with what sandboxes share, such as the gofers' empty network namespace.
    pub fn shared(&self) -> &Path {
        &self.shared
    }
}

/// A container's stdin, stdout and stderr, as the sandbox gets them. `None` is `/dev/null`.
#[derive(Debug, Default)]
pub struct GuestStdio(pub [Option<OwnedFd>; 3]);

impl GuestStdio {
    fn of_child(&self) -> std::io::Result<[Stdio; 3]> {
        let mut stdio = [Stdio::null(), Stdio::null(), Stdio::null()];
        for (slot, end) in stdio.iter_mut().zip(&self.0) {
            if let Some(end) = end {
                *slot = end.as_fd().try_clone_to_owned()?.into();
            }
        }
        Ok(stdio)
    }
}

/// What `runsc create` is asked for.
#[derive(Debug)]
pub struct CreateCall<'a> {
    /// The container to create.
    pub container: &'a ContainerId,
    /// The directory with its `config.json`.
    pub bundle: &'a Path,
    /// The container's own stdio, for a root container; a sub-container gets it at `start`.
    pub stdio: Option<&'a GuestStdio>,
    /// Where the terminal's outer side is sent, for a container with a terminal: at `create` for a root container, at
    /// `start` for another.
    pub console_socket: Option<&'a Path>,
    /// Whether the spec's `cgroupsPath` is `slice:prefix:name`, a scope to ask systemd for.
    pub systemd_cgroup: bool,
    /// What the sandbox's process gets for its standard error, which is where it says why it breaks down; for a root
    /// container. Without it that is the container's own.
    pub panic_log: Option<&'a Path>,
    /// How long the call may take.
    pub limit: Duration,
}

/// What `runsc start` is asked for.
#[derive(Debug)]
pub struct StartCall<'a> {
    /// The container to start.
    pub container: &'a ContainerId,
    /// The container's own stdio, for a sub-container; a root container got it at `create`.
    pub stdio: Option<&'a GuestStdio>,
    /// How long the call may take.
    pub limit: Duration,
}

/// runsc for one sandbox: a binary, its settings, and the sandbox's directories.
#[derive(Clone)]
pub struct Cli {
    binary: PathBuf,
    settings: Settings,
    paths: SandboxPaths,
    exits: Arc<dyn ChildExits>,
}

impl Cli {
    /// runsc at `binary` with `settings` for the sandbox of `paths`; `exits` reaps what is started.
    pub fn new(binary: PathBuf, settings: Settings, paths: SandboxPaths, exits: Arc<dyn ChildExits>) -> Self {
        Self { binary, settings, paths, exits }
    }

    /// The same runsc with other settings.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The sandbox's directories.
    pub fn paths(&self) -> &SandboxPaths {
        &self.paths
    }

    /// Refuses a runsc that isn't one or is older than the supported range. The answer is kept in the shared
    /// directory, by device, inode, size and time of the binary, so that a node asks each build once.
    ///
    /// # Errors
    /// [`Kind::TooOld`], [`Kind::NotRunsc`], or what kept it from running.
    pub async fn require_supported(&self, limit: Duration) -> Result<Version, RunscError> {
        if let Some(version) = crate::version::cached(&self.binary, &self.paths.shared) {
            return version.supported();
        }
        let printed = spawn::output_of(&self.binary, "--version", limit, &*self.exits).await?;
        let version = Version::parse(&printed)?.supported()?;
        crate::version::remember(&self.binary, &self.paths.shared, &version);
        Ok(version)
    }

    /// Creates a container: for a sandbox's root container the sandbox too, else a container in the running one.
    ///
    /// # Errors
    /// What runsc said, with its [`Kind`]. Whatever runsc had started by then may still run: the caller owns cleaning.
    pub async fn create(&self, call: CreateCall<'_>) -> Result<(), RunscError> {
        let args = args::create(&call);
        self.run("create", call.container, args, call.stdio, call.limit).await
    }

    /// Starts a created container.
    ///
    /// # Errors
    /// What runsc said, with its [`Kind`].
    pub async fn start(&self, call: StartCall<'_>) -> Result<(), RunscError> {
        self.run("start", call.container, args::start(call.container), call.stdio, call.limit).await
    }

    /// Writes the sandbox of `container` to `image`, a directory. The sandbox ends with it unless it is left running.
    ///
    /// # Errors
    /// What runsc said, with its [`Kind`].
    pub async fn checkpoint(
        &self,
        container: &ContainerId,
        image: &Path,
        leave_running: bool,
        limit: Duration,
    ) -> Result<(), RunscError> {
        let args = args::checkpoint(image, leave_running, container);
        self.run("checkpoint", container, args, None, limit).await
    }

    /// Starts a created container from `image`, which the same runsc has written for the same spec.
    ///
    /// # Errors
    /// What runsc said, with its [`Kind`].
    pub async fn restore(
        &self,
        container: &ContainerId,
        image: &Path,
        limit: Duration,
    ) -> Result<(), RunscError> {
        self.run("restore", container, args::restore(image, container), None, limit).await
    }

    /// Deletes a container in any state and what runsc kept of it.
    ///
    /// Success doesn't prove that its processes are gone: `runsc delete --force` can leave a sandbox running.
    ///
    /// # Errors
    /// What runsc said; a container that is unknown already counts as deleted.
    pub async fn delete(&self, container: &ContainerId, limit: Duration) -> Result<(), RunscError> {
        match self.run("delete", container, args::delete(container), None, limit).await {
            Err(error) if error.kind == Kind::NoSuchContainer => Ok(()),
            result => result,
        }
    }

    async fn run(
        &self,
        verb: &'static str,
        container: &ContainerId,
        verb_args: Vec<OsString>,
        stdio: Option<&GuestStdio>,
        limit: Duration,
    ) -> Result<(), RunscError> {
        let failed = |e: std::io::Error| RunscError::new(verb, container, Kind::Failed, e);
        let log = CallLog::new().map_err(failed)?;
        let mut argv = args::global(&self.settings, &self.paths, log.file().as_fd());
        argv.extend(verb_args);
        let no_stdio = GuestStdio::default();
        let stdio = stdio.unwrap_or(&no_stdio).of_child().map_err(failed)?;
        let child = spawn::Child {
            verb,
            subject: container.as_str(),
            binary: &self.binary,
            argv: &argv,
            stdio,
            log: Some(log.file().as_fd()),
            makes_sandbox: verb == "create",
            limit,
        };
        let status = spawn::run(child, &*self.exits).await;
        let said = log.last_error();
        let status = status?;
        if status.success() {
            return Ok(());
        }
        Err(match said {
            Some(words) => RunscError::of_runsc(verb, container, &words),
            None => {
                let detail = format!("{status}, and no message in its log");
                RunscError::new(verb, container, Kind::Failed, detail)
            }
        })
    }
}

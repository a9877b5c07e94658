//! `start`: the pod's shim, new or found, and its address for containerd.

use std::{
    fs,
    io::{self, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context, bail};
use curfew_config::{BASE_FILE, Class, DROP_IN_DIR, NodePolicy};
use runsc_bridge::{ContainerId, SandboxId};

use super::{
    daemon::{Daemon, oom_score_of_parent, set_oom_score},
    delete::clean_pod,
    read_stdin,
};
use crate::{
    args::Args,
    durable,
    pod::group::Role,
    readiness::has_reader,
    record::{BundleNote, NewRecord, SandboxRecord},
    sandbox_dir::{Lock, SandboxDir},
    serve::settings_of,
    spec,
    wire::bootstrap::{RuntimeOptions, Stdin, start_reply},
};

/// How long another call for the same sandbox is waited for.
const OTHER_CALL: Duration = Duration::from_secs(5);

/// Starts the pod's shim or finds it, and prints its address. Standard error stays empty: containerd reads both as
/// the reply.
///
/// # Errors
/// One line that kubelet shows.
pub(crate) fn start(args: &Args) -> anyhow::Result<()> {
    let id = ContainerId::new(&args.id)?;
    // A namespace follows the same rule, and is part of a path.
    SandboxId::new(&args.namespace).context("namespace")?;
    let bundle = std::env::current_dir().context("finding the bundle")?;
    let stdin = Stdin::parse(&read_stdin().context("reading standard input")?, &args.id, &args.namespace)?;
    let role = Role::of(&id, &spec::annotations(&bundle)?)?;
    let sandbox = role.sandbox(&id)?;
    if !has_reader(io::stdout()) {
        // Then what stands in standard input, if anything, is not what it wanted to say.
        bail!("whoever asked for a shim has gone");
    }
    let request = Request { args, bundle: &bundle, stdin, sandbox };
    let shim = if role.is_root() { request.start_or_find()? } else { request.find()? };
    let told = tell(&shim, &bundle);
    if told.is_err()
        && let Some(started) = shim.started
    {
        started.undo();
    }
    told
}

fn tell(shim: &ShimAddress, bundle: &Path) -> anyhow::Result<()> {
    durable::replace(&bundle.join("address"), format!("unix://{}", shim.socket.display()).as_bytes())
        .context("writing the address to the bundle")?;
    let reply = start_reply(shim.version, &shim.socket);
    let mut stdout = io::stdout().lock();
    stdout.write_all(reply.as_bytes()).and_then(|()| stdout.flush()).context("writing the reply")
}

/// A shim to talk to.
struct ShimAddress {
    version: u32,
    socket: PathBuf,
    /// If it is a new one.
    started: Option<StartedShim>,
}

/// A shim that nobody has been told of.
struct StartedShim {
    process: Child,
    dir: SandboxDir,
}

impl StartedShim {
    /// Ends it. It has made nothing but what `start` made for it.
    fn undo(mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.dir.remove();
    }
}

pub(super) fn load_policy(options: &RuntimeOptions) -> anyhow::Result<NodePolicy> {
    let path = Path::new(&options.config_path);
    let class = match (options.config_path.as_str(), options.config_body.as_str()) {
        ("", "") => Class::None,
        ("", body) => Class::Inline(body),
        (_, _) => Class::File(path),
    };
    Ok(curfew_config::load(Path::new(BASE_FILE), Path::new(DROP_IN_DIR), class)?)
}

/// The runsc that the sandbox will keep: as configured, else beside the shim, else on containerd's PATH.
pub(super) fn resolve_runsc(policy: &NodePolicy) -> anyhow::Result<PathBuf> {
    let usable = |path: &Path| {
        let found = fs::metadata(path).with_context(|| format!("runsc {}", path.display()))?;
        if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
            bail!("runsc {} is not an executable file", path.display());
        }
        // What a link like `current` points to may change under a running pod.
        fs::canonicalize(path).with_context(|| format!("runsc {}", path.display()))
    };
    if let Some(path) = &policy.runsc.path {
        return usable(path);
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&on_path).filter(|directory| directory.is_absolute()))
        .find_map(|directory| usable(&directory.join("runsc")).ok())
        .context("no runsc beside the shim nor on the PATH: set runsc.path in the configuration")
}

struct Request<'a> {
    args: &'a Args,
    bundle: &'a Path,
    stdin: Stdin,
    sandbox: SandboxId,
}

impl Request<'_> {
    /// The shim of a pod that must be running. Its own bundle says where it is: the class's file may say something
    /// else by now, and a pod keeps what it was started with.
    fn find(&self) -> anyhow::Result<ShimAddress> {
        let beside = self.bundle.parent().map(|bundles| bundles.join(self.sandbox.as_str()));
        let note = beside.and_then(|bundle| BundleNote::read(&bundle).transpose()).transpose();
        let dir = match note.context("reading the note in the sandbox's bundle")? {
            Some(note) => SandboxDir::at(note.sandbox_dir),
            None => self.dir(&load_policy(&self.stdin.options)?),
        };
        match dir.lock_or_served(OTHER_CALL) {
            Ok(Lock::Held) => self.running_shim(&dir),
            Ok(Lock::Taken(_)) | Err(_) => bail!("sandbox {} has no running shim to join", self.sandbox),
        }
    }

    fn dir(&self, policy: &NodePolicy) -> SandboxDir {
        SandboxDir::of(&policy.state.dir, &self.args.namespace, &self.sandbox)
    }

    /// The answer is that of the shim that runs, which may be of another version than this binary.
    fn running_shim(&self, dir: &SandboxDir) -> anyhow::Result<ShimAddress> {
        let record = SandboxRecord::read(dir).context("reading the record of the running shim")?;
        if record.namespace != self.args.namespace || record.sandbox != self.sandbox {
            bail!("{} belongs to sandbox {} of {}", dir.path().display(), record.sandbox, record.namespace);
        }
        self.note_bundle(dir)?;
        Ok(ShimAddress { version: record.protocol, socket: dir.socket(), started: None })
    }

    fn note_bundle(&self, dir: &SandboxDir) -> anyhow::Result<()> {
        let note = BundleNote { sandbox_dir: dir.path().to_owned(), exit: None };
        note.write(self.bundle).context("writing to the bundle")
    }

    fn start_or_find(self) -> anyhow::Result<ShimAddress> {
        let policy = load_policy(&self.stdin.options)?;
        let runsc = resolve_runsc(&policy)?;
        settings_of(&policy)?;
        let dir = self.dir(&policy);
        let mut lock = make_and_lock(&dir)?;
        if matches!(lock, Lock::Taken(_)) && dir.record().exists() {
            // An earlier shim of this name died and nobody has cleaned up after it. The lock goes with the directory.
            clean_pod(&dir).context("cleaning up after an earlier sandbox of this name")?;
            lock = make_and_lock(&dir)?;
        }
        let lock = match lock {
            Lock::Held => return self.running_shim(&dir),
            Lock::Taken(lock) => lock,
        };
        let version = policy.protocol.version;
        let socket = dir.socket();
        match self.start_shim(&dir, runsc, policy, lock) {
            Ok(process) => Ok(ShimAddress { version, socket, started: Some(StartedShim { process, dir }) }),
            Err(error) => {
                // Nothing has been started: this is all there is.
                let _ = dir.remove();
                Err(error)
            }
        }
    }

    fn start_shim(
        self,
        dir: &SandboxDir,
        runsc: PathBuf,
        policy: NodePolicy,
        lock: fs::File,
    ) -> anyhow::Result<Child> {
        let events_address = self
            .stdin
            .events_address
            .clone()
            .or_else(|| std::env::var("TTRPC_ADDRESS").ok())
            .unwrap_or_default();
        let record = SandboxRecord::new(NewRecord {
            namespace: &self.args.namespace,
            sandbox: &self.sandbox,
            bundle: self.bundle,
            events_address: &events_address,
            debug: self.args.debug || self.stdin.debug,
            runsc,
            policy,
        });
        record.write(dir).context("writing the sandbox record")?;
        self.note_bundle(dir)?;
        let listener = listen(&dir.socket())?;
        let daemon = Daemon {
            namespace: &self.args.namespace,
            id: self.sandbox.as_str(),
            dir,
            listener: listener.into(),
            lock: lock.into(),
        };
        let process = daemon.start().context("starting the shim")?;
        if let Some(score) = oom_score_of_parent() {
            set_oom_score(process.id(), score);
        }
        Ok(process)
    }
}

/// Makes the sandbox's directory and takes its lock, or finds the shim that has it.
fn make_and_lock(dir: &SandboxDir) -> anyhow::Result<Lock> {
    loop {
        dir.make().context("making the sandbox's directory")?;
        match dir.lock_or_served(OTHER_CALL) {
            // A cleanup has removed it in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.context("locking the sandbox"),
        }
    }
}

/// Listens before anybody is told the address: containerd doesn't try twice.
fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    let listener =
        UnixListener::bind(socket).with_context(|| format!("listening on {}", socket.display()))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).context("restricting the socket")?;
    Ok(listener)
}

//! `start`: the pod's shim, new or found, and its address for containerd.

use std::{
    fs,
    io::{self, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
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
    record::{BundleNote, NewRecord, SandboxRecord},
    sandbox_dir::{Lock, SandboxDir},
    serve::settings_of,
    spec,
    wire::bootstrap::{RuntimeOptions, Stdin, start_reply},
};

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
    let policy = load_policy(&stdin.options)?;
    let sandbox = role.sandbox(&id)?;
    let dir = SandboxDir::of(&policy.state.dir, &args.namespace, &sandbox);
    let request = Request { args, bundle: &bundle, stdin, policy, sandbox, dir };
    let (version, socket) = if role.is_root() { request.start_or_find()? } else { request.find()? };
    durable::replace(&bundle.join("address"), format!("unix://{}", socket.display()).as_bytes())
        .context("writing the address to the bundle")?;
    let reply = start_reply(version, &socket);
    io::stdout().lock().write_all(reply.as_bytes()).context("writing the reply")
}

fn load_policy(options: &RuntimeOptions) -> anyhow::Result<NodePolicy> {
    let path = Path::new(&options.config_path);
    let class = match (options.config_path.as_str(), options.config_body.as_str()) {
        ("", "") => Class::None,
        ("", body) => Class::Inline(body),
        (_, _) => Class::File(path),
    };
    Ok(curfew_config::load(Path::new(BASE_FILE), Path::new(DROP_IN_DIR), class)?)
}

/// The runsc that the sandbox will keep: as configured, else beside the shim, else on containerd's PATH.
fn resolve_runsc(policy: &NodePolicy) -> anyhow::Result<PathBuf> {
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
    policy: NodePolicy,
    sandbox: SandboxId,
    dir: SandboxDir,
}

impl Request<'_> {
    /// The shim of a pod that must be running.
    fn find(&self) -> anyhow::Result<(u32, PathBuf)> {
        match self.dir.lock() {
            Ok(Lock::Held) => self.running_shim(),
            Ok(Lock::Taken(_)) | Err(_) => bail!("sandbox {} has no running shim to join", self.sandbox),
        }
    }

    /// The answer is that of the shim that runs, which may be of another version than this binary.
    fn running_shim(&self) -> anyhow::Result<(u32, PathBuf)> {
        let record = SandboxRecord::read(&self.dir).context("reading the record of the running shim")?;
        if record.namespace != self.args.namespace || record.sandbox != self.sandbox {
            bail!(
                "{} belongs to sandbox {} of {}",
                self.dir.path().display(),
                record.sandbox,
                record.namespace
            );
        }
        self.note_bundle()?;
        Ok((record.protocol, self.dir.socket()))
    }

    fn note_bundle(&self) -> anyhow::Result<()> {
        let note = BundleNote { sandbox_dir: self.dir.path().to_owned(), exit: None };
        note.write(self.bundle).context("writing to the bundle")
    }

    fn start_or_find(self) -> anyhow::Result<(u32, PathBuf)> {
        let runsc = resolve_runsc(&self.policy)?;
        settings_of(&self.policy)?;
        self.dir.make().context("making the sandbox's directory")?;
        let lock = match self.dir.lock().context("locking the sandbox")? {
            Lock::Held => return self.running_shim(),
            Lock::Taken(lock) => lock,
        };
        let version = self.policy.protocol.version;
        let socket = self.dir.socket();
        let dir = self.dir.clone();
        let started = self.start_shim(runsc, lock);
        if started.is_err() {
            let _ = dir.remove();
        }
        started.map(|()| (version, socket))
    }

    fn start_shim(self, runsc: PathBuf, lock: fs::File) -> anyhow::Result<()> {
        if self.dir.record().exists() {
            // An earlier shim of this name died and nobody has cleaned up after it.
            clean_pod(&self.dir).context("cleaning up after an earlier sandbox of this name")?;
            self.dir.make().context("making the sandbox's directory")?;
        }
        let events_address =
            self.stdin.events_address.or_else(|| std::env::var("TTRPC_ADDRESS").ok()).unwrap_or_default();
        let record = SandboxRecord::new(NewRecord {
            namespace: &self.args.namespace,
            sandbox: &self.sandbox,
            bundle: self.bundle,
            events_address: &events_address,
            debug: self.args.debug || self.stdin.debug,
            runsc,
            policy: self.policy,
        });
        record.write(&self.dir).context("writing the sandbox record")?;
        let note = BundleNote { sandbox_dir: self.dir.path().to_owned(), exit: None };
        note.write(self.bundle).context("writing to the bundle")?;
        let listener = listen(&self.dir.socket())?;
        let daemon = Daemon {
            namespace: &self.args.namespace,
            id: self.sandbox.as_str(),
            dir: &self.dir,
            listener: listener.into(),
            lock: lock.into(),
        };
        let pid = daemon.start().context("starting the shim")?;
        if let Some(score) = oom_score_of_parent() {
            set_oom_score(pid, score);
        }
        Ok(())
    }
}

/// Listens before anybody is told the address: containerd doesn't try twice.
fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    let listener =
        UnixListener::bind(socket).with_context(|| format!("listening on {}", socket.display()))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).context("restricting the socket")?;
    Ok(listener)
}

//! The shim without containerd between: its socket, and its own verbs.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::{Client, TaskClient};
use serde_json::Value;
use ttrpc::context::{self, Context};

use crate::rpc::{CALL_LIMIT, Code, RpcError, poll};
use crate::{Containerd, janitor, version};

/// A connection to a running shim's Task service (version 3's name).
pub struct Shim {
    address: String,
    tasks: TaskClient,
}

impl Shim {
    /// The shim that serves a container of this containerd.
    pub fn of(containerd: &Containerd, container: &str) -> Result<Self, RpcError> {
        Self::connect(&address(&containerd.bundle(container))?)
    }

    /// The shim behind an address such as `unix:///run/…`.
    pub fn connect(address: &str) -> Result<Self, RpcError> {
        Ok(Self { address: address.into(), tasks: TaskClient::new(Client::connect(address)?) })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The generated client: every message as containerd would send it, or never would.
    pub fn tasks(&self) -> &TaskClient {
        &self.tasks
    }

    /// The shim's own pid, as it says it.
    pub fn pid(&self, container: &str) -> Result<u32, RpcError> {
        let mut request = containerd_shim_protos::api::ConnectRequest::new();
        request.id = container.into();
        Ok(self.tasks.connect(limit(), &request)?.shim_pid)
    }
}

/// The limit that every call of the harness carries.
pub fn limit() -> Context {
    context::with_duration(CALL_LIMIT)
}

/// The address in a bundle: containerd's own note of it, or the shim's.
fn address(bundle: &Path) -> Result<String, RpcError> {
    let noted = fs::read(bundle.join("bootstrap.json")).ok();
    let noted = noted.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    if let Some(address) = noted.as_ref().and_then(|json| json["address"].as_str()) {
        return Ok(address.into());
    }
    fs::read_to_string(bundle.join("address"))
        .map_err(|e| RpcError::new(Code::NotFound, format_args!("no address in {}: {e}", bundle.display())))
}

/// What a verb of the shim's binary said, and how long it took.
#[derive(Debug)]
pub struct Said {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// `None` if it had to be killed at the limit.
    pub status: Option<ExitStatus>,
    pub took: Duration,
}

/// A run of the shim's binary as containerd would start it.
#[derive(Debug)]
pub struct Verb {
    program: PathBuf,
    args: Vec<String>,
    dir: PathBuf,
    stdin: Vec<u8>,
    stdout: Option<OwnedFd>,
    env: Vec<(String, String)>,
}

impl Verb {
    /// `containerd-shim-curfew-v1 ARGS…` in that directory, with an empty stdin.
    pub fn new<'a>(dir: &Path, args: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            program: version::shim(),
            args: args.into_iter().map(str::to_owned).collect(),
            dir: dir.into(),
            stdin: Vec::new(),
            stdout: None,
            env: Vec::new(),
        }
    }

    /// `start` or `delete` for a container, with the flags that this containerd would give.
    pub fn of(containerd: &Containerd, id: &str, bundle: &Path, verb: &str) -> Self {
        let address = containerd.socket().display().to_string();
        let publisher = version::containerd(&containerd.options().version).join("containerd");
        let publisher = publisher.display().to_string();
        let bundle_text = bundle.display().to_string();
        let mut args = vec!["-namespace", containerd.namespace(), "-address", &address];
        args.extend(["-publish-binary", &publisher, "-id", id]);
        if verb == "delete" {
            args.extend(["-bundle", &bundle_text]);
        }
        args.push(verb);
        Self::new(bundle, args)
            .env("TTRPC_ADDRESS", &format!("{address}.ttrpc"))
            .env("GRPC_ADDRESS", &address)
            .env("NAMESPACE", containerd.namespace())
            .env("MAX_SHIM_VERSION", "2")
            .env("GOMAXPROCS", "2")
            .env(janitor::MARK, &containerd.dir().display().to_string())
    }

    /// Another binary, such as runc's shim.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// A stdout of the caller's own; nothing is read back from it.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<OwnedFd>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Runs it to its end, or kills it at the limit. A daemon that it leaves behind must not
    /// hold its output open: files take that, so this returns when the verb itself has ended.
    pub fn run(self, limit: Duration) -> io::Result<Said> {
        let mut out = tempfile::tempfile()?;
        let mut err = tempfile::tempfile()?;
        let start = Instant::now();
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.env)
            .stdin(Stdio::piped())
            .stdout(self.stdout.map_or_else(|| out.try_clone().map(Stdio::from), |fd| Ok(fd.into()))?)
            .stderr(err.try_clone()?)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A verb that doesn't read its input breaks the pipe.
            let _ = stdin.write_all(&self.stdin);
        }
        let status = poll(limit, || child.try_wait().ok().flatten());
        let took = start.elapsed();
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        Ok(Said { stdout: contents(&mut out)?, stderr: contents(&mut err)?, status, took })
    }
}

fn contents(file: &mut fs::File) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

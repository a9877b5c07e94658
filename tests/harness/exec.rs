//! A further process in a running container.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use containerd_client::services::v1 as api;
use nix::sys::signal::Signal;
use prost_types::Any;
use serde_json::{Value, json};

use crate::calls::Calls;
use crate::rpc::{CALL_LIMIT, Code, RpcError};
use crate::stdio::{Stdio, Streams};
use crate::{Exit, State, Task};

/// An exec to be: an OCI process, stdio and id.
#[derive(Debug, Clone)]
pub struct ExecSpec {
    json: Value,
    id: Option<String>,
    stdio: Stdio,
}

impl ExecSpec {
    pub fn new<W: Into<String>>(args: impl IntoIterator<Item = W>) -> Self {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        Self {
            json: json!({
                "args": args,
                "cwd": "/",
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "user": { "uid": 0, "gid": 0 },
            }),
            id: None,
            stdio: Stdio::Fifos,
        }
    }

    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    #[must_use]
    pub fn stdio(mut self, stdio: Stdio) -> Self {
        self.json["terminal"] = json!(stdio.is_terminal());
        self.stdio = stdio;
        self
    }

    /// Changes anything else of the process.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.json);
        self
    }
}

/// A registered exec. As with a task, what a test makes it deletes.
#[derive(Debug, Clone)]
pub struct Exec {
    task: Task,
    id: String,
    streams: Arc<Streams>,
}

impl std::ops::Deref for Exec {
    type Target = Streams;

    fn deref(&self) -> &Streams {
        &self.streams
    }
}

impl Task {
    /// Registers an exec; `start` runs it.
    pub fn exec(&self, spec: &ExecSpec) -> Result<Exec, RpcError> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = spec.id.clone().unwrap_or_else(|| format!("e{n}"));
        let containerd = self.containerd();
        let streams = Streams::make(&spec.stdio, &containerd.dir().join(format!("io/exec-{n}")))
            .map_err(|e| RpcError::new(Code::Transport, e))?;
        let exec = api::ExecProcessRequest {
            container_id: self.id().into(),
            exec_id: id.clone(),
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            terminal: streams.terminal,
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
                value: spec.json.to_string().into_bytes(),
            }),
        };
        let mut tasks = containerd.client().tasks();
        containerd.ask(tasks.exec(containerd.request(exec)))?;
        Ok(Exec { task: self.clone(), id, streams: Arc::new(streams) })
    }
}

impl Exec {
    pub fn id(&self) -> &str {
        &self.id
    }

    fn calls(&self) -> Calls<'_> {
        Calls { containerd: self.task.containerd(), container_id: self.task.id(), exec_id: &self.id }
    }

    pub fn start(&self) -> Result<u32, RpcError> {
        self.calls().start()
    }

    pub fn wait(&self) -> Result<Exit, RpcError> {
        self.wait_for(CALL_LIMIT)
    }

    pub fn wait_for(&self, limit: Duration) -> Result<Exit, RpcError> {
        self.calls().wait(limit)
    }

    pub fn kill(&self, signal: Signal) -> Result<(), RpcError> {
        self.calls().kill(signal as u32, false)
    }

    pub fn state(&self) -> Result<State, RpcError> {
        self.calls().state()
    }

    pub fn close_io(&self) -> Result<(), RpcError> {
        self.calls().close_io()
    }

    pub fn resize(&self, width: u32, height: u32) -> Result<(), RpcError> {
        self.calls().resize(width, height)
    }

    pub fn delete(&self) -> Result<Exit, RpcError> {
        let delete =
            api::DeleteProcessRequest { container_id: self.task.id().into(), exec_id: self.id.clone() };
        let containerd = self.task.containerd();
        let mut tasks = containerd.client().tasks();
        let gone = containerd.ask(tasks.delete_process(containerd.request(delete)))?;
        Ok(Exit::new(gone.exit_status, gone.exited_at))
    }
}

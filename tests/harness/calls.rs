//! The calls that are the same for a container's init and for an exec.

use std::time::{Duration, SystemTime};

use containerd_client::services::v1 as api;

use crate::Containerd;
use crate::rpc::RpcError;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub status: u32,
    /// When; `None` if the answer had no time or the zero time.
    pub at: Option<SystemTime>,
}

/// What `State` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub status: Status,
    pub pid: u32,
    pub exit: Exit,
    pub terminal: bool,
}

/// The phases that containerd tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Unknown,
    Created,
    Running,
    Stopped,
    Paused,
    Pausing,
}

impl Exit {
    pub(crate) fn new(status: u32, at: Option<prost_types::Timestamp>) -> Self {
        // Go's zero time is in the year 1, before the epoch.
        let at = at.filter(|at| at.seconds > 0);
        Self { status, at: at.and_then(|at| SystemTime::try_from(at).ok()) }
    }
}

/// A container's init process, or an exec if `exec_id` isn't empty, as the RPCs name it.
pub(crate) struct Calls<'a> {
    pub containerd: &'a Containerd,
    pub container_id: &'a str,
    pub exec_id: &'a str,
}

impl Calls<'_> {
    pub(crate) fn start(&self) -> Result<u32, RpcError> {
        let start =
            api::StartRequest { container_id: self.container_id.into(), exec_id: self.exec_id.into() };
        let mut tasks = self.containerd.client().tasks();
        Ok(self.containerd.ask(tasks.start(self.containerd.request(start)))?.pid)
    }

    pub(crate) fn wait(&self, limit: Duration) -> Result<Exit, RpcError> {
        let wait = api::WaitRequest { container_id: self.container_id.into(), exec_id: self.exec_id.into() };
        let mut tasks = self.containerd.client().tasks();
        let call = tasks.wait(self.containerd.request(wait));
        let answer = self.containerd.wire.call(limit, call)?;
        Ok(Exit::new(answer.exit_status, answer.exited_at))
    }

    pub(crate) fn kill(&self, signal: u32, all: bool) -> Result<(), RpcError> {
        let kill = api::KillRequest {
            container_id: self.container_id.into(),
            exec_id: self.exec_id.into(),
            signal,
            all,
        };
        let mut tasks = self.containerd.client().tasks();
        self.containerd.ask(tasks.kill(self.containerd.request(kill)))
    }

    pub(crate) fn state(&self) -> Result<State, RpcError> {
        let get = api::GetRequest { container_id: self.container_id.into(), exec_id: self.exec_id.into() };
        let mut tasks = self.containerd.client().tasks();
        let process = self.containerd.ask(tasks.get(self.containerd.request(get)))?.process;
        let process = process.unwrap_or_default();
        Ok(State {
            status: match process.status {
                1 => Status::Created,
                2 => Status::Running,
                3 => Status::Stopped,
                4 => Status::Paused,
                5 => Status::Pausing,
                _ => Status::Unknown,
            },
            pid: process.pid,
            exit: Exit::new(process.exit_status, process.exited_at),
            terminal: process.terminal,
        })
    }

    pub(crate) fn close_io(&self) -> Result<(), RpcError> {
        let close = api::CloseIoRequest {
            container_id: self.container_id.into(),
            exec_id: self.exec_id.into(),
            stdin: true,
        };
        let mut tasks = self.containerd.client().tasks();
        self.containerd.ask(tasks.close_io(self.containerd.request(close)))
    }

    pub(crate) fn resize(&self, width: u32, height: u32) -> Result<(), RpcError> {
        let resize = api::ResizePtyRequest {
            container_id: self.container_id.into(),
            exec_id: self.exec_id.into(),
            width,
            height,
        };
        let mut tasks = self.containerd.client().tasks();
        self.containerd.ask(tasks.resize_pty(self.containerd.request(resize)))
    }
}

//! A container's task: the calls a client of containerd makes, each with a limit.

use std::sync::Arc;
use std::time::Duration;

use containerd_client::services::v1 as api;
use nix::sys::signal::Signal;
use prost_types::Any;

use crate::calls::Calls;
use crate::rpc::{CALL_LIMIT, Code, RpcError};
use crate::stdio::Streams;
use crate::{Container, Containerd, Exit, State};

/// A created task. Dropping it does nothing: what a test creates, it deletes.
#[derive(Debug, Clone)]
pub struct Task {
    container: Container,
    pid: u32,
    streams: Arc<Streams>,
}

impl std::ops::Deref for Task {
    type Target = Streams;

    fn deref(&self) -> &Streams {
        &self.streams
    }
}

impl Task {
    pub(crate) fn new(container: Container, pid: u32, streams: Streams) -> Self {
        Self { container, pid, streams: Arc::new(streams) }
    }

    /// A handle for a task that some container has already, to delete it.
    pub(crate) fn existing(container: Container) -> Self {
        Self::new(container, 0, Streams::default())
    }

    pub fn id(&self) -> &str {
        self.container.id()
    }

    /// As Create's reply had it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn container(&self) -> &Container {
        &self.container
    }

    pub fn containerd(&self) -> &Arc<Containerd> {
        &self.container.containerd
    }

    fn calls(&self) -> Calls<'_> {
        Calls { containerd: &self.container.containerd, container_id: self.container.id(), exec_id: "" }
    }

    /// Starts it and gives its pid.
    pub fn start(&self) -> Result<u32, RpcError> {
        self.calls().start()
    }

    pub fn wait(&self) -> Result<Exit, RpcError> {
        self.wait_for(CALL_LIMIT)
    }

    pub fn wait_for(&self, limit: Duration) -> Result<Exit, RpcError> {
        self.calls().wait(limit)
    }

    /// Waits beside the test; the call is under way when this returns.
    pub fn wait_in_background(&self) -> std::thread::JoinHandle<Result<Exit, RpcError>> {
        let task = self.clone();
        std::thread::spawn(move || task.wait())
    }

    pub fn kill(&self, signal: Signal) -> Result<(), RpcError> {
        self.kill_number(signal as u32)
    }

    /// A signal by its number, which may be none.
    pub fn kill_number(&self, signal: u32) -> Result<(), RpcError> {
        self.calls().kill(signal, false)
    }

    /// The signal for every process of the container.
    pub fn kill_all(&self, signal: Signal) -> Result<(), RpcError> {
        self.calls().kill(signal as u32, true)
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

    pub fn pids(&self) -> Result<Vec<u32>, RpcError> {
        let list = api::ListPidsRequest { container_id: self.id().into() };
        let containerd = self.containerd();
        let mut tasks = containerd.client().tasks();
        let found = containerd.ask(tasks.list_pids(containerd.request(list)))?;
        Ok(found.processes.into_iter().map(|process| process.pid).collect())
    }

    pub fn pause(&self) -> Result<(), RpcError> {
        let pause = api::PauseTaskRequest { container_id: self.id().into() };
        let containerd = self.containerd();
        let mut tasks = containerd.client().tasks();
        containerd.ask(tasks.pause(containerd.request(pause)))
    }

    pub fn resume(&self) -> Result<(), RpcError> {
        let resume = api::ResumeTaskRequest { container_id: self.id().into() };
        let containerd = self.containerd();
        let mut tasks = containerd.client().tasks();
        containerd.ask(tasks.resume(containerd.request(resume)))
    }

    /// The task's metrics as containerd passes them on.
    pub fn metrics(&self) -> Result<Any, RpcError> {
        let ask = api::MetricsRequest { filters: vec![format!("id=={}", self.id())] };
        let containerd = self.containerd();
        let mut tasks = containerd.client().tasks();
        let found = containerd.ask(tasks.metrics(containerd.request(ask)))?.metrics;
        let data = found.into_iter().next().and_then(|metric| metric.data);
        data.ok_or_else(|| RpcError::new(Code::NotFound, "the answer holds no metrics"))
    }

    /// Kills it, waits for its end, which it gives, and deletes it.
    pub fn end(&self) -> Result<Exit, RpcError> {
        self.kill(Signal::SIGKILL)?;
        let exit = self.wait()?;
        self.delete()?;
        Ok(exit)
    }

    /// Removes the stopped task, and then the container it was made of.
    pub fn delete(&self) -> Result<Exit, RpcError> {
        let exit = self.delete_task()?;
        self.container.delete()?;
        Ok(exit)
    }

    /// Removes the stopped task and leaves the container's record.
    pub fn delete_task(&self) -> Result<Exit, RpcError> {
        let delete = api::DeleteTaskRequest { container_id: self.id().into() };
        let containerd = self.containerd();
        let mut tasks = containerd.client().tasks();
        let gone = containerd.ask(tasks.delete(containerd.request(delete)))?;
        Ok(Exit::new(gone.exit_status, gone.exited_at))
    }
}

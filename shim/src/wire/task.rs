//! The Task service: requests become commands, replies become messages, and nothing else happens here.
//!
//! Handlers hold no state. The RPC library drops a handler's future when its caller's deadline passes or its
//! connection closes; whatever the request has set in motion goes on in the pod task.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{
        CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
        CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
        PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
        ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
        StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
    },
    shim_async::{Task, create_task},
};
use runsc_bridge::{ContainerId, ExecId};
use ttrpc::r#async::{Service, TtrpcContext};

use super::timestamp;
use crate::{
    command::{Command, Create, Exec, ProcessId, Reply, Signal},
    error::{Code, Error},
    lifecycle::Phase,
    pod::{
        PodHandle,
        view::{ContainerView, ProcessView},
    },
    rootfs::RootfsMount,
    spec::TerminalSize,
    stdio::StdioPaths,
};

/// Both names under which containerd knows the service; the messages are the same.
const SERVICE_NAMES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// The type under which containerd passes on an exec's process.
pub(crate) const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// The Task service for one pod, under both names.
pub(crate) fn services(pod: &PodHandle) -> HashMap<String, Service> {
    let made = SERVICE_NAMES.map(|name| {
        let service = TaskService { pod: pod.clone() };
        // The generated code knows one name; its method table has none.
        let methods = create_task(Arc::new(service)).into_values().next();
        methods.map(|methods| (name.to_owned(), methods))
    });
    made.into_iter().flatten().collect()
}

struct TaskService {
    pod: PodHandle,
}

fn rpc_error(error: &Error) -> ttrpc::Error {
    let code = match error.code() {
        Code::InvalidArgument => ttrpc::Code::INVALID_ARGUMENT,
        Code::NotFound => ttrpc::Code::NOT_FOUND,
        Code::AlreadyExists => ttrpc::Code::ALREADY_EXISTS,
        Code::FailedPrecondition => ttrpc::Code::FAILED_PRECONDITION,
        Code::DeadlineExceeded => ttrpc::Code::DEADLINE_EXCEEDED,
        Code::Unavailable => ttrpc::Code::UNAVAILABLE,
        Code::Unimplemented => ttrpc::Code::UNIMPLEMENTED,
        Code::Internal => ttrpc::Code::INTERNAL,
    };
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, error))
}

fn container_id(id: &str) -> Result<ContainerId, Error> {
    Ok(ContainerId::new(id)?)
}

fn process_id(container: &str, exec: &str) -> Result<ProcessId, Error> {
    let exec = if exec.is_empty() { None } else { Some(ExecId::new(exec)?) };
    Ok(ProcessId { container: container_id(container)?, exec })
}

fn exec_command(request: ExecProcessRequest) -> Result<Command, Error> {
    let id = ExecId::new(&request.exec_id)?;
    let spec = request.spec.into_option().unwrap_or_default();
    if spec.type_url != PROCESS_TYPE {
        return Err(Error::ProcessType(spec.type_url));
    }
    Ok(Command::Exec(Exec {
        container: container_id(&request.id)?,
        id,
        process: spec.value,
        stdio: StdioPaths { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr },
        terminal: request.terminal,
    }))
}

fn resize_command(request: &ResizePtyRequest) -> Result<Command, Error> {
    let id = process_id(&request.id, &request.exec_id)?;
    let size = |value: u32| u16::try_from(value).map_err(|_| Error::TerminalSize(value));
    let size = TerminalSize { height: size(request.height)?, width: size(request.width)? };
    Ok(Command::Resize { id, size })
}

fn create_command(request: CreateTaskRequest) -> Result<Command, Error> {
    let id = container_id(&request.id)?;
    if !request.checkpoint.is_empty() {
        return Err(Error::Unimplemented("restoring a checkpoint"));
    }
    let bundle = PathBuf::from(&request.bundle);
    if !bundle.is_absolute() {
        return Err(Error::Bundle(request.bundle));
    }
    let rootfs = request.rootfs.into_iter().map(|mount| RootfsMount {
        kind: mount.type_,
        source: mount.source,
        target: mount.target,
        options: mount.options,
    });
    let stdio = StdioPaths { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr };
    let terminal = request.terminal;
    Ok(Command::Create(Create { id, bundle, rootfs: rootfs.collect(), stdio, terminal }))
}

fn status_of(phase: Phase) -> Status {
    match phase {
        Phase::Creating | Phase::CreatingKilled | Phase::Created => Status::CREATED,
        // containerd would take a container that is being started for one that failed to.
        Phase::Starting | Phase::Running => Status::RUNNING,
        Phase::Stopped | Phase::Deleting => Status::STOPPED,
    }
}

fn state_response(id: &ProcessId, bundle: &Path, process: ProcessView) -> StateResponse {
    let mut response = StateResponse {
        id: id.container.to_string(),
        exec_id: id.exec.as_ref().map(ExecId::to_string).unwrap_or_default(),
        bundle: bundle.display().to_string(),
        pid: process.pid,
        status: status_of(process.phase).into(),
        terminal: process.terminal,
        ..StateResponse::default()
    };
    if let Some(exit) = process.exit_so_far() {
        response.exit_status = exit.status;
        response.exited_at = timestamp(exit.at);
    }
    response.stdin = process.stdio.stdin;
    response.stdout = process.stdio.stdout;
    response.stderr = process.stdio.stderr;
    response
}

impl TaskService {
    fn view(&self, id: &str, exec: &str) -> Result<(ProcessId, ContainerView, ProcessView), Error> {
        let id = process_id(id, exec)?;
        let container = self.pod.container(&id.container)?;
        let process = container.process(id.exec.as_ref())?;
        Ok((id, container, process))
    }

    async fn request(&self, command: Result<Command, Error>) -> Result<Reply, ttrpc::Error> {
        let result = match command {
            Ok(command) => self.pod.request(command).await,
            Err(error) => Err(error),
        };
        result.map_err(|error| rpc_error(&error))
    }
}

fn unimplemented(what: &'static str) -> ttrpc::Error {
    rpc_error(&Error::Unimplemented(what))
}

fn pid_of(reply: Reply) -> u32 {
    match reply {
        Reply::Pid(pid) | Reply::Deleted { pid, .. } => pid,
        Reply::Done => 0,
    }
}

#[async_trait]
impl Task for TaskService {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let pid = pid_of(self.request(create_command(request)).await?);
        Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        let command = process_id(&request.id, &request.exec_id).map(|id| Command::Start { id });
        let pid = pid_of(self.request(command).await?);
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        let command = process_id(&request.id, &request.exec_id)
            .and_then(|id| Ok(Command::Kill { id, signal: Signal::new(request.signal)?, all: request.all }));
        self.request(command).await?;
        Ok(Empty::new())
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let command = process_id(&request.id, &request.exec_id).map(|id| Command::Delete { id });
        let reply = self.request(command).await?;
        let mut response = DeleteResponse::new();
        if let Reply::Deleted { pid, exit } = reply {
            response.pid = pid;
            response.exit_status = exit.status;
            response.exited_at = timestamp(exit.at);
        }
        Ok(response)
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        self.request(exec_command(request)).await?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> ttrpc::Result<Empty> {
        self.request(resize_command(&request)).await?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        // Without the flag there is nothing that containerd wants closed.
        if request.stdin {
            let command = process_id(&request.id, &request.exec_id).map(|id| Command::CloseStdin { id });
            self.request(command).await?;
        }
        Ok(Empty::new())
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        let (id, container, process) = self.view(&request.id, &request.exec_id).map_err(|e| rpc_error(&e))?;
        Ok(state_response(&id, &container.bundle, process))
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let (_, _, process) = self.view(&request.id, &request.exec_id).map_err(|e| rpc_error(&e))?;
        let exit = process.wait().await.map_err(|e| rpc_error(&e))?;
        let exited_at = timestamp(exit.at);
        Ok(WaitResponse { exit_status: exit.status, exited_at, ..WaitResponse::default() })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let (_, _, process) = self.view(&request.id, "").map_err(|e| rpc_error(&e))?;
        // At its start containerd takes a task without processes for a leftover and deletes it.
        let process = ProcessInfo { pid: process.pid, ..ProcessInfo::default() };
        Ok(PidsResponse { processes: vec![process], ..PidsResponse::default() })
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        let (_, _, process) = self.view(&request.id, "").map_err(|e| rpc_error(&e))?;
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: process.pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ConnectResponse::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.request(Ok(Command::Shutdown)).await?;
        Ok(Empty::new())
    }

    // The generated bodies answer NOT_FOUND, which containerd reads as "the task is gone".

    async fn pause(&self, _: &TtrpcContext, _: PauseRequest) -> ttrpc::Result<Empty> {
        Err(unimplemented("Pause"))
    }

    async fn resume(&self, _: &TtrpcContext, _: ResumeRequest) -> ttrpc::Result<Empty> {
        Err(unimplemented("Resume"))
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        Err(unimplemented("Checkpoint"))
    }

    async fn update(&self, _: &TtrpcContext, _: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        Err(unimplemented("Update"))
    }

    async fn stats(&self, _: &TtrpcContext, _: StatsRequest) -> ttrpc::Result<StatsResponse> {
        Err(unimplemented("Stats"))
    }
}

//! The Task service: requests become commands, replies become messages, and nothing else happens here.
//!
//! Handlers hold no state. The RPC library drops a handler's future when its caller's deadline passes or its
//! connection closes; whatever the request has set in motion goes on in the pod task.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{
        CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
        CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
        PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
        ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
        StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
    },
    shim_async::{Task, create_task},
};
use protobuf::MessageField;
use ttrpc::r#async::{Service, TtrpcContext};

use super::{
    metrics,
    request::{
        checkpoint_command, container_id, create_command, exec_command, process_id, resize_command,
        state_response, update_command,
    },
    timestamp,
};
use crate::{
    command::{Command, ProcessId, Reply, Signal},
    error::{Code, Error},
    pod::{
        PodHandle,
        view::{ContainerView, ProcessView},
    },
};

/// Both names under which containerd knows the service; the messages are the same.
const SERVICE_NAMES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

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

fn pid_of(reply: Reply) -> u32 {
    match reply {
        Reply::Pid(pid) | Reply::Deleted { pid, .. } => pid,
        Reply::Done | Reply::Extended { .. } => 0,
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

    async fn checkpoint(&self, _: &TtrpcContext, request: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        self.request(checkpoint_command(request)).await?;
        Ok(Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        self.request(container_id(&request.id).map(|id| Command::Pause { id })).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        self.request(container_id(&request.id).map(|id| Command::Resume { id })).await?;
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
        self.pod.shut_down().await.map_err(|e| rpc_error(&e))?;
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        self.request(update_command(request)).await?;
        Ok(Empty::new())
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let (id, container, _) = self.view(&request.id, "").map_err(|e| rpc_error(&e))?;
        let stats = container.stats(id.container.as_str()).await.map_err(|e| rpc_error(&e))?;
        let stats = metrics::encode(&stats).map_err(|e| ttrpc::Error::Others(e.to_string()))?;
        Ok(StatsResponse { stats: MessageField::some(stats), ..StatsResponse::default() })
    }
}

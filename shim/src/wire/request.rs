//! Requests of the Task service as commands, and what a process looks like in a reply.

use std::path::{Path, PathBuf};

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CreateTaskRequest, ExecProcessRequest, ResizePtyRequest, StateResponse, Status,
    UpdateTaskRequest,
};
use protobuf::well_known_types::any::Any;
use runsc_bridge::{ContainerId, ExecId};

use super::timestamp;
use crate::{
    command::{Checkpoint, Command, Create, Exec, ProcessId},
    error::Error,
    lifecycle::Phase,
    pod::view::ProcessView,
    resources,
    rootfs::RootfsMount,
    spec::TerminalSize,
    stdio::StdioPaths,
};

/// The type under which containerd passes on an exec's process.
pub(crate) const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

pub(super) fn container_id(id: &str) -> Result<ContainerId, Error> {
    Ok(ContainerId::new(id)?)
}

pub(super) fn process_id(container: &str, exec: &str) -> Result<ProcessId, Error> {
    let exec = if exec.is_empty() { None } else { Some(ExecId::new(exec)?) };
    Ok(ProcessId { container: container_id(container)?, exec })
}

pub(super) fn checkpoint_command(request: CheckpointTaskRequest) -> Result<Command, Error> {
    let id = container_id(&request.id)?;
    let options = request.options.into_option().unwrap_or_default();
    let exit = asks_to_exit(&options).ok_or(Error::CheckpointOptions(options.type_url))?;
    Ok(Command::Checkpoint(Checkpoint { id, image: request.path.into(), exit }))
}

/// The first field, `exit`, of containerd's checkpoint options; the others are about CRIU.
fn asks_to_exit(options: &Any) -> Option<bool> {
    if options.type_url.is_empty() {
        return Some(false);
    }
    if !options.type_url.ends_with("containerd.runc.v1.CheckpointOptions") {
        return None;
    }
    let mut input = protobuf::CodedInputStream::from_bytes(&options.value);
    let mut exit = false;
    while let Some(tag) = input.read_raw_tag_or_eof().ok()? {
        match (tag >> 3, tag & 7) {
            (1, 0) => exit = input.read_bool().ok()?,
            (_, 0) => drop(input.read_raw_varint64().ok()?),
            (_, 2) => drop(input.read_bytes().ok()?),
            _ => return None,
        }
    }
    Some(exit)
}

pub(super) fn update_command(request: UpdateTaskRequest) -> Result<Command, Error> {
    let id = container_id(&request.id)?;
    let resources = request.resources.into_option().unwrap_or_default();
    let resources = resources::parse(&resources.type_url, &resources.value)?;
    Ok(Command::Update { id, resources })
}

pub(super) fn exec_command(request: ExecProcessRequest) -> Result<Command, Error> {
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

pub(super) fn resize_command(request: &ResizePtyRequest) -> Result<Command, Error> {
    let id = process_id(&request.id, &request.exec_id)?;
    let size = |value: u32| u16::try_from(value).map_err(|_| Error::TerminalSize(value));
    let size = TerminalSize { height: size(request.height)?, width: size(request.width)? };
    Ok(Command::Resize { id, size })
}

pub(super) fn create_command(request: CreateTaskRequest) -> Result<Command, Error> {
    let id = container_id(&request.id)?;
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
    let restore_from = (!request.checkpoint.is_empty()).then(|| PathBuf::from(request.checkpoint));
    Ok(Command::Create(Create { id, bundle, rootfs: rootfs.collect(), stdio, terminal, restore_from }))
}

pub(super) fn status_of(phase: Phase) -> Status {
    match phase {
        Phase::Creating | Phase::CreatingKilled | Phase::Created => Status::CREATED,
        // containerd would take a container that is being started for one that failed to.
        Phase::Starting | Phase::Running => Status::RUNNING,
        Phase::Pausing => Status::PAUSING,
        Phase::Paused | Phase::Resuming => Status::PAUSED,
        Phase::Stopped | Phase::Deleting => Status::STOPPED,
    }
}

pub(super) fn state_response(id: &ProcessId, bundle: &Path, process: ProcessView) -> StateResponse {
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

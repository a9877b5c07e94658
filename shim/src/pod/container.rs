//! One container of the pod, as the pod task holds it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use runsc_bridge::{ContainerId, ExecId};

use super::{
    exec::Exec,
    group::Role,
    memory::AbortOnDrop,
    process::{Process, Responder},
    usage::{LastStats, UsageSource},
    view::ContainerView,
};
use crate::{
    cgroup::Cgroup,
    command::Create,
    lifecycle::Phase,
    process::PidFd,
    rootfs::RootfsMount,
    spec::exec_process::ExecCeiling,
    stdio::{ending::Ending, exec::ExecStreams, fifo::ContainerStdio},
};

/// What holds inside a container for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ceilings {
    /// What an exec can have at most, and gets where it names nothing.
    pub(super) exec: ExecCeiling,
    /// Processes and threads.
    pub(super) pids: u64,
    /// Bytes of memory: of a root container all that its sandbox may have, which the kernel keeps; of another its own limit.
    pub(super) memory: Option<u64>,
}

/// Everything the pod task knows of a container.
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) role: Role,
    pub(super) init: Process,
    pub(super) execs: BTreeMap<ExecId, Exec>,
    pub(super) ceilings: Ceilings,
    /// What it had used when somebody last asked, and when it ended.
    pub(super) last_stats: LastStats,
    /// Looks at its memory as long as this is there.
    pub(super) memory_watch: Option<AbortOnDrop>,
    /// Whether it is being ended for what it used, or has been with its sandbox.
    pub(super) out_of_memory: bool,
    /// Whether it is being ended for what it wrote.
    pub(super) over_output: bool,
    /// The host's file by which it says why it ended.
    pub(super) termination_log: Option<PathBuf>,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: Vec<RootfsMount>,
    /// The open streams; a call of runsc that needs them holds them until its outcome.
    pub(super) stdio: Option<ContainerStdio>,
    /// The copies to and from its terminal, if it has one.
    pub(super) streams: Option<ExecStreams>,
    /// Whether containerd has closed stdin, also while a call holds the streams.
    pub(super) stdin_closed: bool,
    pub(super) cgroup: Cgroup,
    /// The checkpoint from which it starts.
    pub(super) restore_from: Option<PathBuf>,
    /// Who waits for a checkpoint that is being written.
    pub(super) checkpointing: Option<Responder>,
    pub(super) gofer: Option<Arc<PidFd>>,
    /// What is still under way of its own output and of its execs' that have ended. Its Delete waits for it.
    pub(super) endings: Vec<Ending>,
    /// Who waits for a container that is killed while it is created.
    pub(super) waiting_kill: Vec<Responder>,
}

impl Container {
    /// A container whose `runsc create` is about to run.
    pub(super) fn creating(request: Create, role: Role, cgroup: Cgroup, ceilings: Ceilings) -> Self {
        let init = Process::new(request.id.to_string(), Phase::Creating, 0, request.stdio, request.terminal);
        Self {
            id: request.id,
            role,
            init,
            execs: BTreeMap::new(),
            ceilings,
            last_stats: LastStats::none(),
            memory_watch: None,
            out_of_memory: false,
            over_output: false,
            termination_log: None,
            bundle: request.bundle,
            rootfs: request.rootfs,
            stdio: None,
            streams: None,
            stdin_closed: false,
            cgroup,
            restore_from: request.restore_from,
            checkpointing: None,
            gofer: None,
            endings: Vec::new(),
            waiting_kill: Vec::new(),
        }
    }

    /// Takes the streams back from a call that has returned.
    pub(super) fn keep_stdio(&mut self, mut stdio: ContainerStdio) {
        if self.stdin_closed {
            stdio.close_stdin();
        }
        self.stdio = Some(stdio);
    }

    /// Keeps the copies to and from its terminal.
    pub(super) fn keep_streams(&mut self, streams: ExecStreams) {
        if self.stdin_closed {
            streams.close_stdin();
        }
        self.streams = Some(streams);
    }

    /// Has the guest see the end of its stdin once every writer has gone.
    pub(super) fn close_stdin(&mut self) {
        self.stdin_closed = true;
        if let Some(stdio) = &mut self.stdio {
            stdio.close_stdin();
        }
        if let Some(streams) = &self.streams {
            streams.close_stdin();
        }
    }

    /// Lets go of the streams of a program that has ended: containerd reads that as the end of the output.
    pub(super) fn close_streams(&mut self) {
        let of_stdio = self.stdio.take().map(ContainerStdio::finish).unwrap_or_default();
        let of_streams = self.streams.take().map(ExecStreams::finish).unwrap_or_default();
        self.endings.extend(of_stdio.into_iter().chain(of_streams));
    }

    /// What readers see.
    pub(super) fn view(&self, usage: Option<UsageSource>) -> ContainerView {
        ContainerView {
            init: self.init.view(),
            bundle: self.bundle.clone(),
            usage,
            last_stats: self.last_stats.clone(),
            execs: self.execs.iter().map(|(id, exec)| (id.clone(), exec.process.view())).collect(),
        }
    }
}

//! A container's record in containerd, made before its runtime is asked for anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use containerd_client::services::v1 as api;
use containerd_client::types::Mount;
use prost::Message;
use prost_types::Any;

use crate::rpc::{Code, RpcError};
use crate::stdio::Streams;
use crate::{Containerd, Runtime, Spec, Task};

/// A container's record in containerd, with a snapshot to run from.
#[derive(Debug, Clone)]
pub struct Container {
    pub(crate) containerd: Arc<Containerd>,
    id: String,
    spec: Spec,
    rootfs: Vec<Mount>,
}

/// What runtimes other than runc get as their options.
#[derive(Clone, PartialEq, Message)]
struct RuntimeOptions {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    config_path: String,
    #[prost(bytes = "vec", tag = "3")]
    config_body: Vec<u8>,
}

impl Containerd {
    /// Records a container and prepares its snapshot. The runtime is not asked yet.
    pub fn container(self: &Arc<Self>, runtime: Runtime, spec: &Spec) -> Result<Container, RpcError> {
        let id = spec.id.clone().unwrap_or_else(next_id);
        let image = self.image(spec.image)?;
        let rootfs = self.prepare(spec.image, &id)?;
        let oci = spec.finish(runtime, self.namespace(), &id);
        let pod = spec.pod.clone().filter(|_| self.records_pods());
        if pod.as_ref() == Some(&id) {
            self.record_pod(&id, runtime)?;
        }
        let record = api::Container {
            id: id.clone(),
            image,
            runtime: Some(api::container::Runtime {
                name: self.runtime_name(runtime),
                options: self.runtime_options(runtime),
            }),
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".into(),
                value: oci.to_string().into_bytes(),
            }),
            snapshotter: self.snapshotter().into(),
            snapshot_key: id.clone(),
            // The sandbox's own container doesn't say so.
            sandbox: pod.filter(|pod| *pod != id).unwrap_or_default(),
            ..api::Container::default()
        };
        let create = api::CreateContainerRequest { container: Some(record) };
        let mut containers = self.client().containers();
        self.ask(containers.create(self.request(create)))?;
        Ok(Container { containerd: Arc::clone(self), id, spec: spec.clone(), rootfs })
    }

    pub(crate) fn runtime_options(&self, runtime: Runtime) -> Option<Any> {
        let options = match runtime {
            Runtime::Runc => return None,
            Runtime::Curfew => RuntimeOptions {
                type_url: "io.containerd.curfew.v1.options".into(),
                config_path: self.class_file().display().to_string(),
                config_body: Vec::new(),
            },
        };
        Some(Any { type_url: "runtimeoptions.v1.Options".into(), value: options.encode_to_vec() })
    }
}

fn next_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("c{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Container {
    /// A handle for a container that is on record already, to delete it.
    pub(crate) fn existing(containerd: &Arc<Containerd>, id: &str) -> Self {
        Self { containerd: Arc::clone(containerd), id: id.into(), spec: Spec::sleeper(), rootfs: Vec::new() }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Creates the task: the runtime makes the sandbox or joins it, and starts nothing.
    pub fn create(&self) -> Result<Task, RpcError> {
        self.create_with(|_| {})
    }

    /// Creates the task with a request that `change` has changed.
    pub(crate) fn create_with(
        &self,
        change: impl FnOnce(&mut api::CreateTaskRequest),
    ) -> Result<Task, RpcError> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let io_dir = self.containerd.dir().join(format!("io/{n}"));
        let streams =
            Streams::make(&self.spec.stdio, &io_dir).map_err(|e| RpcError::new(Code::Transport, e))?;
        let mut create = api::CreateTaskRequest {
            container_id: self.id.clone(),
            rootfs: self.rootfs.clone(),
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            terminal: streams.terminal,
            ..api::CreateTaskRequest::default()
        };
        change(&mut create);
        let mut tasks = self.containerd.client().tasks();
        let created = self.containerd.ask(tasks.create(self.containerd.request(create)))?;
        Ok(Task::new(self.clone(), created.pid, streams))
    }

    /// A handle for the task that it may have, without its streams.
    pub fn task(&self) -> Task {
        Task::existing(self.clone())
    }

    /// Removes the record and the snapshot; the task must be gone.
    pub fn delete(&self) -> Result<(), RpcError> {
        let delete = api::DeleteContainerRequest { id: self.id.clone() };
        let mut containers = self.containerd.client().containers();
        self.containerd.ask(containers.delete(self.containerd.request(delete)))?;
        if self.containerd.records_pods() && self.spec.pod.as_ref() == Some(&self.id) {
            self.containerd.forget_pod(&self.id)?;
        }
        self.containerd.remove_snapshot(&self.id)
    }
}

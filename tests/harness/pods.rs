//! A pod's record in containerd, as CRI makes it on 2.0 and later: by it containerd finds the pod's shim for a further
//! container, where that shim speaks version 3 of the task service.

use containerd_client::services::v1::sandbox as api;
use containerd_client::types::{Sandbox, sandbox};

use crate::rpc::RpcError;
use crate::{Containerd, Runtime};

impl Containerd {
    /// Whether CRI records pods in this containerd.
    pub(crate) fn records_pods(&self) -> bool {
        !self.options().version.starts_with("1.")
    }

    pub(crate) fn record_pod(&self, id: &str, runtime: Runtime) -> Result<(), RpcError> {
        let runtime =
            sandbox::Runtime { name: self.runtime_name(runtime), options: self.runtime_options(runtime) };
        let record = Sandbox {
            sandbox_id: id.into(),
            runtime: Some(runtime),
            sandboxer: "podsandbox".into(),
            ..Sandbox::default()
        };
        let create = api::StoreCreateRequest { sandbox: Some(record) };
        let mut pods = self.client().sandbox_store();
        self.ask(pods.create(self.request(create))).map(|_| ())
    }

    pub(crate) fn forget_pod(&self, id: &str) -> Result<(), RpcError> {
        let delete = api::StoreDeleteRequest { sandbox_id: id.into() };
        let mut pods = self.client().sandbox_store();
        self.ask(pods.delete(self.request(delete))).map(|_| ())
    }

    /// The ids of all pods on record.
    pub(crate) fn pods(&self) -> Result<Vec<String>, RpcError> {
        let mut pods = self.client().sandbox_store();
        let found = self.ask(pods.list(self.request(api::StoreListRequest::default())))?.list;
        Ok(found.into_iter().map(|pod| pod.sandbox_id).collect())
    }
}

//! Guest images in a private containerd, and the snapshots that containers are made of.

use std::sync::PoisonError;

use containerd_client::services::v1::snapshots::{
    ListSnapshotsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
};
use containerd_client::services::v1::{GetImageRequest, ReadContentRequest};
use containerd_client::types::Mount;

use crate::rpc::{Code, RpcError};
use crate::{Containerd, version};

impl Containerd {
    /// The image's name in containerd; imported when first asked for.
    pub(crate) fn image(&self, name: &'static str) -> Result<String, RpcError> {
        self.chain_of(name)?;
        Ok(reference(name))
    }

    /// The mounts of a fresh, writable snapshot of the image.
    pub(crate) fn prepare(&self, image: &'static str, key: &str) -> Result<Vec<Mount>, RpcError> {
        let parent = self.chain_of(image)?;
        let prepare = PrepareSnapshotRequest {
            snapshotter: self.snapshotter().into(),
            key: key.into(),
            parent,
            // containerd's collector leaves it alone until we remove it.
            labels: [("containerd.io/gc.root".into(), "test".into())].into(),
        };
        let mut snapshots = self.client().snapshots();
        Ok(self.ask(snapshots.prepare(self.request(prepare)))?.mounts)
    }

    pub(crate) fn remove_snapshot(&self, key: &str) -> Result<(), RpcError> {
        let remove = RemoveSnapshotRequest { snapshotter: self.snapshotter().into(), key: key.into() };
        let mut snapshots = self.client().snapshots();
        self.ask(snapshots.remove(self.request(remove)))
    }

    /// The keys of all snapshots that aren't image layers.
    pub(crate) fn snapshots(&self) -> Result<Vec<String>, RpcError> {
        let list = ListSnapshotsRequest { snapshotter: self.snapshotter().into(), filters: Vec::new() };
        let mut snapshots = self.client().snapshots();
        let mut pages = self.ask(snapshots.list(self.request(list)))?;
        let mut keys = Vec::new();
        while let Some(page) = self.wire.block_on(pages.message())? {
            keys.extend(page.info.into_iter().map(|info| info.name));
        }
        keys.retain(|key| !key.starts_with("sha256:"));
        Ok(keys)
    }

    /// The key of the image's topmost layer. Our images have one, uncompressed: its digest is the key.
    fn chain_of(&self, name: &'static str) -> Result<String, RpcError> {
        let mut known = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, chain)) = known.iter().find(|(image, _)| *image == name) {
            return Ok(chain.clone());
        }
        self.import(name)?;
        let get = GetImageRequest { name: reference(name) };
        let mut images = self.client().images();
        let image = self.ask(images.get(self.request(get)))?.image;
        let digest = image.and_then(|image| image.target).map(|target| target.digest);
        let manifest = self.content(digest.unwrap_or_default())?;
        let manifest: serde_json::Value =
            serde_json::from_slice(&manifest).map_err(|e| RpcError::new(Code::DataLoss, e))?;
        let chain = manifest["layers"][0]["digest"].as_str().unwrap_or_default();
        known.push((name, chain.into()));
        Ok(chain.into())
    }

    fn import(&self, name: &str) -> Result<(), RpcError> {
        let archive = version::image(name).display().to_string();
        // Not by way of the transfer service, which would need settings of its own, and which 1.7 lacks.
        let args = ["images", "import", "--local", "--snapshotter", self.snapshotter(), &archive];
        let done = self.ctr(args).map_err(|e| RpcError::new(Code::Transport, e))?;
        if done.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        Err(RpcError::new(Code::Internal, format_args!("failed to import {archive}: {said}")))
    }

    fn content(&self, digest: String) -> Result<Vec<u8>, RpcError> {
        let read = ReadContentRequest { digest, offset: 0, size: 0 };
        let mut content = self.client().content();
        let mut chunks = self.ask(content.read(self.request(read)))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = self.wire.block_on(chunks.message())? {
            bytes.extend(chunk.data);
        }
        Ok(bytes)
    }
}

fn reference(image: &str) -> String {
    format!("docker.io/library/curfew-{image}:test")
}

//! Directories in memory, where a node has them in memory too: on a disk, its syncs would be what is measured.

use std::fs;
use std::path::{Path, PathBuf};

use harness::Containerd;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::Result;

/// Directories with a tmpfs over each, as long as this lives.
#[derive(Debug, Default)]
pub(crate) struct InMemory(Vec<PathBuf>);

impl InMemory {
    /// Where this containerd has its bundles, and where Curfew has its state: both are below `/run` on a node.
    pub(crate) fn state_of(&mut self, containerd: &Containerd) -> Result<()> {
        self.cover(&containerd.dir().join("state/io.containerd.runtime.v2.task"))?;
        self.cover(&containerd.state_dir())
    }

    pub(crate) fn cover(&mut self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=0700"))?;
        self.0.push(dir.into());
        Ok(())
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        for dir in &self.0 {
            // The harness reports what stays.
            let _ = umount2(dir, MntFlags::MNT_DETACH);
        }
    }
}

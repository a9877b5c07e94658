//! gVisor's own shim, on a containerd that takes it for runc's: so the harness need not know it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use harness::{Containerd, Harness, Options, Runtime, janitor};
use nix::mount::{MntFlags, umount2};

use super::Result;
use super::notes::Subject;
use super::shims::Shim;

/// Starts the containerd, with what it needs in that directory.
pub(crate) fn start(program: &Path, dir: &Path) -> Result<Shim> {
    let path = dir.join("peer");
    fs::create_dir(&path)?;
    symlink(program, path.join("containerd-shim-runc-v2"))?;
    let containerd = Containerd::start(Options { path: vec![path], ..Options::default() });
    Ok(Shim { subject: Subject::Peer, harness: Harness { runtime: Runtime::Runc, containerd } })
}

/// Ends that containerd alone. Dropping it would end all that this process has started, and so the other one.
pub(crate) fn end(shim: Shim) {
    let containerd = shim.harness.containerd;
    containerd.kill9();
    // runsc keeps a network namespace in its root for the gofers, and this is where that shim has the root.
    let root = Path::new("/run/containerd/runsc").join(containerd.namespace());
    let _ = umount2(&root.join("null-netns"), MntFlags::MNT_DETACH);
    let _ = fs::remove_dir_all(root);
    janitor::remove(containerd.dir());
    std::mem::forget(Arc::clone(&containerd));
}

//! Files that kubelet makes for a pod, in a directory of the test's own.

use std::{fs, path::PathBuf};

use crate::Harness;

impl Harness {
    /// An empty file for a container's termination message.
    #[track_caller]
    pub fn termination_log(&self, uid: &str, container: &str) -> PathBuf {
        let dir = self.containerd.dir().join("kubelet/pods").join(uid).join("containers").join(container);
        let file = dir.join("0");
        match fs::create_dir_all(&dir).and_then(|()| fs::File::create(&file)) {
            Ok(_) => file,
            Err(error) => panic!("failed to make {}: {error}", file.display()),
        }
    }
}

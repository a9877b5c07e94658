//! A downwardAPI volume as kubelet makes it: `NAME` leads to `..data/NAME`, and `..data` to a directory with a new name for
//! each content.

use std::{
    cell::Cell,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

/// A volume with one file.
#[derive(Debug)]
pub struct Volume {
    dir: PathBuf,
    name: &'static str,
    updates: Cell<usize>,
}

impl Volume {
    /// One of the pod with that UID, below the test's directory. The file is empty.
    pub fn make(below: &Path, uid: &str, name: &'static str) -> io::Result<Self> {
        let dir = below.join("kubelet/pods").join(uid).join("volumes/kubernetes.io~downward-api/info");
        fs::create_dir_all(&dir)?;
        symlink(Path::new("..data").join(name), dir.join(name))?;
        let volume = Self { dir, name, updates: Cell::new(0) };
        volume.update("")?;
        Ok(volume)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Has the file say something else.
    pub fn update(&self, content: impl AsRef<[u8]>) -> io::Result<()> {
        let name = format!("..2026_01_02_{}", self.updates.get());
        self.updates.set(self.updates.get() + 1);
        fs::create_dir(self.dir.join(&name))?;
        fs::write(self.dir.join(&name).join(self.name), content)?;
        self.lead_to(Path::new(&name))
    }

    /// Has the volume lead elsewhere.
    pub fn lead_to(&self, target: &Path) -> io::Result<()> {
        let (new, data) = (self.dir.join("..data_tmp"), self.dir.join("..data"));
        let old = fs::read_link(&data).ok().filter(|old| old.is_relative());
        symlink(target, &new)?;
        fs::rename(new, data)?;
        old.map_or(Ok(()), |old| fs::remove_dir_all(self.dir.join(old)))
    }
}

/// Seconds since 1970 as RFC 3339 writes them, with a line break.
///
/// # Panics
/// The machine has no `date`.
pub fn utc(at: u64) -> String {
    let date = Command::new("date").args(["-u", "-d", &format!("@{at}"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
    String::from_utf8_lossy(&date.expect("date runs").stdout).into_owned()
}

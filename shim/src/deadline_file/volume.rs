//! Readings of one file in a volume, which may be changed at any moment and may have been made by anybody.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, inotify, openat, openat2};
use rustix::io::Errno;

use super::Place;
use crate::deadline::claim::LARGEST;

/// How often a path that somebody changes meanwhile is tried.
const TRIES: usize = 8;

/// A volume, by the directory or file that it was when it was opened.
#[derive(Debug)]
pub(super) struct Volume {
    root: OwnedFd,
    below: PathBuf,
}

impl Volume {
    /// # Errors
    /// It isn't there, or not a directory where it should be one.
    pub(super) fn open(place: &Place) -> io::Result<Self> {
        let kind = if place.below.as_os_str().is_empty() { OFlags::NOFOLLOW } else { OFlags::DIRECTORY };
        let root = openat(CWD, &place.source, OFlags::PATH | OFlags::CLOEXEC | kind, Mode::empty())?;
        Ok(Self { root, below: place.below.clone() })
    }

    /// The file's content, cut where it is too long to mean anything.
    ///
    /// # Errors
    /// There is no such file in the volume, or it is none that can be read.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let file = self.open_file()?;
        require_regular(&file)?;
        let mut content = Vec::new();
        File::from(file).take(LARGEST as u64 + 1).read_to_end(&mut content)?;
        Ok(content)
    }

    fn open_file(&self) -> io::Result<OwnedFd> {
        // A FIFO would have the opener wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if self.below.as_os_str().is_empty() {
            require_regular(&self.root)?;
            return Ok(openat(CWD, self.path_of_root(), flags, Mode::empty())?);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(&self.root, &self.below, flags, Mode::empty(), resolve);
        let mut opened = open();
        for _ in 1..TRIES {
            // The kernel cannot say whether a path that changes leads out.
            if !matches!(opened, Err(Errno::AGAIN)) {
                break;
            }
            opened = open();
        }
        opened.map_err(|error| match error {
            Errno::XDEV => io::Error::other("a link leads out of the volume"),
            error => error.into(),
        })
    }

    /// A descriptor that becomes readable with each change of the volume.
    ///
    /// # Errors
    /// The user has too many already.
    pub(super) fn changes(&self) -> io::Result<OwnedFd> {
        let changes = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let all =
            inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE | inotify::WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&changes, self.path_of_root(), all)?;
        Ok(changes)
    }

    fn path_of_root(&self) -> String {
        format!("/proc/self/fd/{}", self.root.as_raw_fd())
    }
}

fn require_regular(file: impl AsFd) -> io::Result<()> {
    let kind = FileType::from_raw_mode(fstat(file)?.st_mode);
    let is_regular = kind == FileType::RegularFile;
    is_regular.then_some(()).ok_or_else(|| io::Error::other("not a regular file"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::symlink,
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    /// In place, as kubelet never does.
    #[allow(clippy::disallowed_methods, reason = "a test's own file")]
    fn write(path: &Path, content: &[u8]) {
        fs::write(path, content).unwrap();
    }

    /// As kubelet does it, for the `n`th time.
    fn update(volume: &Path, n: usize, content: &[u8]) {
        let name = format!("..2026_{n}");
        fs::create_dir(volume.join(&name)).unwrap();
        write(&volume.join(&name).join("deadline"), content);
        symlink(&name, volume.join("..data_tmp")).unwrap();
        let old = fs::read_link(volume.join("..data"));
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        if let Ok(old) = old {
            fs::remove_dir_all(volume.join(old)).unwrap();
        }
    }

    fn volume() -> (tempfile::TempDir, Volume) {
        let dir = tempfile::tempdir().unwrap();
        symlink("..data/deadline", dir.path().join("deadline")).unwrap();
        let place = Place { source: dir.path().into(), below: "deadline".into() };
        let volume = Volume::open(&place).unwrap();
        (dir, volume)
    }

    #[test]
    fn a_volume_of_kubelet_s_is_read_and_its_changes_are_seen() {
        let (dir, volume) = volume();
        assert_eq!(volume.read().unwrap_err().kind(), io::ErrorKind::NotFound);
        let changes = volume.changes().unwrap();
        for n in 1..4 {
            update(dir.path(), n, format!("{n}m").as_bytes());
            assert_eq!(volume.read().unwrap(), format!("{n}m").as_bytes());
            let mut events = [0; 4096];
            assert!(rustix::io::read(&changes, &mut events).unwrap() > 0);
        }
        // No more than that: not where it was read.
        let _ = rustix::io::read(&changes, &mut [0; 4096]);
        volume.read().unwrap();
        assert_eq!(rustix::io::read(&changes, &mut [0; 4096]), Err(Errno::AGAIN));
    }

    #[test]
    fn no_link_leads_out_of_it() {
        let (dir, volume) = volume();
        let outside = tempfile::tempdir().unwrap();
        write(&outside.path().join("deadline"), b"9h");
        symlink(outside.path(), dir.path().join("..data")).unwrap();
        assert!(volume.read().unwrap_err().to_string().contains("leads out"));
        for target in ["../../../../../../etc/passwd", "/proc/self/cmdline", "/proc/self/fd/0"] {
            fs::remove_file(dir.path().join("..data")).unwrap();
            symlink(target, dir.path().join("..data")).unwrap();
            volume.read().unwrap_err();
        }
    }

    #[test]
    fn only_regular_files_are_read_and_no_more_of_them_than_can_mean_something() {
        let (dir, volume) = volume();
        let file = dir.path().join("deadline");
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(volume.read().unwrap_err().to_string().contains("not a regular file"));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(volume.read().is_err());
        fs::remove_dir(&file).unwrap();
        write(&file, &vec![b'1'; 1 << 20]);
        assert_eq!(volume.read().unwrap().len(), LARGEST + 1);
    }

    #[test]
    fn a_file_that_is_replaced_all_the_time_is_whole_whenever_it_is_read() {
        let (dir, volume) = volume();
        update(dir.path(), 0, b"10m");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..400 {
                    update(dir.path(), n, if n % 2 == 0 { b"10m" } else { b"1h30m" });
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                match volume.read() {
                    Ok(content) => assert!(content == b"10m" || content == b"1h30m", "{content:?}"),
                    // The old directory was just being removed.
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
                }
            }
        });
    }

    #[test]
    fn a_mount_of_the_file_alone_is_read_as_the_file_that_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        write(&file, b"10m");
        let place = Place { source: file.clone(), below: PathBuf::new() };
        let volume = Volume::open(&place).unwrap();
        assert_eq!(volume.read().unwrap(), b"10m");
        write(&file, b"20m");
        assert_eq!(volume.read().unwrap(), b"20m");
        fs::remove_file(&file).unwrap();
        symlink("/etc/passwd", &file).unwrap();
        assert_eq!(volume.read().unwrap(), b"20m");
        assert!(Volume::open(&place).unwrap().read().is_err());
    }
}

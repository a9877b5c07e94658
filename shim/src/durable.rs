//! Files that are whole or not there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Replaces the file at `path` with `content`, mode 0600, so that a crash at any moment leaves the old or the new one.
///
/// # Errors
/// Any failed step; the old file is then still there.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    move_into_place(Path::new(&beside), path, content, |_| Ok(()))?;
    File::open(directory)?.sync_all()
}

/// As [`replace`] for a file that everybody may read and that need not survive the machine: made as `beside`, in another
/// directory of the same file system, so that nobody who sees the one sees anything else.
///
/// # Errors
/// As [`replace`].
pub(crate) fn publish(beside: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    // The modes of new files are the umask's too.
    let readable = |beside: &Path| fs::set_permissions(beside, fs::Permissions::from_mode(0o444));
    move_into_place(beside, path, content, readable)
}

/// `prepare` isn't for everybody: the watchdog may not change modes.
fn move_into_place(
    beside: &Path,
    path: &Path,
    content: &[u8],
    prepare: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let written =
        write_synced(beside, content).and_then(|()| prepare(beside)).and_then(|()| fs::rename(beside, path));
    written.inspect_err(|_| drop(fs::remove_file(beside)))
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Reads a file of at most `largest` bytes.
///
/// # Errors
/// `FileTooLarge` for a larger one, `IsADirectory` for a directory, and what the system says.
pub(crate) fn read_bounded(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut content = Vec::new();
    file.take(largest + 1).read_to_end(&mut content)?;
    if content.len() as u64 > largest {
        let message = format!("larger than {largest} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_replaced_file_is_private_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_published_file_is_everybody_s_to_read_and_replaces_the_one_before() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, beside) = (dir.path().join("file"), elsewhere.path().join("new"));
        publish(&beside, &path, b"one").unwrap();
        publish(&beside, &path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o444);
        assert!(publish(&beside, &dir.path().join("missing/file"), b"x").is_err() && !beside.exists());
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        symlink(&canary, dir.path().join("record.new")).unwrap();
        assert!(replace(&dir.path().join("record"), b"x").is_err());
        assert!(!canary.exists());
    }

    #[test]
    fn a_file_over_the_bound_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, &[b'x'; 11]).unwrap();
        assert_eq!(read_bounded(&path, 11).unwrap().len(), 11);
        assert_eq!(read_bounded(&path, 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_bounded(dir.path(), 10).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }
}

//! Writing several cgroup files, or in the end none.

use std::{
    fs::OpenOptions,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use super::ResourcesError;

/// More than any file with a limit has.
const MAX_BYTES: u64 = 64 * 1024;

/// A value for a file, and the key that asks for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) key: &'static str,
    pub(super) file: PathBuf,
    pub(super) value: String,
}

impl Write {
    pub(super) fn new(key: &'static str, directory: &Path, file: &str, value: String) -> Self {
        Self { key, file: directory.join(file), value }
    }

    /// Writes the value. Returns the write that takes it back.
    fn carry_out(self) -> Result<Self, ResourcesError> {
        let Self { key, file, value } = self;
        let before = current(key, &file)?;
        match write(&file, &value) {
            Ok(()) => Ok(Self { key, file, value: before }),
            Err(source) => Err(ResourcesError::Write { key, value, file, source }),
        }
    }
}

/// Carries out all of `writes`. If one fails, those before it are taken back, the last one first.
pub(super) fn all(writes: Vec<Write>) -> Result<(), ResourcesError> {
    let mut undo = Vec::new();
    for write in writes {
        match write.carry_out() {
            Ok(back) => undo.push(back),
            Err(error) => return Err(take_back(undo, error)),
        }
    }
    Ok(())
}

/// What to report: `first`, and what of the earlier writes could not be taken back.
fn take_back(undo: Vec<Write>, first: ResourcesError) -> ResourcesError {
    let failed = undo.into_iter().rev().filter_map(|back| {
        let error = write(&back.file, &back.value).err()?;
        Some(format!("{}: {error}", back.file.display()))
    });
    let remaining = failed.collect::<Vec<_>>().join(", ");
    if remaining.is_empty() { first } else { ResourcesError::NotUndone { first: Box::new(first), remaining } }
}

/// What a file says, without the end of the line.
pub(super) fn current(key: &'static str, file: &Path) -> Result<String, ResourcesError> {
    let mut text = String::new();
    let opened = OpenOptions::new().read(true).open(file);
    match opened.and_then(|opened| opened.take(MAX_BYTES).read_to_string(&mut text)) {
        Ok(_) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(ResourcesError::Read { key, file: file.to_owned(), source }),
    }
}

/// In one system call, which is one decision for the kernel. Never makes a file.
fn write(file: &Path, value: &str) -> io::Result<()> {
    // To write nothing would be no call at all.
    let value = if value.is_empty() { "\n" } else { value };
    OpenOptions::new().write(true).truncate(true).open(file)?.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes no byte, but can be opened and read.
    fn full() -> Write {
        Write { key: "full", file: "/dev/full".into(), value: "1".into() }
    }

    fn file(directory: &Path, name: &str, content: &str) -> PathBuf {
        let path = directory.join(name);
        OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        write(&path, content).unwrap();
        path
    }

    fn to(file: &Path, value: &str) -> Write {
        Write { key: "k", file: file.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn a_failed_write_takes_the_earlier_ones_back() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (file(root.path(), "a", "max 100000\n"), file(root.path(), "b", "\n"));
        let error = all(vec![to(&a, "1 2"), to(&b, "0-1"), to(&a, "3 4"), full()]).unwrap_err();
        assert!(matches!(&error, ResourcesError::Write { key: "full", file, .. } if file.ends_with("full")));
        assert_eq!(current("k", &a).unwrap(), "max 100000");
        assert_eq!(current("k", &b).unwrap(), "");
    }

    #[test]
    fn a_file_that_is_not_there_is_named_and_not_made() {
        let root = tempfile::tempdir().unwrap();
        let (a, gone) = (file(root.path(), "a", "old"), root.path().join("gone"));
        let error = all(vec![to(&a, "new"), to(&gone, "1")]).unwrap_err();
        assert!(matches!(&error, ResourcesError::Read { file, .. } if *file == gone));
        assert_eq!(current("k", &a).unwrap(), "old");
        assert!(!gone.exists());
    }

    #[test]
    fn what_could_not_be_taken_back_is_reported_beside_the_first_error() {
        let root = tempfile::tempdir().unwrap();
        let a = file(root.path(), "a", "new");
        let first = ResourcesError::NoController { key: "k", file: "f" };
        let error = take_back(vec![to(&a, "old"), full()], first);
        let ResourcesError::NotUndone { first, remaining } = error else { panic!("{error}") };
        assert!(matches!(*first, ResourcesError::NoController { .. }));
        assert!(remaining.starts_with("/dev/full: "), "{remaining}");
        assert_eq!(current("k", &a).unwrap(), "old");
    }
}

//! The three forms that cgroup files have. What cannot be read or isn't of the form is absent.

use std::{fs, path::Path};

/// The lowest number that means "no limit": version 1 prints the highest multiple of a page below 2^63.
const NO_LIMIT: u64 = 1 << 62;

/// A file with one number.
pub(super) fn number(directory: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok()
}

/// A file with one number that is a limit, unless it is `max` or far above anything real.
pub(super) fn limit(directory: &Path, file: &str) -> Option<u64> {
    number(directory, file).filter(|limit| *limit < NO_LIMIT)
}

/// A file with a key and a number on each line.
#[derive(Default)]
pub(super) struct Table(String);

impl Table {
    pub(super) fn read(directory: &Path, file: &str) -> Option<Self> {
        fs::read_to_string(directory.join(file)).ok().map(Self)
    }

    /// The number of `key`, 0 if there is none.
    pub(super) fn get(&self, key: &str) -> u64 {
        self.find(key).unwrap_or_default()
    }

    pub(super) fn find(&self, key: &str) -> Option<u64> {
        let mut pairs = self.0.lines().filter_map(|line| line.split_once(' '));
        pairs.find(|(name, _)| *name == key)?.1.parse().ok()
    }
}

/// A device as `major:minor`.
pub(super) fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

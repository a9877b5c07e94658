//! Which runsc this is, and whether it is new enough.

use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Kind, RunscError};

/// The oldest release that is driven: it filters execs by seccomp, tells a zombie from a live sandbox, and knows
/// `update` and systemd's cgroups.
pub const MINIMUM: u64 = 20_260_817;

/// A runsc's version, as it prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    text: String,
    date: Option<u64>,
}

impl Version {
    /// Reads what `runsc --version` prints: `runsc version release-20260905.0`, then the spec's version.
    ///
    /// # Errors
    /// [`Kind::NotRunsc`] where the text isn't that.
    pub fn parse(printed: &str) -> Result<Self, RunscError> {
        let text = printed
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("runsc version "))
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| {
                let start: String = printed.chars().take(64).collect();
                let detail = format!("printed {start:?} where a runsc prints its version");
                RunscError::new("--version", "", Kind::NotRunsc, detail)
            })?;
        let digits = text.trim_start_matches("release-").split(['.', '-']).next().unwrap_or_default();
        let date = digits.parse().ok().filter(|_| digits.len() == 8);
        Ok(Self { text: text.to_owned(), date })
    }

    /// The version if it is in the supported range.
    ///
    /// # Errors
    /// [`Kind::TooOld`] with the minimum and the reason; also for a build that carries no release date, since nothing
    /// tells what it lacks.
    pub fn supported(self) -> Result<Self, RunscError> {
        let problem = match self.date {
            Some(date) if date >= MINIMUM => return Ok(self),
            Some(_) => "is too old",
            None => "names no release",
        };
        let detail = format!(
            "version {:?} {problem}: the minimum is release-{MINIMUM}, the first that applies seccomp to execs, \
             survives unreaped sandboxes and updates cgroups",
            self.text
        );
        Err(RunscError::new("--version", "", Kind::TooOld, detail))
    }

    /// The version as runsc prints it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Names the binary's content without reading it.
fn cache_path(binary: &Path, directory: &Path) -> Option<PathBuf> {
    let m = fs::metadata(binary).ok()?;
    let name = format!("runsc-{:x}-{:x}-{:x}-{:x}.{}", m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec());
    Some(directory.join(name))
}

/// The version found earlier, by this or another shim.
pub(crate) fn cached(binary: &Path, directory: &Path) -> Option<Version> {
    let text = fs::read_to_string(cache_path(binary, directory)?).ok()?;
    Version::parse(&text).ok()
}

/// Keeps the version for the next shim. Best effort: the worst case is asking again.
pub(crate) fn remember(binary: &Path, directory: &Path, version: &Version) {
    let Some(path) = cache_path(binary, directory) else { return };
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut file| writeln!(file, "runsc version {}", version.text))
        .and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supported(printed: &str) -> Result<Version, Kind> {
        Version::parse(printed).and_then(Version::supported).map_err(|e| e.kind)
    }

    #[test]
    fn releases_from_the_minimum_on_are_supported() {
        assert!(supported("runsc version release-20260905.0\nspec: 1.2.1\n").is_ok());
        assert!(supported("runsc version release-20260817.0\n").is_ok());
        assert!(supported("runsc version release-20270101.0-12-gabcdef\n").is_ok());
    }

    #[test]
    fn older_and_unnamed_builds_are_refused_with_the_minimum() {
        assert_eq!(supported("runsc version release-20260816.0\n"), Err(Kind::TooOld));
        assert_eq!(supported("runsc version release-20240729.0\n"), Err(Kind::TooOld));
        assert_eq!(supported("runsc version VERSION_MISSING\n"), Err(Kind::TooOld));
        let error = Version::parse("runsc version release-20240729.0").unwrap().supported().unwrap_err();
        assert!(error.to_string().contains("20260817"));
    }

    #[test]
    fn what_prints_something_else_is_not_runsc() {
        for printed in ["", "runc version 1.1.5", "\0\0\0", "runsc version "] {
            assert_eq!(supported(printed), Err(Kind::NotRunsc), "{printed:?}");
        }
    }

    #[test]
    fn a_version_is_remembered_for_the_same_binary_only() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("runsc");
        #[allow(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&binary, "1").unwrap();
        let version = Version::parse("runsc version release-20260905.0").unwrap();
        assert_eq!(cached(&binary, dir.path()), None);
        remember(&binary, dir.path(), &version);
        assert_eq!(cached(&binary, dir.path()), Some(version));
        #[allow(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&binary, "22").unwrap();
        assert_eq!(cached(&binary, dir.path()), None);
    }
}

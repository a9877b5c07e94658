//! What a runsc process said: its log, in memory.
//!
//! A sandbox holds a descriptor of the log of the call that made it, for life. So the log is sealed once it has been read:
//! whatever becomes of the sandbox, it writes no byte more.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::Deserialize;

/// An error stands in the last bytes; more isn't worth reading.
const TAIL: u64 = 64 << 10;

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// The log of one call.
#[derive(Debug)]
pub(super) struct CallLog(File);

impl CallLog {
    pub(super) fn new() -> io::Result<Self> {
        let file = memfd_create(c"runsc-log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        Ok(Self(file.into()))
    }

    /// To be handed to the child, which opens it by its number.
    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// The last error, if there is one. Nobody can write to the log any more.
    pub(super) fn last_error(self) -> Option<String> {
        // Fails only while somebody has it mapped to be written to, which runsc never does.
        fcntl_add_seals(self.0.as_fd(), SealFlags::GROW | SealFlags::SHRINK | SealFlags::WRITE).ok()?;
        let length = self.0.metadata().ok()?.len();
        let start = length.saturating_sub(TAIL);
        let mut tail = vec![0; usize::try_from(length - start).ok()?];
        self.0.read_exact_at(&mut tail, start).ok()?;
        last_error(&tail)
    }
}

/// Entries follow each other without anything between them (`{…}{…}`), and the first may be cut.
fn last_error(tail: &[u8]) -> Option<String> {
    let mut rest = tail;
    let mut found = None;
    while let Some(start) = rest.iter().position(|b| *b == b'{') {
        rest = &rest[start..];
        let mut entries = serde_json::Deserializer::from_slice(rest).into_iter::<Entry>();
        match entries.next() {
            Some(Ok(entry)) => {
                if entry.level == "error" && !entry.msg.is_empty() {
                    found = Some(entry.msg);
                }
                rest = &rest[entries.byte_offset()..];
            }
            _ => rest = &rest[1..],
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_need_nothing_between_them_and_the_last_error_counts() {
        let log = br#"{"msg":"a","level":"error"}{"msg":"b","level":"error"}{"msg":"c","level":"warning"}"#;
        assert_eq!(last_error(log), Some("b".into()));
    }

    #[test]
    fn a_cut_or_foreign_log_is_no_error() {
        assert_eq!(last_error(br#"rror"}{"msg":"whole","level":"error"}"#), Some("whole".into()));
        assert_eq!(last_error(b"panic: something {"), None);
        assert_eq!(last_error(br#"{"msg":"cut","#), None);
    }

    #[test]
    fn a_log_is_read_once_and_nobody_writes_to_it_afterwards() {
        let log = CallLog::new().unwrap();
        let held = log.file().try_clone().unwrap();
        held.write_all_at(br#"{"msg":"a","level":"error"}"#, 0).unwrap();
        assert_eq!(log.last_error(), Some("a".into()));
        for offset in [0, 27, 1 << 20] {
            let error = held.write_all_at(b"more", offset).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{offset}");
        }
        assert_eq!(CallLog::new().unwrap().last_error(), None);
    }
}

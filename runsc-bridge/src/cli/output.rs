//! What a runsc process said: its log, read back and truncated.

use std::{
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

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

/// The last error in the log, if there is one. Empties the log: the sandbox holds a descriptor of it for life, and
/// every call appends.
pub(super) fn take_last_error(log: &Path) -> Option<String> {
    let mut file = OpenOptions::new().read(true).write(true).open(log).ok()?;
    let length = file.metadata().ok()?.len();
    if length == 0 {
        return None;
    }
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    let read = file.by_ref().take(TAIL).read_to_end(&mut tail);
    // Appending writers go on at the new end, so nothing is lost but what was read.
    let truncated = file.set_len(0);
    read.and(truncated.map(|()| 0)).ok()?;
    last_error(&tail)
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
    fn reading_the_log_empties_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        #[allow(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&log, r#"{"msg":"a","level":"error"}"#).unwrap();
        assert_eq!(take_last_error(&log), Some("a".into()));
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
        assert_eq!(take_last_error(&log), None);
    }
}

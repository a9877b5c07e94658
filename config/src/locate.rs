//! Where in a file a key stands. Only asked for once something is wrong: files are read without their positions.

use toml::de::{DeTable, DeValue};

/// The line, counted from 1, at which the key at `path` is written; that of the nearest table around it where the key is
/// part of a longer value, `None` if it isn't in the text.
pub(crate) fn line_of(text: &str, path: &[&str]) -> Option<u32> {
    let root = DeTable::parse(text).ok()?;
    let (mut table, mut found) = (root.get_ref(), None);
    for segment in path {
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref().as_ref() == *segment) else {
            break;
        };
        found = Some(key.span().start);
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    let before = text.as_bytes().get(..found?)?;
    u32::try_from(1 + before.iter().filter(|byte| **byte == b'\n').count()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_whatever_way_it_is_written() {
        let text = "version = 1\n\n[timeout]\ndefault = \"1m\"\n# prose\nmax = \"2m\"\n[runsc.flags]\nstrace = \"x\"\n\n[pod]\n";
        for (path, line) in [
            (&["version"][..], 1),
            (&["timeout"], 3),
            (&["timeout", "max"], 6),
            (&["runsc", "flags", "strace"], 8),
            (&["pod"], 10),
        ] {
            assert_eq!(line_of(text, path), Some(line), "{path:?}");
        }
        assert_eq!(line_of("a.b.c = 1\n", &["a", "b", "c"]), Some(1));
        assert_eq!(line_of("x = 1\na = { b = 1 }\n", &["a", "b"]), Some(2));
        assert_eq!(line_of("x = 1\n", &["y"]), None);
        assert_eq!(line_of("x = ", &["x"]), None);
    }
}

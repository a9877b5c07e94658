//! A pod's annotations from a file: JSON as the pod's own metadata has it, or lines.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// More than Kubernetes lets a pod's annotations have.
const LARGEST: u64 = 1 << 20;

/// Reads `path`, or stdin for `-`.
///
/// # Errors
/// A line that says which file cannot be read, or what in it is wrong.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    let named = |reason: &dyn std::fmt::Display| format!("annotations {}: {reason}", path.display());
    let text = match path.as_os_str() == "-" {
        true => bounded(io::stdin().lock()),
        false => File::open(path).and_then(bounded),
    };
    parse(&text.map_err(|error| named(&error))?).map_err(|reason| named(&reason))
}

fn bounded(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(LARGEST + 1).read_to_string(&mut text)?;
    match text.len() as u64 > LARGEST {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {LARGEST} bytes"))),
        false => Ok(text),
    }
}

fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    if text.trim_start().starts_with('{') {
        let all: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|error| format!("not a JSON object of texts: {error}"))?;
        return Ok(all.into_iter().collect());
    }
    let mut all = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        // A value as it is, spaces and all: that is how it would reach a shim.
        let (key, value) =
            line.split_once('=').ok_or_else(|| format!("line {}: no KEY=VALUE: {line:?}", index + 1))?;
        if all.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("line {}: {key:?} is there already", index + 1));
        }
    }
    Ok(all.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn json_and_lines_say_the_same() {
        let expected = pairs(&[("a/b", "1=2 "), ("c", "")]);
        assert_eq!(parse("# a pod's\n\nc=\na/b=1=2 \n"), expected);
        assert_eq!(parse(" {\"a/b\": \"1=2 \", \"c\": \"\"}"), expected);
        assert_eq!(parse(""), pairs(&[]));
        assert_eq!(parse("{}"), pairs(&[]));
    }

    #[test]
    fn what_is_neither_is_refused_with_its_place() {
        for (text, words) in [
            ("a=1\nb\n", "line 2"),
            ("a=1\na=2\n", "line 2"),
            ("{\"a\": 1}", "line 1"),
            ("{\"a\": \"1\"", "line 1"),
            ("[\"a\"]", "line 1"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(words) && !reason.contains('\n'), "{text}: {reason}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        for path in ["/nonexistent/file", "/", "/dev/zero"] {
            let line = read(Path::new(path)).unwrap_err();
            assert!(line.starts_with(&format!("annotations {path}: ")), "{line}");
        }
    }
}

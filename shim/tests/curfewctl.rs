//! `curfewctl` as a program: what it prints, where, and how it ends.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "it starts the program that it is about, and writes its own files"
)]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// Status, stdout and stderr.
type Said = (Option<i32>, String, String);

fn curfewctl(dir: &TempDir, words: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_curfewctl"));
    command.args(words.split_whitespace()).current_dir(dir.path()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn dir_with(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn what_check_prints_is_a_file_that_makes_the_same_policy() {
    let dir = dir_with(&[
        ("base", "version = 1\n[timeout]\ndefault = \"1m\"\nmax = \"5m\""),
        ("drop-in", "[timeout]\ndefault = \"2m\""),
        ("class", "[limits]\npids = 64"),
    ]);
    let (status, policy, errors) = curfewctl(&dir, "config check base drop-in --class class");
    assert_eq!((status, &*errors), (Some(0), ""));
    for line in ["default = \"2m0s\"", "max = \"5m0s\"", "pids = 64"] {
        assert!(policy.lines().any(|written| written == line), "{line}\n{policy}");
    }
    fs::write(dir.path().join("whole"), &policy).unwrap();
    assert_eq!(curfewctl(&dir, "config check whole"), (Some(0), policy, String::new()));
}

#[test]
fn check_prints_every_error_on_a_line_of_its_own_and_nothing_else() {
    let dir = dir_with(&[
        ("base", "version = 1\nodd = 1\n[timeout]\ndefault = \"10 minutes\""),
        ("drop-in", "[limits]\nmemory = \"1e9\""),
    ]);
    let (status, policy, errors) = curfewctl(&dir, "config check base drop-in missing --class gone");
    assert_eq!((status, &*policy), (Some(1), ""));
    let lines: Vec<&str> = errors.lines().collect();
    let expected = [
        "curfewctl: missing: ",
        "curfewctl: gone: ",
        "curfewctl: base, line 2: odd: ",
        "curfewctl: base, line 4: timeout.default = \"10 minutes\": ",
        "curfewctl: drop-in, line 2: limits.memory = \"1e9\": ",
    ];
    assert_eq!(lines.len(), expected.len(), "{errors}");
    for (line, start) in lines.into_iter().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn a_class_with_a_limit_of_its_own_is_valid() {
    let dir = dir_with(&[("base", "version = 1"), ("class", "[idle]\ntimeout = \"10m\"")]);
    let (status, policy, errors) = curfewctl(&dir, "config check base --class class");
    assert_eq!((status, &*errors), (Some(0), ""));
    assert!(policy.contains("timeout = \"10m0s\""));
}

#[test]
fn explain_says_what_a_pod_gets_or_why_it_is_refused() {
    let dir = dir_with(&[
        ("base", "version = 1\n[timeout]\nraise = true"),
        ("class", "[timeout]\nmax = \"1h\""),
        ("good", "curfew.dev/timeout=2h\ncurfew.dev/pids=64\n"),
        ("json", "{\"curfew.dev/timeout\": \"2h\", \"curfew.dev/pids\": \"64\"}"),
        ("bad", "curfew.dev/timeout=2h \n"),
    ]);
    let explain =
        |file| curfewctl(&dir, &format!("config explain --config base --class class --annotations {file}"));
    let (status, table, errors) = explain("good");
    assert_eq!((status, &*errors), (Some(0), ""));
    for words in ["timeout 1h0m0s lowered from 2h0m0s by timeout.max", "pids 64 as asked"] {
        let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(lines.into_iter().any(|line| line.ends_with(words)), "{words}\n{table}");
    }
    assert_eq!(explain("json"), (Some(0), table, String::new()));
    let (status, table, errors) = explain("bad");
    assert_eq!((status, &*table, errors.lines().count()), (Some(1), "", 1));
    assert!(errors.contains("\"2h \""), "{errors}");
    assert_eq!(explain("none").0, Some(1));
}

#[test]
fn a_command_line_that_is_none_ends_with_two_and_help_with_zero() {
    let dir = dir_with(&[]);
    for words in ["", "config", "confg", "config chekc", "config check --odd", "config explain"] {
        let (status, output, errors) = curfewctl(&dir, words);
        assert_eq!((status, &*output), (Some(2), ""), "{words}: {errors}");
        assert!(!errors.is_empty());
    }
    for words in ["--help", "config --help", "config check --help", "--version"] {
        let (status, output, errors) = curfewctl(&dir, words);
        assert_eq!((status, &*errors), (Some(0), ""), "{words}");
        assert!(!output.is_empty());
    }
}

#[test]
fn the_sample_for_operators_is_valid() {
    let sample = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/config.toml");
    let (status, _, errors) = curfewctl(&dir_with(&[]), &format!("config check {}", sample.display()));
    assert_eq!((status, &*errors), (Some(0), ""));
}

#![allow(clippy::disallowed_methods, reason = "test files need not survive a crash")]

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::load;

/// Files of those texts, in a directory that has to outlive them.
fn files(base: &str, drop_ins: &[&str]) -> (TempDir, NodeFiles) {
    let dir = TempDir::new().unwrap();
    let write = |name: String, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let base = Some(write("config.toml".to_owned(), base));
    let drop_ins = drop_ins.iter().enumerate().map(|(n, text)| write(format!("{n}.toml"), text)).collect();
    (dir, NodeFiles { base, drop_ins })
}

/// The file and key of each error.
fn errors(base: &str, drop_ins: &[&str], class: Class<'_>) -> Vec<(String, String)> {
    let (_dir, files) = files(base, drop_ins);
    let found = check(&files, class).unwrap_err();
    let named = |error: &ConfigError| {
        let (file, key) = blamed(error).unwrap_or_else(|| panic!("{error}"));
        let file = file.to_string();
        (file.rsplit('/').next().unwrap_or_default().to_owned(), key.to_owned())
    };
    found.iter().map(named).collect()
}

#[test]
fn good_files_make_the_policy_that_a_shim_would_load() {
    let text = "version = 1\n[timeout]\ndefault = \"1m\"";
    let (dir, files) = files(text, &[]);
    let class = Class::Inline("[limits]\npids = 7");
    let loaded = load(&dir.path().join("config.toml"), &dir.path().join("none"), class).unwrap();
    assert_eq!(check(&files, class).unwrap(), loaded);
    assert_eq!(check(&NodeFiles::default(), Class::None).unwrap(), NodePolicy::default());
}

#[test]
fn each_wrong_value_of_each_file_is_an_error_of_its_own() {
    let found = errors(
        "version = 1\nodd = 1\n[timeout]\ndefault = \"10\"\nmax = 5\n[runsc.flags]\n\"A B\" = \"1\"",
        &["[limits]\nmemory = \"1e9\"\npids = 0", "[limits]\npids = -1\n[odd.x]\ny = 1"],
        Class::Inline("[timeout]\ngrace = \"10 minutes\"\n[capabilities]\nceiling = [\"X\", \"Y\"]"),
    );
    let mut expected = vec![
        ("config.toml", "odd"),
        ("config.toml", "timeout.max"),
        ("config.toml", "timeout.default"),
        ("config.toml", "runsc.flags.\"A B\""),
        ("0.toml", "limits.memory"),
        ("0.toml", "limits.pids"),
        ("1.toml", "limits.pids"),
        ("1.toml", "odd"),
        ("inline options", "timeout.grace"),
        ("inline options", "capabilities.ceiling"),
    ];
    let mut found: Vec<_> = found.iter().map(|(file, key)| (&**file, &**key)).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_rule_between_values_that_is_broken_is_an_error_of_its_own() {
    let found = errors(
        "version = 1\n[timeout]\nmax = \"1m\"\n[idle]\ntimeout = \"2h\"\nmax = \"1h\"\n",
        &[],
        Class::Inline(
            "[limits]\ncpu = \"64\"\nmemory = \"64Gi\"\n[exec]\nmax = \"100h\"\n[pod]\nhooks = \"allow\"",
        ),
    );
    let expected = [
        ("config.toml", "timeout.max"),
        ("config.toml", "idle.timeout"),
        ("inline options", "exec.max"),
        ("inline options", "limits.memory"),
        ("inline options", "limits.cpu"),
        ("inline options", "pod.hooks"),
    ];
    assert_eq!(found, expected.map(|(file, key)| (file.to_owned(), key.to_owned())));
}

#[test]
fn files_that_cannot_be_read_don_t_hide_what_is_wrong_with_others() {
    let (dir, mut files) = files("version = 1\n[timeout]\nmax = \"x\"", &["= ="]);
    files.drop_ins.push(dir.path().join("missing.toml"));
    files.drop_ins.push(dir.path().to_owned());
    let found = check(&files, Class::File(&dir.path().join("none.toml"))).unwrap_err();
    let kinds: Vec<bool> = [
        matches!(found[0], ConfigError::Syntax { .. }),
        matches!(found[1], ConfigError::Unreadable { .. }),
        matches!(found[2], ConfigError::NotAFile { .. }),
        matches!(found[3], ConfigError::Unreadable { .. }),
        matches!(found[4], ConfigError::Value { .. }),
    ]
    .into();
    assert_eq!((kinds, found.len()), (vec![true; 5], 5), "{found:?}");
}

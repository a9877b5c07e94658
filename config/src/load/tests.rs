#![allow(clippy::disallowed_methods, reason = "test files need not survive a crash")]

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// A directory with `config.toml`, `conf.d/` and class files.
struct Node(TempDir);

impl Node {
    fn new(base: &str) -> Self {
        let node = Self(TempDir::new().unwrap());
        fs::create_dir(node.path("conf.d")).unwrap();
        node.with("config.toml", base)
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.path(name), content).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn origin(&self, name: &str) -> Origin {
        Origin::File(self.path(name))
    }

    fn load(&self, class: Class<'_>) -> Result<NodePolicy, ConfigError> {
        load(&self.path("config.toml"), &self.path("conf.d"), class)
    }

    fn error(&self) -> ConfigError {
        self.load(Class::None).unwrap_err()
    }
}

fn inline(body: &str) -> Result<NodePolicy, ConfigError> {
    Node::new("version = 1").load(Class::Inline(body))
}

#[test]
fn without_any_file_the_built_in_defaults_hold() {
    let dir = TempDir::new().unwrap();
    let policy = load(&dir.path().join("none"), &dir.path().join("none.d"), Class::None).unwrap();
    assert_eq!(policy, NodePolicy::default());
}

#[test]
fn drop_ins_are_merged_over_the_base_in_byte_order_and_the_class_over_them() {
    let node = Node::new("version = 1\n[timeout]\ndefault = \"1m\"\nmax = \"9m\"\ngrace = \"1s\"")
        .with("conf.d/10.toml", "[timeout]\ndefault = \"2m\"\n[runsc.flags]\na = \"1\"\nb = \"1\"")
        .with("conf.d/9.toml", "version = 1\n[timeout]\ndefault = \"3m\"")
        .with("conf.d/Z.toml", "[runsc.flags]\nb = \"2\"")
        .with("conf.d/.hidden.toml", "odd = 1")
        .with("conf.d/note.txt", "odd = 1")
        .with("class.toml", "[timeout]\ngrace = \"2s\"");
    let policy = node.load(Class::File(&node.path("class.toml"))).unwrap();
    assert_eq!(policy.timeout.default, Duration::from_mins(3));
    assert_eq!(policy.timeout.max, Duration::from_mins(9));
    assert_eq!(policy.timeout.grace, Duration::from_secs(2));
    let flags: Vec<_> = policy.runsc.flags.into_iter().collect();
    assert_eq!(flags, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
}

#[test]
fn a_class_file_that_is_missing_is_refused() {
    let node = Node::new("version = 1");
    let path = node.path("none.toml");
    let error = node.load(Class::File(&path)).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { file, reason }
        if file == path && reason.kind() == io::ErrorKind::NotFound));
}

#[test]
fn a_link_to_nothing_is_not_a_missing_file() {
    let node = Node::new("");
    fs::remove_file(node.path("config.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", node.path("config.toml")).unwrap();
    assert!(matches!(node.error(), ConfigError::Unreadable { .. }));
}

#[test]
fn a_file_in_the_drop_in_directorys_place_is_refused() {
    let node = Node::new("version = 1");
    fs::remove_dir(node.path("conf.d")).unwrap();
    let node = node.with("conf.d", "");
    assert!(matches!(node.error(), ConfigError::Unreadable { .. }));
}

#[test]
fn directories_and_fifos_are_refused() {
    let node = Node::new("version = 1");
    fs::create_dir(node.path("conf.d/x.toml")).unwrap();
    assert!(matches!(node.error(), ConfigError::NotAFile { file } if file == node.path("conf.d/x.toml")));
    let error = node.load(Class::File(node.0.path())).unwrap_err();
    assert!(matches!(error, ConfigError::NotAFile { .. }));
    let error = load(Path::new("/dev/zero"), &node.path("none.d"), Class::None).unwrap_err();
    assert!(matches!(error, ConfigError::NotAFile { .. }));
}

#[test]
fn a_file_is_a_mebibyte_at_most() {
    let filled = |bytes: usize| {
        let start = "version = 1\n#";
        format!("{start}{}", "x".repeat(bytes - start.len()))
    };
    assert!(Node::new(&filled(1 << 20)).load(Class::None).is_ok());
    let node = Node::new(&filled((1 << 20) + 1));
    assert!(matches!(node.error(), ConfigError::TooLarge { file, .. } if file == node.origin("config.toml")));
    let error = inline(&filled((1 << 20) + 1)).unwrap_err();
    assert!(matches!(error, ConfigError::TooLarge { file: Origin::Inline, .. }));
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let node = Node::new("version = 1").with("conf.d/a.toml", b"# \xff");
    assert!(matches!(node.error(), ConfigError::NotUtf8 { file } if file == node.path("conf.d/a.toml")));
}

#[test]
fn a_syntax_error_names_file_and_line() {
    let node = Node::new("version = 1").with("conf.d/a.toml", "[timeout]\nraise = true\nmax = = 1\n");
    assert!(matches!(node.error(), ConfigError::Syntax { file, line: 3, .. }
        if file == node.origin("conf.d/a.toml")));
    let error = inline("[timeout]\nmax = \"1m\"\nmax = \"1m\"").unwrap_err();
    assert!(matches!(error, ConfigError::Syntax { file: Origin::Inline, line: 3, .. }));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let depth = 200_000;
    let bodies = [
        format!("{}a = 1", "a.".repeat(depth)),
        format!("[{}a]", "a.".repeat(depth)),
        format!("[[{}a]]", "a.".repeat(depth)),
        format!("a = {}", "[".repeat(depth)),
        format!("a = {}", "{a=".repeat(depth)),
    ];
    for body in bodies {
        assert!(inline(&body).is_err());
    }
}

#[test]
fn only_version_1_is_known() {
    for version in ["0", "2", "\"1\"", "1.0", "[1]", "{ a = 1 }"] {
        let node = Node::new("version = 1").with("conf.d/a.toml", format!("version = {version}"));
        let error = node.error();
        let ConfigError::Value { file, key, fault, .. } = error else { panic!("{error:?}") };
        assert_eq!((file, &*key), (node.origin("conf.d/a.toml"), "version"));
        assert_eq!(fault, Fault::NotOneOf { known: vec!["1"] });
    }
}

#[test]
fn the_base_file_must_say_its_version() {
    let node = Node::new("[timeout]\n");
    assert!(matches!(node.error(), ConfigError::NoVersion { file } if file == node.origin("config.toml")));
}

#[test]
fn unknown_keys_are_refused_with_their_file_and_path() {
    for (text, path) in [
        ("odd = 1", "odd"),
        ("[odd]", "odd"),
        ("[timeout]\nodd = 1", "timeout.odd"),
        ("[timeout]\n\"o d\" = 1", "timeout.\"o d\""),
        ("TypeUrl = \"x\"", "TypeUrl"),
    ] {
        let node = Node::new("version = 1").with("conf.d/a.toml", text);
        let error = node.error();
        let ConfigError::Shape { file, key, .. } = error else { panic!("{error:?}") };
        assert_eq!((file, &*key), (node.origin("conf.d/a.toml"), path));
    }
}

#[test]
fn values_of_the_wrong_type_are_refused_with_their_file_and_path() {
    for (text, path) in [
        ("timeout = 5", "timeout"),
        ("timeout.default = 600", "timeout.default"),
        ("timeout.max = 1.5", "timeout.max"),
        ("timeout.raise = \"yes\"", "timeout.raise"),
        ("[runsc.flags]\na = true", "runsc.flags.a"),
        ("[calls.create]\nx = 1", "calls.create"),
        ("[[calls]]", "calls"),
        ("protocol = [3]", "protocol"),
        ("calls = []", "calls"),
    ] {
        let node = Node::new("version = 1\n[timeout]\ndefault = \"1m\"").with("conf.d/a.toml", text);
        let error = node.error();
        let ConfigError::Shape { file, key, .. } = error else { panic!("{error:?}") };
        assert_eq!((file, &*key), (node.origin("conf.d/a.toml"), path));
    }
}

#[test]
fn a_wrong_value_is_blamed_on_the_file_that_wrote_it() {
    let node = Node::new("version = 1\n[timeout]\ndefault = \"10\"")
        .with("conf.d/a.toml", "[timeout]\nmax = \"1h\"");
    assert!(matches!(node.error(), ConfigError::Value { file, .. } if file == node.origin("config.toml")));
    let node = node.with("conf.d/b.toml", "[timeout]\ndefault = \"11\"");
    assert!(matches!(node.error(), ConfigError::Value { file, value, .. }
        if file == node.origin("conf.d/b.toml") && value == "11"));
}

#[test]
fn the_nodes_files_must_be_valid_without_the_class() {
    let node = Node::new("version = 1\n[timeout]\ndefault = \"10\"");
    let error = node.load(Class::Inline("[timeout]\ndefault = \"10m\"")).unwrap_err();
    assert!(matches!(error, ConfigError::Value { file, .. } if file == node.origin("config.toml")));
}

#[test]
fn containerds_own_keys_are_ignored_at_the_top_of_an_inline_body_only() {
    let body = "TypeUrl = \"a\"\nCONFIGPATH = 1\n[timeout]\ndefault = \"1m\"";
    assert_eq!(inline(body).unwrap().timeout.default, Duration::from_mins(1));
    assert_eq!(inline("").unwrap(), NodePolicy::default());
    for body in ["type_url = \"a\"", "[timeout]\nTypeUrl = \"a\"", "ConfigBody = \"a\""] {
        assert!(matches!(inline(body), Err(ConfigError::Shape { file: Origin::Inline, .. })));
    }
}

#[test]
fn a_class_file_that_is_bad_in_any_way_is_refused_in_one_line_with_its_name() {
    let node = Node::new("version = 1\n[timeout]\nmax = \"1h\"");
    let path = node.path("class.toml");
    let refused = |rule: &str| {
        let line = node.load(Class::File(&path)).unwrap_err().to_string();
        assert!(!line.contains('\n') && line.len() < 1000, "{line}");
        assert!(line.starts_with(&path.display().to_string()) && line.contains(rule), "{rule}: {line}");
    };
    refused("No such file");
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    refused("No such file");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("class.toml", &path).unwrap();
    refused("symbolic links");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("not a regular file");
    fs::remove_dir(&path).unwrap();
    for (text, rule) in [
        ("x".repeat(10 << 20), "longer than 1048576 bytes"),
        ("no toml at all".to_owned(), "line 1"),
        ("\u{0}\u{1}\u{2}".to_owned(), "line 1"),
        ("[timeout]\ndefualt = \"1m\"".to_owned(), "timeout.defualt"),
        ("[tiemout]".to_owned(), "tiemout"),
        ("[timeout]\ndefault = \"-1s\"".to_owned(), "never negative"),
        ("[timeout]\ndefault = -1".to_owned(), "timeout.default"),
        ("[timeout]\ndefault = \"99999999999999999999h\"".to_owned(), "too long"),
        ("[timeout]\ndefault = \"10000h\"".to_owned(), "at most 8760h"),
        ("[timeout]\ndefault = \"10 minutes\"".to_owned(), "\"10 minutes\""),
        ("[timeout]\ndefault = \"1e9\"".to_owned(), "\"1e9\""),
        ("[timeout]\ndefault = \"1e9s\"".to_owned(), "\"1e9s\""),
        ("[limits]\nmemory = \"1e9\"".to_owned(), "\"1e9\""),
        ("[timeout]\nmax = \"2h\"".to_owned(), "timeout.max = 2h0m0s"),
        ("[limits]\nmemory = \"3Gi\"".to_owned(), "limits.memory"),
        ("[idle]\nmax = \"25h\"".to_owned(), "idle.max"),
        ("[pod]\nprivileged = \"allow\"".to_owned(), "pod.privileged"),
    ] {
        fs::write(&path, text).unwrap();
        refused(rule);
    }
}

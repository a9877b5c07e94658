use std::path::Path;

use super::*;
use crate::error::Origin;
use crate::merge::Layer;
use crate::policy::Timeout;
use crate::{Class, load};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// Loads a class over the built-in defaults: default 10m, max 24h, grace 5s, max_grace 30s.
fn class(body: &str) -> Result<NodePolicy, ConfigError> {
    load(
        Path::new("/nonexistent/a"),
        Path::new("/nonexistent/b"),
        Class::Inline(&format!("[timeout]\n{body}")),
    )
}

#[test]
fn a_class_may_tighten() {
    let timeout = class("max = \"1h\"\nmax_grace = \"10s\"\ndefault = \"1m\"").unwrap().timeout;
    assert_eq!((timeout.default, timeout.max, timeout.max_grace), (MINUTE, 60 * MINUTE, 10 * SECOND));
    assert!(class("max = \"24h\"\nmax_grace = \"30s\"").is_ok());
}

#[test]
fn a_class_may_change_what_is_no_ceiling() {
    let timeout = class("default = \"24h\"\nraise = true\ngrace = \"30s\"").unwrap().timeout;
    assert!(timeout.raise);
    assert_eq!(timeout.default, 24 * 60 * MINUTE);
}

#[test]
fn a_class_that_loosens_a_ceiling_is_refused_with_both_values() {
    for (body, key, node) in [
        ("max = \"25h\"", "timeout.max", 24 * 60 * MINUTE),
        ("max_grace = \"31s\"", "timeout.max_grace", 30 * SECOND),
    ] {
        assert!(matches!(class(body), Err(ConfigError::Loosened {
            file: Origin::Inline, node_file: Origin::BuiltIn, key: named, node: named_node, ..
        }) if named == key && named_node == node));
    }
}

#[test]
fn an_inherited_default_follows_a_lowered_ceiling() {
    let timeout = class("max = \"1m\"\nmax_grace = \"1s\"").unwrap().timeout;
    assert_eq!((timeout.default, timeout.grace), (MINUTE, SECOND));
    let timeout = class("max = \"1h\"\nmax_grace = \"10s\"").unwrap().timeout;
    assert_eq!((timeout.default, timeout.grace), (10 * MINUTE, 5 * SECOND));
}

#[test]
fn a_class_that_contradicts_itself_is_refused() {
    for (body, key, ceiling_key) in [
        ("max = \"1m\"\ndefault = \"2m\"", "timeout.default", "timeout.max"),
        ("default = \"25h\"", "timeout.default", "timeout.max"),
        ("max_grace = \"1s\"\ngrace = \"2s\"", "timeout.grace", "timeout.max_grace"),
        ("grace = \"31s\"", "timeout.grace", "timeout.max_grace"),
    ] {
        assert!(matches!(class(body), Err(ConfigError::AboveCeiling {
            file: Origin::Inline, key: low, ceiling_key: high, ..
        }) if low == key && high == ceiling_key));
    }
}

#[test]
fn in_the_nodes_own_files_no_default_follows() {
    let origin = Origin::File("config.toml".into());
    let table = "[timeout]\nmax = \"1m\"".parse().unwrap();
    let layers =
        Layers { node: vec![Layer { origin: origin.clone(), table, text: String::new() }], class: None };
    let timeout = Timeout { max: MINUTE, ..Timeout::default() };
    let policy = NodePolicy { timeout, ..NodePolicy::default() };
    assert!(matches!(check_order(&policy, &layers), Err(ConfigError::AboveCeiling {
        file: Origin::BuiltIn, ceiling_file, value, ceiling, ..
    }) if ceiling_file == origin && &*value == "10m0s" && &*ceiling == "1m0s"));
}

#[test]
fn a_class_may_forbid_a_logger_and_not_allow_it() {
    let allowed = "[pod]\nbinary_logger = true";
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("config.toml");
    let load_class = |body| load(&base, Path::new("/nonexistent"), Class::Inline(body));
    let error = load_class(allowed).unwrap_err();
    assert!(matches!(error, ConfigError::Looser { node_file: Origin::BuiltIn, .. }), "{error}");
    #[allow(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(&base, format!("version = 1\n{allowed}")).unwrap();
    assert!(load_class("").unwrap().pod.binary_logger);
    assert!(load_class(allowed).unwrap().pod.binary_logger);
    assert!(!load_class("[pod]\nbinary_logger = false").unwrap().pod.binary_logger);
}

#[test]
fn a_class_lets_out_nothing_that_the_node_keeps_in() {
    let over_built_in =
        |body: &str| load(Path::new("/nonexistent/a"), Path::new("/nonexistent/b"), Class::Inline(body));
    for (section, looser, tighter) in [
        ("limits", "memory = \"2049Mi\"", "memory = \"1Gi\""),
        ("checkpoint", "max_size = \"5Gi\"", "max_size = \"1Gi\""),
        ("checkpoint", "dir = \"/etc\"", ""),
        ("limits", "cpu = \"2.001\"", "cpu = \"500m\""),
        ("limits", "pids = 513", "pids = 512"),
        ("limits", "shm = \"1025Mi\"", "shm = \"32Mi\""),
        ("pod", "privileged = \"allow\"", "no_new_privs = \"always\""),
        ("pod", "host_path = \"allow\"", "host_namespaces = \"ignore\""),
        ("pod", "hooks = \"allow\"", "hooks = \"refuse\""),
        ("capabilities", "ceiling = [\"SYS_ADMIN\"]", "ceiling = []"),
        ("annotations", "allow = [\"dev.gvisor.flag.debug\"]", "allow = []"),
        ("mounts", "kubelet = \"/home\"", "containerd = []"),
        ("mounts", "containerd = [\"/etc\"]", "containerd = [\"/run/containerd\"]"),
        ("seccomp", "outer = \"log\"", "outer = \"enforce\""),
        ("seccomp", "io_uring = true", "guest = \"pod\""),
    ] {
        let error = over_built_in(&format!("[{section}]\n{looser}")).unwrap_err();
        assert!(matches!(error, ConfigError::Looser { file: Origin::Inline, .. }), "{looser}: {error}");
        over_built_in(&format!("[{section}]\n{tighter}")).unwrap();
    }
}

#[test]
fn a_pod_is_written_to_a_place_that_the_node_names_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("config.toml");
    let load_class = |body: &str| load(&base, Path::new("/nonexistent"), Class::Inline(body));
    let checkpoint = "[timeout]\non_timeout = \"checkpoint\"";
    let error = load_class(checkpoint).unwrap_err();
    let text = "inline options: timeout.on_timeout = \"checkpoint\" needs checkpoint.dir, which isn't set";
    assert_eq!(error.to_string(), text);
    #[allow(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(&base, "version = 1\n[checkpoint]\ndir = \"/c\"").unwrap();
    let policy = load_class(checkpoint).unwrap();
    assert_eq!(policy.checkpoint.dir.as_deref(), Some(Path::new("/c")));
    assert!(matches!(load_class("[checkpoint]\ndir = \"/d\""), Err(ConfigError::Looser { .. })));
}

const OPT_IN: [(&str, &str, &str); 3] =
    [("idle", "timeout", "24h"), ("cpu_budget", "default", "48h"), ("exec", "timeout", "24h")];

#[test]
fn a_limit_that_the_node_has_set_can_be_changed_by_a_class_and_not_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("config.toml");
    let load_class = |body: &str| load(&base, Path::new("/nonexistent"), Class::Inline(body));
    for (section, key, _) in OPT_IN {
        #[allow(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&base, format!("version = 1\n[{section}]\n{key} = \"10m\"")).unwrap();
        for (value, fine) in [("1m", true), ("20m", true), ("off", false)] {
            match load_class(&format!("[{section}]\n{key} = \"{value}\"")) {
                Ok(_) => assert!(fine, "{section}.{key} = {value}"),
                Err(error) => {
                    assert!(!fine && matches!(error, ConfigError::Looser { .. }), "{error}");
                    assert!(error.to_string().contains("10m0s"), "{error}");
                }
            }
        }
        // Inherited, it follows a lowered ceiling.
        let policy = load_class(&format!("[{section}]\nmax = \"5m\"")).unwrap();
        let pod = policy.for_pod([]).unwrap();
        assert_eq!(pod.opt_in().into_iter().find_map(|(_, limit)| limit), Some(5 * MINUTE));
    }
}

#[test]
fn a_class_may_set_a_limit_that_is_off_and_not_raise_its_ceiling() {
    let over_built_in =
        |body: &str| load(Path::new("/nonexistent/a"), Path::new("/nonexistent/b"), Class::Inline(body));
    for (section, key, max) in OPT_IN {
        over_built_in(&format!("[{section}]\n{key} = \"{max}\"")).unwrap();
        let error = over_built_in(&format!("[{section}]\nmax = \"8760h\"")).unwrap_err();
        assert!(matches!(error, ConfigError::Loosened { .. }), "{error}");
        let error = over_built_in(&format!("[{section}]\n{key} = \"2h\"\nmax = \"1h\"")).unwrap_err();
        assert!(matches!(error, ConfigError::AboveCeiling { .. }), "{error}");
    }
}

#[test]
fn the_default_shm_stays_under_the_most_there_is() {
    let over_built_in =
        |body: &str| load(Path::new("/nonexistent/a"), Path::new("/nonexistent/b"), Class::Inline(body));
    let limits = over_built_in("[limits]\nshm = \"32Mi\"").unwrap().limits;
    assert_eq!((limits.shm, limits.shm_default), (32 << 20, 32 << 20));
    let error = over_built_in("[limits]\nshm = \"32Mi\"\nshm_default = \"33Mi\"").unwrap_err();
    let line = error.to_string();
    assert!(line.contains("limits.shm_default = 33Mi is above limits.shm = 32Mi"), "{line}");
}

#[test]
fn a_class_gets_no_more_of_the_hosts_network_or_disk_than_the_node_gives() {
    let runsc = |class: &str, node: &str| {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("config.toml");
        #[allow(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&base, format!("version = 1\n[runsc]\n{node}\n")).unwrap();
        load(&base, Path::new("/nonexistent/b"), Class::Inline(&format!("[runsc]\n{class}")))
    };
    let network = |name: &str| format!("network = {name:?}");
    let overlay = |text: &str| format!("overlay2 = {text:?}");
    for (class, node, fine) in [
        (network("none"), network("sandbox"), true),
        (network("sandbox"), network("host"), true),
        (network("host"), network("sandbox"), false),
        (network("sandbox"), network("none"), false),
        (overlay("all:memory"), overlay("root:memory,size=1m"), true),
        (overlay("root:memory"), overlay("none"), true),
        (overlay("none"), overlay("root:memory"), false),
        (overlay("root:self"), overlay("root:memory"), false),
        (overlay("root:self,size=1k"), overlay("root:memory"), false),
        (overlay("root:self,size=1024m"), overlay("root:dir=/a/b,size=1g"), true),
        (overlay("root:self,size=1025M"), overlay("root:dir=/a/b,size=1G"), false),
        (overlay("root:self,size=99999999999g"), overlay("root:self"), true),
    ] {
        match runsc(&class, &node) {
            Ok(_) => assert!(fine, "{class} over {node}"),
            Err(error) => assert!(!fine && matches!(error, ConfigError::Looser { .. }), "{class}: {error}"),
        }
    }
}

use super::*;
use crate::error::Origin;
use crate::merge::Layer;
use crate::units::DurationError;

fn read(text: &str) -> Result<NodePolicy, ConfigError> {
    let layer = Layer { origin: Origin::Inline, table: text.parse().unwrap(), text: text.to_owned() };
    let layers = Layers { node: vec![layer], class: None };
    node_policy(FileConfig::from_layers(&layers)?, &layers)
}

/// `[section] key = value` as TOML writes it.
fn line(section: &str, key: &str, value: &str) -> String {
    format!("[{section}]\n{key:?} = {}", toml::Value::from(value))
}

/// The rule that `[section] key = value` breaks, after checking that the error names the key and the file.
fn fault(section: &str, key: &str, value: &str) -> Fault {
    let error = read(&line(section, key, value)).unwrap_err();
    let ConfigError::Value { file: Origin::Inline, line: Some(_), key: named, value: shown, fault } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((&*named, &*shown), (&*format!("{section}.{key}"), value));
    fault
}

/// The key of a value that is refused.
fn refused_key(text: &str) -> String {
    let error = read(text).unwrap_err();
    let ConfigError::Value { key, .. } = error else { panic!("{text}: {error}") };
    key
}

fn is_fine(section: &str, key: &str, value: &str) {
    read(&line(section, key, value)).unwrap();
}

#[test]
fn durations_are_read_everywhere_by_the_same_grammar() {
    for (section, key) in [("timeout", "default"), ("state", "retention"), ("calls", "probe")] {
        is_fine(section, key, "90s");
        assert_eq!(fault(section, key, "10"), Fault::Duration(DurationError::NoUnit));
        assert_eq!(fault(section, key, "0s"), Fault::Zero);
    }
}

#[test]
fn grace_alone_may_be_zero() {
    is_fine("timeout", "grace", "0s");
    assert_eq!(fault("timeout", "max_grace", "0s"), Fault::Zero);
}

#[test]
fn lives_graces_and_retention_are_a_year_at_most() {
    let keys = ["timeout.default", "timeout.max", "timeout.grace", "timeout.max_grace", "state.retention"];
    for key in keys {
        let (section, key) = key.split_once('.').unwrap();
        is_fine(section, key, "8760h");
        assert_eq!(fault(section, key, "8760h1ns"), Fault::TooLong { most: LONGEST });
    }
}

#[test]
fn call_limits_are_between_a_tenth_of_a_second_and_ten_minutes() {
    for key in ["create", "start", "signal", "delete", "probe", "checkpoint", "state"] {
        is_fine("calls", key, "100ms");
        is_fine("calls", key, "10m");
        assert_eq!(fault("calls", key, "99ms"), Fault::TooShort { least: SHORTEST_CALL });
        assert_eq!(fault("calls", key, "10m1ns"), Fault::TooLong { most: LONGEST_CALL });
    }
}

#[test]
fn paths_are_absolute_and_normal() {
    for key in ["state.dir", "state.ledger", "runsc.path", "runsc.debug_dir"] {
        let (section, key) = key.split_once('.').unwrap();
        is_fine(section, key, "/a/b-c/..d");
        for text in ["", "a", "./a", "~/a"] {
            assert_eq!(fault(section, key, text), Fault::NotAbsolute);
        }
        for text in ["/", "/a/", "//a", "/a//b", "/./a", "/a/..", "/a/../b", "/a\0b", "/a\nb"] {
            assert_eq!(fault(section, key, text), Fault::NotNormal);
        }
    }
}

#[test]
fn the_state_dir_leaves_room_for_socket_names() {
    is_fine("state", "dir", &format!("/{}", "x".repeat(63)));
    let too_long = Fault::PathTooLong { most: 64 };
    assert_eq!(fault("state", "dir", &format!("/{}", "x".repeat(64))), too_long);
    assert_eq!(fault("state", "dir", &format!("/{}", "é".repeat(32))), too_long);
    is_fine("state", "ledger", &format!("/{}", "x".repeat(64)));
}

#[test]
fn overlay2_is_one_of_runscs_forms() {
    let fine = ["none", "root:memory", "all:memory", "root:self", "all:self,size=1", "root:memory,size=512m"];
    let fine_dirs = ["root:dir=/var/tmp,size=1", "all:dir=/var/tmp,size=2G"];
    for text in fine.into_iter().chain(fine_dirs) {
        is_fine("runsc", "overlay2", text);
    }
    let refused = [
        "",
        "memory",
        "root",
        "root:",
        "root:disk",
        "sub:memory",
        "none:memory",
        "none,size=1g",
        "root:memory,",
        "root:memory,size=",
        "root:memory,size=g",
        "root:memory,size=1t",
        "root:memory,size=1g,size=1g",
        "root:memory,mode=1",
        "root:memory ",
        "root:dir=/a",
        "root:dir=,size=1",
        "root:dir=tmp,size=1",
        "root:dir=/,size=1",
        "root:dir=/a/../b,size=1",
        "root:dir=/a:b,size=1",
        "root:dir=/a,b,size=1",
        "root:dir=/a,size=1,b",
    ];
    for text in refused {
        assert_eq!(fault("runsc", "overlay2", text), Fault::Overlay, "{text}");
    }
}

#[test]
fn flags_are_names_without_dashes_and_values_on_one_line() {
    for name in ["host-uds", "0", "a--b-"] {
        is_fine("runsc.flags", name, "");
    }
    for name in ["", "-a", "--a", "A", "a_b", "a=b", "ö", "a.b"] {
        let error = read(&format!("[runsc.flags]\n{name:?} = \"x\"")).unwrap_err();
        let ConfigError::Value { fault, file: Origin::Inline, .. } = error else { panic!("{error:?}") };
        assert_eq!(fault, Fault::FlagName);
    }
    for value in ["a\nb", "a\0"] {
        assert_eq!(fault("runsc.flags", "a", value), Fault::FlagValue);
    }
}

#[test]
fn each_platform_and_network_is_read_by_its_name() {
    for platform in Platform::ALL {
        let policy = read(&format!("[runsc]\nplatform = {:?}", platform.as_str())).unwrap();
        assert_eq!(policy.runsc.platform, platform);
    }
    for network in Network::ALL {
        let policy = read(&format!("[runsc]\nnetwork = {:?}", network.as_str())).unwrap();
        assert_eq!(policy.runsc.network, network);
    }
    assert_eq!(fault("runsc", "network", "Host"), Fault::NotOneOf { known: vec!["sandbox", "none", "host"] });
    assert_eq!(fault("runsc", "platform", ""), Fault::NotOneOf { known: vec!["systrap", "kvm", "ptrace"] });
}

#[test]
fn what_becomes_of_a_pod_is_one_of_the_known_ways() {
    is_fine("timeout", "on_timeout", "checkpoint");
    for value in ["hold", "Kill"] {
        assert_eq!(
            fault("timeout", "on_timeout", value),
            Fault::NotOneOf { known: vec!["kill", "checkpoint"] }
        );
    }
    assert_eq!(fault("checkpoint", "dir", "relative"), Fault::NotAbsolute);
    assert!(matches!(fault("checkpoint", "max_size", "4 GB"), Fault::Quantity(_)));
    is_fine("timeout", "on_shim_loss", "hold");
    assert_eq!(
        fault("timeout", "on_shim_loss", "checkpoint"),
        Fault::NotOneOf { known: vec!["kill", "hold"] }
    );
}

#[test]
fn the_protocol_is_version_2_or_3() {
    for version in [2, 3] {
        let policy = read(&format!("[protocol]\nversion = {version}")).unwrap();
        assert_eq!(policy.protocol.version, version);
    }
    for version in ["1", "4", "-2", "9223372036854775807"] {
        let error = read(&format!("[protocol]\nversion = {version}")).unwrap_err();
        let ConfigError::Value { key, value, fault, .. } = error else { panic!("{error:?}") };
        assert_eq!((&*key, &*value), ("protocol.version", version));
        assert_eq!(fault, Fault::NotOneOf { known: vec!["2", "3"] });
    }
}

#[test]
fn limits_are_quantities_in_their_ranges() {
    let limits = read("[limits]\nmemory = \"1.5Gi\"\ncpu = \"1500m\"\npids = 1").unwrap().limits;
    assert_eq!((limits.memory, limits.cpu, limits.pids), (3 << 29, 1500, 1));
    assert_eq!(read("[limits]\nlog_size = \"10M\"").unwrap().limits.log_size, Some(10_000_000));
    for bad in [
        "memory = \"31Mi\"",
        "memory = \"2Pi\"",
        "memory = \"1e9\"",
        "memory = \"-1\"",
        "cpu = \"9m\"",
        "cpu = \"1001\"",
        "pids = 0",
        "pids = -1",
        "pids = 4194305",
        "log_size = \"0\"",
    ] {
        let key = bad.split_once(' ').unwrap().0;
        assert_eq!(refused_key(&format!("[limits]\n{bad}")), format!("limits.{key}"), "{bad}");
    }
}

#[test]
fn lists_are_sorted_and_each_entry_is_checked() {
    let policy = read("[capabilities]\nceiling = [\"KILL\", \"CAP_CHOWN\", \"KILL\"]").unwrap();
    assert_eq!(policy.capabilities.ceiling, ["CAP_CHOWN", "CAP_KILL"]);
    for (text, key) in [
        ("[capabilities]\nceiling = [\"ALL\"]", "capabilities.ceiling"),
        ("[capabilities]\nceiling = [\"cap_kill\"]", "capabilities.ceiling"),
        ("[annotations]\nallow = [\"dev.gvisor.*\"]", "annotations.allow"),
        ("[annotations]\nallow = [\"\"]", "annotations.allow"),
        ("[mounts]\ncontainerd = [\"relative\"]", "mounts.containerd"),
        ("[mounts]\nkubelet = \"/\"", "mounts.kubelet"),
        ("[pod]\nhost_network = \"yes\"", "pod.host_network"),
        ("[pod]\nhost_namespaces = \"allow\"", "pod.host_namespaces"),
        ("[seccomp]\nouter = \"kill\"", "seccomp.outer"),
        ("[seccomp]\nguest = \"none\"", "seccomp.guest"),
    ] {
        assert_eq!(refused_key(text), key, "{text}");
    }
}

#[test]
fn a_limit_that_nobody_has_to_set_is_off_or_a_duration() {
    for (section, key) in [("idle", "timeout"), ("cpu_budget", "default"), ("exec", "timeout")] {
        is_fine(section, key, "off");
        is_fine(section, key, "90s");
        assert_eq!(fault(section, key, "0s"), Fault::Zero);
        for text in ["", "Off", "off ", "none", "never", "-1s", "10 minutes", "1e9"] {
            assert!(matches!(fault(section, key, text), Fault::Duration(_)), "{text:?}");
        }
        assert_eq!(fault(section, "max", "8760h1ns"), Fault::TooLong { most: LONGEST });
        assert!(matches!(fault(section, "max", "off"), Fault::Duration(_)));
    }
}

#[test]
fn shm_has_a_page_at_least() {
    for key in ["shm", "shm_default"] {
        is_fine("limits", key, "4Ki");
        is_fine("limits", key, "1Pi");
        for text in ["0", "4095", "2Pi"] {
            assert!(matches!(fault("limits", key, text), Fault::OutOfRange { .. }), "{text}");
        }
    }
}

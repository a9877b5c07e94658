use std::collections::BTreeSet;

use curfew_config::{NodePolicy, Permission};

use super::super::tests::{confined_for, own_namespaces};
use super::*;
use crate::pod::group::Role;

fn policy() -> NodePolicy {
    let mut policy = NodePolicy::default();
    policy.seccomp.guest = GuestProfile::RuntimeDefault;
    policy
}

fn spec(capabilities: &[&str], seccomp: Value) -> Value {
    json!({
        "process": { "capabilities": { "bounding": capabilities } },
        "linux": { "namespaces": own_namespaces(), "seccomp": seccomp },
    })
}

fn profile(spec: Value, policy: &NodePolicy) -> Value {
    confined_for(spec, policy, &Role::Plain, None).unwrap()["linux"]["seccomp"].clone()
}

/// What a profile says of a call with arguments that no rule looks at or that all of them fit.
fn action(profile: &Value, call: &str) -> String {
    let rules = profile["syscalls"].as_array().unwrap();
    let fits = |rule: &&Value| {
        let names = rule["names"].as_array().unwrap();
        names.contains(&json!(call)) && rule["args"].as_array().is_none_or(Vec::is_empty)
    };
    let found = rules.iter().find(fits).map_or(&profile["defaultAction"], |rule| &rule["action"]);
    found.as_str().unwrap().to_owned()
}

#[test]
fn every_name_is_a_system_call_and_there_once() {
    let mut seen = BTreeSet::new();
    let privileged = PRIVILEGED.iter().map(|(_, names)| *names);
    for name in ALLOWED.iter().map(|(_, names)| *names).chain(privileged).chain([DENIED]).flat_map(words) {
        assert!(seen.insert(name), "{name}");
        let filter = json!({ "thread": {
            "mismatch_action": "allow", "match_action": "trap", "filter": [{ "syscall": name }],
        } });
        let compiled =
            seccompiler::compile_from_json(filter.to_string().as_bytes(), seccompiler::TargetArch::x86_64);
        assert!(compiled.is_ok(), "{name}: {compiled:?}");
    }
    assert!(seen.len() > 250);
    // Their flags are looked at, or cannot be.
    assert!(["clone", "clone3", "personality"].iter().all(|name| !seen.contains(name)));
}

#[test]
fn a_spec_without_a_profile_gets_the_nodes_where_the_node_says_so() {
    let profile = profile(spec(&["CAP_CHOWN"], Value::Null), &policy());
    for (call, expected) in [
        ("read", ALLOW),
        ("execve", ALLOW),
        ("mount", DENY),
        ("ptrace", DENY),
        ("unshare", DENY),
        ("keyctl", DENY),
        ("chroot", DENY),
        ("clone", DENY),
        ("clone3", MISSING),
        ("io_uring_setup", MISSING),
        ("no_such_call", MISSING),
    ] {
        assert_eq!(action(&profile, call), expected, "{call}");
    }
    let none = confined_for(spec(&[], Value::Null), &NodePolicy::default(), &Role::Plain, None).unwrap();
    assert_eq!(none["linux"]["seccomp"], Value::Null);
}

#[test]
fn who_has_a_capability_may_make_its_calls() {
    let mut policy = policy();
    policy.capabilities.ceiling =
        ["ADMIN", "PTRACE", "CHROOT", "TIME"].iter().map(|name| format!("CAP_SYS_{name}")).collect();
    for (capability, call) in [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone"),
        ("CAP_SYS_ADMIN", "bpf"),
        ("CAP_SYS_PTRACE", "ptrace"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_TIME", "settimeofday"),
    ] {
        let with = profile(spec(&[capability], Value::Null), &policy);
        assert_eq!(action(&with, call), ALLOW, "{call}");
        assert_eq!(action(&with, "clone3"), MISSING);
        let without = profile(spec(&["CAP_CHOWN"], Value::Null), &policy);
        assert_eq!(action(&without, call), DENY, "{call}");
    }
    // One that the node's ceiling has taken away counts for nothing.
    let cut = profile(spec(&["CAP_SYS_BOOT"], Value::Null), &policy);
    assert_eq!(action(&cut, "reboot"), DENY);
}

#[test]
fn whoever_may_be_privileged_has_no_profile_but_its_own() {
    let mut policy = policy();
    policy.pod.privileged = Permission::Allow;
    let all = ["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_BOOT"];
    assert_eq!(profile(spec(&all, Value::Null), &policy), Value::Null);
    let own = json!({ "defaultAction": ALLOW, "syscalls": [] });
    assert_eq!(profile(spec(&all, own.clone()), &policy), own);
}

#[test]
fn a_profile_of_the_pods_stays_as_it_is_but_for_calls_that_it_says_are_missing() {
    let rule = |name: &str, action: &str| json!({ "names": [name], "action": action });
    let with_error = |name: &str, error: u64| {
        let mut rule = rule(name, DENY);
        rule["errnoRet"] = json!(error);
        rule
    };
    let own = json!({ "defaultAction": DENY, "syscalls": [rule("read", ALLOW), with_error("write", 13)] });
    assert_eq!(profile(spec(&[], own.clone()), &policy()), own);

    let own = json!({ "defaultAction": DENY, "syscalls": [with_error("clone3", 38), rule("ptrace", ALLOW)] });
    let kept = profile(spec(&[], own), &policy());
    let [first, second] = no_tracer();
    let rules = json!([first, second, rule("clone3", MISSING), rule("ptrace", ALLOW)]);
    assert_eq!(kept, json!({ "defaultAction": DENY, "syscalls": rules }));
    assert_eq!(profile(spec(&[], kept.clone()), &policy()), kept);

    let own = json!({ "defaultAction": DENY, "defaultErrnoRet": 38 });
    assert_eq!(profile(spec(&[], own), &policy())["defaultAction"], MISSING);
}

#[test]
fn a_profile_that_is_none_is_malformed() {
    for own in [json!([]), json!("x"), json!({ "syscalls": {} }), json!({ "syscalls": [7] })] {
        let refused = confined_for(spec(&[], own.clone()), &policy(), &Role::Plain, None).unwrap_err();
        assert!(matches!(&refused, Refusal::Malformed { key } if key.starts_with("linux.seccomp")), "{own}");
    }
}

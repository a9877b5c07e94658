//! What holds for any spec.

use std::collections::BTreeMap;

use curfew_config::GuestProfile;
use proptest::prelude::*;
use runsc_bridge::SandboxId;

use super::*;

fn names() -> impl Strategy<Value = Vec<String>> {
    let known = caps::all().into_iter().map(|capability| capability.to_string()).collect::<Vec<_>>();
    proptest::sample::subsequence(known.clone(), 0..known.len())
}

/// Trees that are nearly specs.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/]{0,8}".prop_map(Value::from),
    ];
    let keys = "(process|capabilities|bounding|linux|resources|memory|limit|cpu|quota|mounts|options|type|source|hooks|devices|path|namespaces|annotations|maskedPaths|destination|rlimits|soft|seccomp|syscalls|action)";
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(keys, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Some parts of a spec, each of them anything.
fn parts() -> impl Strategy<Value = Value> {
    let keys = "(process|resources|mounts|hooks|devices|annotations|maskedPaths|seccomp|root|hostname)";
    proptest::collection::btree_map(keys, anything(), 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// Numbers as a spec can have them: none, no limit, and any.
fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(0)),
        Just(json!(-1)),
        (1..1_i64 << 40).prop_map(Value::from),
        (1_i64..).prop_map(Value::from),
    ]
}

fn resources() -> impl Strategy<Value = Value> {
    let period = prop_oneof![Just(Value::Null), (1000..1_000_000_i64).prop_map(Value::from)];
    (number(), number(), number(), period, number()).prop_map(|(memory, swap, quota, period, pids)| {
        json!({
            "memory": { "limit": memory, "swap": swap },
            "cpu": { "quota": quota, "period": period },
            "pids": { "limit": pids },
        })
    })
}

fn rlimits() -> impl Strategy<Value = Value> {
    let kinds =
        ["RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NPROC", "RLIMIT_STACK", "RLIMIT_MEMLOCK"];
    let limit = |kind: &'static str| {
        (any::<u64>(), any::<u64>())
            .prop_map(move |(a, b)| json!({ "type": kind, "soft": a.min(b), "hard": a.max(b) }))
    };
    proptest::sample::subsequence(kinds.to_vec(), 0..=kinds.len())
        .prop_flat_map(move |kinds| kinds.into_iter().map(limit).collect::<Vec<_>>())
        .prop_map(Value::from)
}

fn mounts() -> impl Strategy<Value = Value> {
    let options = proptest::sample::subsequence(vec!["ro", "nosuid", "nodev", "noexec"], 0..=4);
    let mount = |n: usize, options: Vec<&str>| json!({ "destination": format!("/m{n}"), "type": "tmpfs", "source": "tmpfs", "options": options });
    proptest::collection::vec(options, 0..4)
        .prop_map(move |all| {
            all.into_iter().enumerate().map(|(n, options)| mount(n, options)).collect::<Vec<_>>()
        })
        .prop_map(Value::from)
}

fn role() -> impl Strategy<Value = Role> {
    let workload = Role::Workload { sandbox: SandboxId::new("s").unwrap() };
    prop_oneof![Just(Role::Plain), Just(Role::Pause), Just(workload)]
}

proptest! {
    #[test]
    fn nothing_gets_more_than_it_asked_for_nor_more_than_the_ceiling(asked in names(), ceiling in names(), more in names()) {
        let mut policy = NodePolicy::default();
        policy.pod.privileged = Permission::Allow;
        policy.capabilities.ceiling = ceiling;
        let spec = json!({
            "process": { "capabilities": { "bounding": asked, "effective": more, "permitted": more, "ambient": more } },
            "linux": { "namespaces": own_namespaces() },
        });
        let kept = confined(spec.clone(), &policy).unwrap();
        let set = |spec: &Value, name: &str| -> BTreeSet<String> {
            let names = spec["process"]["capabilities"][name].as_array();
            names.into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let privileged = ["bounding", "effective", "permitted"].iter().any(|name| {
            ["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_BOOT"].iter().all(|c| set(&spec, name).contains(*c))
        });
        let ceiling: BTreeSet<String> = policy.capabilities.ceiling.iter().cloned().collect();
        for name in ["bounding", "effective", "permitted"] {
            prop_assert!(set(&kept, name).is_subset(&set(&spec, name)));
            prop_assert!(privileged || set(&kept, name).is_subset(&ceiling));
        }
        prop_assert!(set(&kept, "ambient").is_empty());
        prop_assert_eq!(confined(kept.clone(), &policy).unwrap(), kept);
    }

    #[test]
    fn no_spec_panics_and_doing_it_twice_is_doing_it_once(
        mut spec in parts(), linux in parts(), is_root in any::<bool>(), demands in any::<bool>(),
    ) {
        let mut policy = NodePolicy::default();
        if demands {
            policy.seccomp.guest = GuestProfile::RuntimeDefault;
        }
        let role = if is_root { Role::Plain } else { Role::Workload { sandbox: SandboxId::new("s").unwrap() } };
        spec["linux"] = linux;
        // Without them nothing else of a root container's spec would be looked at.
        spec["linux"]["namespaces"] = own_namespaces();
        if let Ok(kept) = confined_for(spec, &policy, &role, None) {
            prop_assert_eq!(confined_for(kept.clone(), &policy, &role, None).unwrap(), kept);
        }
    }

    #[test]
    fn limits_are_the_smaller_of_what_is_asked_and_what_the_node_allows(
        resources in resources(), limits in rlimits(), no_new_privs in any::<bool>(), always in any::<bool>(),
        role in role(), mounts in mounts(), cpu in 1..5000_u64,
    ) {
        let mut policy = NodePolicy::default();
        policy.limits.cpu = cpu;
        if always {
            policy.pod.no_new_privs = NoNewPrivs::Always;
        }
        let spec = json!({
            "process": { "rlimits": limits, "noNewPrivileges": no_new_privs },
            "mounts": mounts,
            "linux": { "namespaces": own_namespaces(), "resources": resources },
        });
        let kept = confined_for(spec.clone(), &policy, &role, None).unwrap();
        let (asked, got) = (&spec["linux"]["resources"], &kept["linux"]["resources"]);
        // Absent, zero and negative ones are no limit.
        let limit = |value: &Value| value.as_i64().filter(|limit| *limit > 0).map_or(u64::MAX, i64::unsigned_abs);
        prop_assert_eq!(limit(&got["memory"]["limit"]), limit(&asked["memory"]["limit"]).min(policy.limits.memory));
        prop_assert!(got["memory"]["swap"].is_null() || limit(&got["memory"]["swap"]) <= policy.limits.memory);
        let (quota, period) = (limit(&got["cpu"]["quota"]), limit(&got["cpu"]["period"]));
        prop_assert!(u128::from(quota) * 1000 <= u128::from(policy.limits.cpu) * u128::from(period));
        // Whatever its period is: as much of a CPU as was asked for, and no more.
        let asked_period = asked["cpu"]["period"].as_u64().unwrap_or(100_000);
        let most = u128::from(limit(&asked["cpu"]["quota"])).max(1000) * u128::from(period);
        prop_assert!(u128::from(quota) * u128::from(asked_period) <= most);
        prop_assert_eq!(&kept["process"]["noNewPrivileges"], &json!(no_new_privs || always));

        let named = |spec: &Value| -> BTreeMap<String, (u64, u64)> {
            let all = spec["process"]["rlimits"].as_array().cloned().unwrap_or_default();
            let entry = |limit: &Value| {
                (limit["type"].as_str().unwrap().to_owned(), (limit["soft"].as_u64().unwrap(), limit["hard"].as_u64().unwrap()))
            };
            all.iter().map(entry).collect()
        };
        let got = named(&kept);
        for (kind, (soft, hard)) in named(&spec) {
            // A pause container names none: its programs are the node's own.
            prop_assert!(got.get(&kind).map_or(role == Role::Pause, |got| got.0 <= soft && got.1 <= hard), "{}", kind);
        }

        let of = |spec: &Value| spec["mounts"].as_array().cloned().unwrap_or_default();
        for asked in of(&spec) {
            let got = of(&kept).into_iter().find(|got| got["destination"] == asked["destination"]).unwrap();
            let read_only = |mount: &Value| mount["options"].as_array().unwrap().contains(&json!("ro"));
            prop_assert!(!read_only(&asked) || read_only(&got));
            prop_assert_eq!((&got["type"], &got["source"]), (&asked["type"], &asked["source"]));
        }
        // Whatever else is there is the sandbox's own, and nothing of the host's.
        let added = of(&kept).into_iter().filter(|got| of(&spec).iter().all(|a| a["destination"] != got["destination"]));
        for mount in added {
            prop_assert!(mount["type"] != "bind", "{}", mount);
        }
    }
}

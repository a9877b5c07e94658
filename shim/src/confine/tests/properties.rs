//! What holds for any spec.

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
}

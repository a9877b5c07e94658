use std::{collections::BTreeSet, path::Path};

use curfew_config::{HostNamespaces, NoNewPrivs, Permission};
use serde_json::{Value, json};

use super::*;

mod properties;

const CRI: [&str; 2] = ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri.container-type"];

pub(super) fn own_namespaces() -> Value {
    json!([{ "type": "network" }, { "type": "pid" }, { "type": "ipc" }, { "type": "mount" }])
}

/// A container of `role` without a pod, with what every pod has of shm.
pub(super) fn subject<'a>(policy: &'a NodePolicy, role: &'a Role) -> Subject<'a> {
    let shm = ShmSize { bytes: policy.limits.shm_default, asked: false };
    Subject { policy, role, shm, pod: None, rlimits: None }
}

/// What becomes of a plain container's spec.
fn confined(spec: Value, policy: &NodePolicy) -> Result<Value, Refusal> {
    confined_for(spec, policy, &Role::Plain, None)
}

pub(super) fn confined_for(
    spec: Value,
    policy: &NodePolicy,
    role: &Role,
    pod: Option<PodPlaces>,
) -> Result<Value, Refusal> {
    let Value::Object(mut spec) = spec else { panic!("{spec} is no object") };
    confine(&mut spec, &Subject { pod, ..subject(policy, role) }).map(|_| Value::Object(spec))
}

fn of_pod(mounts: Value, policy: &NodePolicy) -> Result<Value, Refusal> {
    let pod = PodPlaces { uid: "uid-1".into(), sandbox: "sandbox1".into(), container: "container1".into() };
    let spec = json!({ "mounts": mounts, "linux": { "namespaces": own_namespaces() } });
    confined_for(spec, policy, &Role::Pause, Some(pod))
}

#[test]
fn only_what_runsc_needs_of_annotations_and_what_the_node_names_is_kept() {
    let mut policy = NodePolicy::default();
    policy.annotations.allow = vec!["dev.gvisor.flag.strace".into()];
    let mut annotations = json!({ CRI[0]: "a", CRI[1]: "sandbox", "curfew.dev/timeout": "1s", "x": "y" });
    for line in include_str!("../../../tests/harmful-annotations.txt").lines() {
        if let Some((key, value)) = line.split('\t').next().and_then(|pair| pair.split_once('=')) {
            annotations[key] = json!(value);
        }
    }
    assert!(annotations.as_object().unwrap().len() > 30);
    let spec = json!({ "annotations": annotations, "linux": { "namespaces": own_namespaces() } });
    let kept = confined(spec, &policy).unwrap();
    let expected = json!({ CRI[0]: "a", CRI[1]: "sandbox", "dev.gvisor.flag.strace": "true" });
    assert_eq!(kept["annotations"], expected);
}

#[test]
fn capabilities_are_cut_to_the_ceiling_and_none_is_passed_on() {
    let names = json!(["CAP_KILL", "CAP_SYS_ADMIN", "CAP_CHOWN"]);
    let spec = json!({
        "process": { "capabilities": {
            "bounding": names, "effective": names, "permitted": names, "inheritable": names, "ambient": names,
        } },
        "linux": { "namespaces": own_namespaces() },
    });
    let kept = confined(spec, &NodePolicy::default()).unwrap();
    let least = json!(["CAP_KILL", "CAP_CHOWN"]);
    let expected = json!({ "bounding": least, "effective": least, "permitted": least });
    assert_eq!(kept["process"]["capabilities"], expected);
}

#[test]
fn who_asks_for_everything_gets_it_only_where_the_node_allows_it() {
    let all = json!(["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_BOOT", "CAP_KILL"]);
    let spec = json!({
        "process": { "capabilities": { "bounding": all, "ambient": all } },
        "linux": { "namespaces": own_namespaces() },
    });
    let mut policy = NodePolicy::default();
    let refused = confined(spec.clone(), &policy).unwrap_err();
    assert!(matches!(refused, Refusal::NotAllowed { rule: "pod.privileged", .. }));
    policy.pod.privileged = Permission::Allow;
    let kept = confined(spec, &policy).unwrap();
    assert_eq!(kept["process"]["capabilities"], json!({ "bounding": all }));
}

#[test]
fn a_node_can_forbid_that_programs_gain_privileges() {
    let mut policy = NodePolicy::default();
    let spec = || json!({ "process": {}, "linux": { "namespaces": own_namespaces() } });
    assert_eq!(confined(spec(), &policy).unwrap()["process"], json!({}));
    policy.pod.no_new_privs = NoNewPrivs::Always;
    assert_eq!(confined(spec(), &policy).unwrap()["process"], json!({ "noNewPrivileges": true }));
}

#[test]
fn the_hosts_namespaces_are_refused_or_replaced() {
    let without = |missing: &str| {
        let mut namespaces = own_namespaces();
        namespaces.as_array_mut().unwrap().retain(|namespace| namespace["type"] != missing);
        json!({ "linux": { "namespaces": namespaces } })
    };
    let mut policy = NodePolicy::default();
    for (missing, rule) in
        [("network", "pod.host_network"), ("pid", "pod.host_namespaces"), ("ipc", "pod.host_namespaces")]
    {
        let refused = confined(without(missing), &policy).unwrap_err();
        assert!(matches!(refused, Refusal::NotAllowed { rule: named, .. } if named == rule), "{missing}");
    }
    assert!(confined(json!({}), &policy).is_err());
    let mut by_path = own_namespaces();
    by_path[0]["path"] = json!(format!("/proc/{}/ns/net", std::process::id()));
    let refused = confined(json!({ "linux": { "namespaces": by_path } }), &policy).unwrap_err();
    assert!(matches!(refused, Refusal::NotAllowed { rule: "pod.host_network", .. }));
    policy.pod.host_namespaces = HostNamespaces::Ignore;
    let kept = confined(without("pid"), &policy).unwrap();
    assert!(kept["linux"]["namespaces"].as_array().unwrap().contains(&json!({ "type": "pid" })));
    // A container in a sandbox has the sandbox's.
    let role = Role::Workload { sandbox: runsc_bridge::SandboxId::new("p").unwrap() };
    confined_for(json!({}), &NodePolicy::default(), &role, None).unwrap();
}

#[test]
fn hooks_and_devices_of_the_host_are_refused() {
    let with = |key: &str, value: Value| {
        let mut spec = json!({ "linux": { "namespaces": own_namespaces() } });
        spec[key] = value;
        spec
    };
    let hooks = json!({ "prestart": [], "poststop": [{ "path": "/bin/sh" }] });
    let mut policy = NodePolicy::default();
    let refused = confined(with("hooks", hooks.clone()), &policy).unwrap_err();
    assert!(matches!(refused, Refusal::NotAllowed { rule: "pod.hooks", .. }));
    confined(with("hooks", json!({ "prestart": [] })), &policy).unwrap();
    policy.pod.hooks = Permission::Allow;
    confined(with("hooks", hooks), &policy).unwrap();
    for (path, fine) in [("/dev/null", true), ("/dev/sda", false), ("/dev/kvm", false)] {
        let linux = json!({ "namespaces": own_namespaces(), "devices": [{ "path": path, "type": "c" }] });
        assert_eq!(confined(with("linux", linux), &policy).is_ok(), fine, "{path}");
    }
}

#[test]
fn limits_are_the_smaller_of_what_was_asked_and_the_ceiling() {
    let policy = NodePolicy::default();
    let limits = |resources: Value| {
        let linux = json!({ "namespaces": own_namespaces(), "resources": resources });
        let kept = confined(json!({ "linux": linux }), &policy).unwrap();
        let of = |path: &str| kept.pointer(&format!("/linux/resources/{path}")).unwrap().as_u64().unwrap();
        (of("memory/limit"), of("cpu/quota"), of("cpu/period"))
    };
    assert_eq!(limits(json!({})), (2 << 30, 200_000, 100_000));
    assert_eq!(
        limits(json!({ "memory": { "limit": -1 }, "cpu": { "quota": -1 } })),
        (2 << 30, 200_000, 100_000)
    );
    assert_eq!(
        limits(json!({ "memory": { "limit": 1 << 20 }, "cpu": { "quota": 5000, "period": 10_000 } })),
        (1 << 20, 5000, 10_000)
    );
    assert_eq!(
        limits(json!({ "memory": { "limit": 1_u64 << 40 }, "cpu": { "quota": 90_000, "period": 10_000 } })),
        (2 << 30, 20_000, 10_000)
    );
    let odd =
        json!({ "linux": { "namespaces": own_namespaces(), "resources": { "memory": { "limit": "1" } } } });
    assert!(matches!(confined(odd, &policy), Err(Refusal::Malformed { .. })));
}

fn bind(source: &Path) -> Value {
    json!([{ "destination": "/m", "type": "bind", "source": source, "options": ["rbind", "suid", "dev", "ro"] }])
}

#[test]
fn a_pods_own_parts_of_kubelets_and_containerds_directories_are_mounted_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let mut policy = NodePolicy::default();
    policy.mounts.kubelet = dir.path().join("kubelet");
    policy.mounts.containerd = vec![dir.path().join("containerd")];
    let make = |path: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    for own in [
        "kubelet/pods/uid-1/volumes/x",
        "containerd/cri/sandboxes/sandbox1/shm",
        "containerd/cri/containers/container1/volumes/y",
    ] {
        let kept = of_pod(bind(&make(own)), &policy).unwrap();
        assert_eq!(kept["mounts"][0]["options"], json!(["rbind", "ro", "nosuid", "nodev"]), "{own}");
    }
    let link = dir.path().join("kubelet/pods/uid-1/link");
    std::os::unix::fs::symlink(make("kubelet/pods/uid-2/secret"), &link).unwrap();
    for never in [
        link,
        make("kubelet/pods/uid-2/volumes/x"),
        make("containerd/cri/sandboxes/sandbox2/shm"),
        make("containerd/cri/containers/container2/volumes/y"),
        make("containerd/io.containerd.runtime.v2.task"),
        dir.path().join("kubelet"),
        dir.path().to_owned(),
        dir.path().join("missing"),
        "/".into(),
        "/proc/self".into(),
        "/sys/fs".into(),
        "/dev".into(),
        "relative".into(),
    ] {
        policy.pod.host_path = Permission::Allow;
        let refused = of_pod(bind(&never), &policy).unwrap_err();
        assert!(matches!(refused, Refusal::Never { .. }), "{}: {refused}", never.display());
    }
    let elsewhere = tempfile::tempdir().unwrap();
    of_pod(bind(elsewhere.path()), &policy).unwrap();
    policy.pod.host_path = Permission::Refuse;
    let refused = of_pod(bind(elsewhere.path()), &policy).unwrap_err();
    assert!(matches!(refused, Refusal::NotAllowed { rule: "pod.host_path", .. }));
    // Who is root on the node asks for a container without a pod.
    let spec = json!({ "mounts": bind(elsewhere.path()), "linux": { "namespaces": own_namespaces() } });
    confined(spec, &policy).unwrap();
}

#[test]
fn a_mount_that_is_read_only_with_all_below_it_is_so_in_a_word_that_runsc_knows() {
    let dir = tempfile::tempdir().unwrap();
    let mut policy = NodePolicy::default();
    policy.pod.host_path = curfew_config::Permission::Allow;
    for (options, read_only) in [(json!(["rbind", "rro"]), true), (json!(["rbind", "rw"]), false)] {
        let mounts =
            json!([{ "destination": "/m", "type": "bind", "source": dir.path(), "options": options }]);
        let kept = of_pod(mounts, &policy).unwrap();
        let kept = kept["mounts"][0]["options"].as_array().unwrap().contains(&json!("ro"));
        assert_eq!(kept, read_only, "{options}");
    }
}

#[test]
fn sockets_devices_and_other_file_systems_are_never_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut policy = NodePolicy::default();
    policy.pod.host_path = Permission::Allow;
    for source in [&socket, &fifo] {
        assert!(matches!(of_pod(bind(source), &policy), Err(Refusal::Never { .. })), "{}", source.display());
    }
    for (kind, fine) in [("proc", true), ("tmpfs", true), ("cgroup", true), ("nfs", false), ("", false)] {
        let mounts = json!([{ "destination": "/m", "type": kind, "source": "x" }]);
        assert_eq!(of_pod(mounts, &policy).is_ok(), fine, "{kind}");
    }
}

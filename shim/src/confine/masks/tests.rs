use curfew_config::NodePolicy;

use super::super::tests::{own_namespaces, subject};
use super::*;
use crate::pod::group::Role;

const PROC: &str = "proc";

fn masked(paths: Value, mounts: &[(&str, &str)]) -> Result<(Vec<String>, Vec<PathBuf>), Refusal> {
    let mounts: Vec<Value> =
        mounts.iter().map(|(at, kind)| json!({ "destination": at, "type": kind, "source": kind })).collect();
    let count = mounts.len();
    let spec = json!({ "mounts": mounts, "linux": { "namespaces": own_namespaces(), "maskedPaths": paths } });
    let Value::Object(mut spec) = spec else { unreachable!() };
    let policy = NodePolicy::default();
    let subject = subject(&policy, &Role::Plain);
    let of_image = super::super::confine(&mut spec, &subject)?.masked;
    assert!(spec["linux"].get("maskedPaths").is_none());
    let added = &spec["mounts"].as_array().unwrap()[count..];
    let is_mask = |mount: &&Value| mount["type"] != "cgroup";
    let told = |mount: &Value| {
        assert!(mount["options"].as_array().unwrap().contains(&json!("ro")));
        format!("{} {}", mount["type"].as_str().unwrap(), mount["destination"].as_str().unwrap())
    };
    let told = added.iter().filter(is_mask).map(told).collect();
    // What is masked stays so, and nothing is masked twice.
    let before = spec.clone();
    super::super::confine(&mut spec, &subject).unwrap();
    assert_eq!(spec, before);
    Ok((told, of_image))
}

#[test]
fn what_a_sandbox_has_is_masked_and_what_it_lacks_is_not() {
    let paths =
        json!(["/proc/kcore", "/proc/cpuinfo", "/proc/acpi", "/sys/firmware", "/proc/irq/", "/proc//irq"]);
    let (masks, of_image) = masked(paths, &[("/proc", PROC), ("/sys", "sysfs")]).unwrap();
    assert_eq!(masks, ["bind /proc/cpuinfo", "tmpfs /proc/irq", "tmpfs /sys/firmware"]);
    assert!(of_image.is_empty());
}

#[test]
fn the_mount_that_a_path_is_in_decides() {
    let paths = json!(["/proc/cpuinfo", "/data/x", "/etc/passwd", "/proc/cpuinfo/x", "/"]);
    let (masks, of_image) = masked(paths.clone(), &[("/data", "tmpfs")]).unwrap();
    assert!(masks.is_empty());
    assert_eq!(of_image, [Path::new("/etc/passwd"), Path::new("/proc/cpuinfo")]);
    let (masks, of_image) = masked(paths, &[("/proc", PROC), ("/proc/cpuinfo", "tmpfs")]).unwrap();
    assert_eq!(masks, ["tmpfs /proc/cpuinfo"]);
    assert_eq!(of_image, [Path::new("/data/x"), Path::new("/etc/passwd")]);
}

#[test]
fn a_path_that_is_none_is_malformed() {
    for paths in [json!("/x"), json!([7]), json!(["x"]), json!(["/a/../b"]), json!([""])] {
        let refused = masked(paths.clone(), &[]).unwrap_err();
        assert_eq!(refused, malformed(NAME), "{paths}");
    }
}

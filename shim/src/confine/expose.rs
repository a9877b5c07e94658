//! The directory in which a container sees its deadline.

use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use super::{Object, Refusal, malformed};

/// Where it is in a container.
const TARGET: &str = "/run/curfew";

fn own(dir: &Path) -> Value {
    json!({
        "destination": TARGET, "type": "bind", "source": dir,
        "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
    })
}

/// Takes out what an earlier attempt at the same bundle has put in.
pub(crate) fn unexpose(spec: &mut Object, dir: &Path) {
    if let Some(Value::Array(mounts)) = spec.get_mut("mounts") {
        let own = own(dir);
        mounts.retain(|mount| *mount != own);
    }
}

/// Has the container see the host's `dir`, read-only. Last, so that a mount above it doesn't hide it.
///
/// # Errors
/// The container has something else there, or below.
pub(crate) fn expose(spec: &mut Object, dir: &Path) -> Result<(), Refusal> {
    let mounts = spec.entry("mounts").or_insert_with(|| json!([])).as_array_mut();
    let mounts = mounts.ok_or_else(|| malformed("mounts"))?;
    for mount in &*mounts {
        let target = mount.get("destination").and_then(Value::as_str).unwrap_or_default();
        if plain(target).starts_with(TARGET) {
            let what = format!("a mount at {target:?}, where the pod's deadline is");
            return Err(Refusal::NotAllowed { what, rule: "timeout.expose" });
        }
    }
    mounts.push(own(dir));
    Ok(())
}

/// A container's path without `.`, `..` and doubled slashes.
fn plain(target: &str) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in Path::new(target).components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposed(mounts: &Value) -> Result<Object, Refusal> {
        let Value::Object(mut spec) = json!({ "mounts": mounts }) else { unreachable!() };
        expose(&mut spec, Path::new("/host")).map(|()| spec)
    }

    #[test]
    fn a_container_gets_one_more_mount_which_is_the_last_and_is_taken_out_again() {
        let before = json!([{ "destination": "/run", "type": "tmpfs" }, { "destination": "/run/curfews" }]);
        let mut spec = exposed(&before).unwrap();
        let mounts = spec["mounts"].as_array().unwrap();
        assert_eq!((mounts.len(), &mounts[2]["destination"]), (3, &json!("/run/curfew")));
        assert!(mounts[2]["options"].as_array().unwrap().contains(&json!("ro")));
        unexpose(&mut spec, Path::new("/host"));
        assert_eq!(spec["mounts"], before);
        assert!(expose(&mut Object::new(), Path::new("/host")).is_ok());
    }

    #[test]
    fn a_mount_at_its_place_or_below_is_refused_however_it_is_written() {
        for target in ["/run/curfew", "/run/curfew/", "//run/./curfew/x", "/var/../run/curfew", "run/curfew"]
        {
            let refused = exposed(&json!([{ "destination": target }])).unwrap_err().to_string();
            assert!(refused.contains(target) && refused.contains("timeout.expose"), "{refused}");
        }
    }
}

//! Policy over a spec: what a pod asked for becomes what it may have, before runsc sees it.
//!
//! containerd's word is trusted, the pod's isn't, and a spec carries both. What is above a ceiling is cut, what the node
//! doesn't allow at all is refused with the rule's name, and what would do harm without use is taken out. The result is
//! never more than what was asked.

mod annotations;
mod expose;
mod limits;
mod masks;
mod mounts;
mod namespaces;
mod privileges;
mod rlimits;
mod seccomp;
mod shm;

#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use curfew_config::NodePolicy;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::pod::group::Role;

pub(crate) use self::{
    expose::{expose, unexpose},
    limits::{AskedLimits, hold_below_pod},
    masks::mask,
    privileges::exec_capabilities,
    rlimits::Rlimits,
    shm::{ShmSize, resize as resize_shm, shared_shm},
};

type Object = Map<String, Value>;

/// A spec that the node doesn't allow, or that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// A rule of the node's configuration says no.
    #[error("{what}: refused by {rule} of the node's configuration")]
    NotAllowed { what: String, rule: &'static str },
    /// No configuration allows it.
    #[error("{what}: a sandbox never gets that")]
    Never { what: String },
    /// A part of the spec isn't what the runtime specification says.
    #[error("config.json: {key} is malformed")]
    Malformed { key: String },
}

/// Whose spec it is.
#[derive(Debug, Clone)]
pub(crate) struct Subject<'a> {
    pub(crate) policy: &'a NodePolicy,
    pub(crate) role: &'a Role,
    pub(crate) shm: ShmSize,
    /// Parts of kubelet's and containerd's directories that are this pod's own; `None` for a container without a pod,
    /// which only who is root on the node can ask for.
    pub(crate) pod: Option<PodPlaces>,
    /// What the pod's containers have by now.
    pub(crate) rlimits: Option<Rlimits>,
}

/// The names by which kubelet and containerd know a pod and its container on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodPlaces {
    /// The pod's UID; empty where CRI gives none.
    pub(crate) uid: String,
    pub(crate) sandbox: String,
    pub(crate) container: String,
}

/// What a spec asks for and may have, and what runsc doesn't see to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) limits: AskedLimits,
    /// What the pod's containers have from now on.
    pub(crate) rlimits: Option<Rlimits>,
    /// Paths in the image to be masked, if they are there.
    pub(crate) masked: Vec<PathBuf>,
    /// Whether the sandbox has the host's network.
    pub(crate) host_network: bool,
}

/// Rewrites `spec` to what `subject` may have. Returns what it asks for that the spec alone doesn't bring about.
///
/// # Errors
/// [`Refusal`]; the spec is then of no use.
pub(crate) fn confine(spec: &mut Object, subject: &Subject<'_>) -> Result<Asked, Refusal> {
    annotations::confine(spec, subject.policy)?;
    privileges::confine(spec, subject)?;
    seccomp::confine(spec, subject)?;
    let host_network = namespaces::confine(spec, subject)?;
    mounts::confine(spec, subject)?;
    let masked = masks::confine(spec, subject)?;
    let rlimits = rlimits::confine(spec, subject)?;
    let limits = limits::confine(spec, subject.policy)?;
    refuse_hooks(spec, subject.policy)?;
    refuse_devices(spec)?;
    Ok(Asked { limits, rlimits, masked, host_network })
}

/// Hooks are programs that run on the host, as root.
fn refuse_hooks(spec: &Object, policy: &NodePolicy) -> Result<(), Refusal> {
    let Some(hooks) = object(spec, "hooks")? else { return Ok(()) };
    let named = hooks.iter().find(|(_, hooks)| !is_empty(hooks));
    match named {
        Some((kind, _)) if policy.pod.hooks == curfew_config::Permission::Refuse => {
            Err(Refusal::NotAllowed { what: format!("a {kind} hook"), rule: "pod.hooks" })
        }
        _ => Ok(()),
    }
}

/// What gVisor has of its own in every sandbox. Any other device would be the host's.
const OWN_DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/fuse",
    "/dev/net/tun",
];

fn refuse_devices(spec: &Object) -> Result<(), Refusal> {
    let Some(linux) = object(spec, "linux")? else { return Ok(()) };
    for device in list(linux, "devices", "linux.devices")? {
        let path = device.get("path").and_then(Value::as_str);
        let path = path.ok_or_else(|| malformed("linux.devices"))?;
        if !OWN_DEVICES.contains(&path) {
            return Err(Refusal::Never { what: format!("device {path:?}") });
        }
    }
    Ok(())
}

fn malformed(key: &str) -> Refusal {
    Refusal::Malformed { key: key.to_owned() }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// The object under `key`; absent and null are none.
fn object<'a>(parent: &'a Object, key: &str) -> Result<Option<&'a Object>, Refusal> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(malformed(key)),
    }
}

/// The object under `key`, made if it isn't there.
fn object_mut<'a>(parent: &'a mut Object, key: &str) -> Result<&'a mut Object, Refusal> {
    let value = parent.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut().ok_or_else(|| malformed(key))
}

/// The entries under `key`; absent and null are none. `name` is for messages.
fn list<'a>(parent: &'a Object, key: &str, name: &str) -> Result<&'a [Value], Refusal> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(malformed(name)),
    }
}

/// A path of the spec, absolute and in its own normal form.
fn plain_path(text: &str) -> Option<PathBuf> {
    use std::path::Component;
    let path = PathBuf::from(text);
    let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    (path.is_absolute() && plain && !text.contains('\0')).then_some(path)
}

//! Mounts: what comes from the host has to be the pod's own part of kubelet's and containerd's directories, or allowed.

use std::{
    borrow::Cow,
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use curfew_config::Permission;
use serde_json::{Value, json};

use super::{Object, PodPlaces, Refusal, Subject, malformed, masks, plain_path, shm};

/// File systems that the sandbox makes itself.
const OWN_KINDS: [&str; 8] = ["proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "mqueue", "cgroup", "cgroup2"];
/// What shows the host, whoever asks.
const NEVER: [&str; 4] = ["/proc", "/sys", "/dev", "/etc/curfew"];
/// Options that would let a file of the host raise privileges or be a device.
const TAKEN_OUT: [&str; 4] = ["suid", "dev", "nosuid", "nodev"];
/// runsc doesn't know the word, and would have the mount writable.
const RECURSIVELY_READ_ONLY: &str = "rro";

pub(super) fn confine(spec: &mut Object, subject: &Subject<'_>) -> Result<(), Refusal> {
    let mounts = spec.entry("mounts").or_insert(Value::Null);
    if mounts.is_null() {
        *mounts = json!([]);
    }
    let mounts = mounts.as_array_mut().ok_or_else(|| malformed("mounts"))?;
    let own = OwnPlaces::of(subject);
    for mount in &mut *mounts {
        let mount = mount.as_object_mut().ok_or_else(|| malformed("mounts"))?;
        confine_one(mount, subject, own.as_ref())?;
    }
    if !mounts.iter().any(is_cgroup) {
        mounts.push(json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
        }));
    }
    Ok(())
}

/// The sandbox accounts for a container, and limits it, only if the container has such a mount.
fn is_cgroup(mount: &Value) -> bool {
    mount.get("type").and_then(Value::as_str).is_some_and(|kind| kind == "cgroup" || kind == "cgroup2")
}

fn confine_one(
    mount: &mut Object,
    subject: &Subject<'_>,
    own: Option<&OwnPlaces<'_>>,
) -> Result<(), Refusal> {
    let text = |key: &str| mount.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, source, target) = (text("type"), text("source"), text("destination"));
    let mut options = options(mount)?;
    let is_bind = kind == "bind" || options.iter().any(|option| option == "bind" || option == "rbind");
    if masks::is_mask(mount, subject) {
        return Ok(());
    }
    if !is_bind {
        if !OWN_KINDS.contains(&kind.as_str()) {
            return Err(Refusal::Never { what: format!("a mount of type {kind:?} at {target:?}") });
        }
        if kind == "tmpfs" {
            shm::confine_tmpfs(&target, &mut options, subject);
            mount.insert("options".to_owned(), json!(options));
        }
        return Ok(());
    }
    check_source(&source, &target, subject, own)?;
    options.retain(|option| !TAKEN_OUT.contains(&option.as_str()));
    if options.iter().any(|option| option == RECURSIVELY_READ_ONLY) {
        options.push("ro".to_owned());
    }
    options.extend(["nosuid".to_owned(), "nodev".to_owned()]);
    mount.insert("options".to_owned(), json!(options));
    Ok(())
}

fn options(mount: &Object) -> Result<Vec<String>, Refusal> {
    match mount.get("options") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(options)) => {
            let texts: Option<_> = options.iter().map(|option| option.as_str().map(str::to_owned)).collect();
            texts.ok_or_else(|| malformed("mounts.options"))
        }
        Some(_) => Err(malformed("mounts.options")),
    }
}

fn check_source(
    source: &str,
    target: &str,
    subject: &Subject<'_>,
    own: Option<&OwnPlaces<'_>>,
) -> Result<(), Refusal> {
    let never = |why: &str| Refusal::Never { what: format!("mount of {source:?} at {target:?}, {why}") };
    let written = plain_path(source).ok_or_else(|| never("which is not a plain absolute path"))?;
    // Through links, to what would be mounted.
    let real = fs::canonicalize(&written).map_err(|error| never(&error.to_string()))?;
    let kind = fs::metadata(&real).map_err(|error| never(&error.to_string()))?.file_type();
    if kind.is_socket() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
        return Err(never("which is neither a file nor a directory"));
    }
    if own.is_some_and(|own| own.has(&real)) {
        return Ok(());
    }
    if let Some(place) = protected(subject).iter().find(|place| overlaps(&real, place)) {
        return Err(never(&format!("which shows {}", place.display())));
    }
    if subject.pod.is_some() && subject.policy.pod.host_path == Permission::Refuse {
        let what = format!("mount of {source:?} at {target:?}");
        return Err(Refusal::NotAllowed { what, rule: "pod.host_path" });
    }
    Ok(())
}

/// Where kubelet and containerd make what is a pod's own, looked up once for all of its mounts.
struct OwnPlaces<'a> {
    pod: &'a PodPlaces,
    /// The pod's part of kubelet's directory; `None` for a pod without a UID.
    kubelet: Option<PathBuf>,
    containerd: Vec<PathBuf>,
}

impl<'a> OwnPlaces<'a> {
    fn of(subject: &'a Subject<'_>) -> Option<Self> {
        let (pod, mounts) = (subject.pod.as_ref()?, &subject.policy.mounts);
        let kubelet = (!pod.uid.is_empty()).then(|| real_place(&mounts.kubelet).join("pods").join(&pod.uid));
        Some(Self { pod, kubelet, containerd: mounts.containerd.iter().map(|dir| real_place(dir)).collect() })
    }

    /// Whether kubelet or containerd has made it for this pod.
    fn has(&self, real: &Path) -> bool {
        self.kubelet.as_ref().is_some_and(|own| real.starts_with(own))
            || self.below_containerd(real).is_some()
    }

    /// The path below containerd's directory of what containerd has made for this pod, as `<plugin>/sandboxes/<id>/…` or
    /// `<plugin>/containers/<id>/…`; `None` for anything else.
    fn below_containerd<'r>(&self, real: &'r Path) -> Option<Vec<Cow<'r, str>>> {
        self.containerd.iter().find_map(|dir| {
            let below = real.strip_prefix(dir).ok()?;
            let parts: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy()).collect();
            let is_own = match &parts[..] {
                [_, kind, id, _, ..] if kind == "sandboxes" => *id == self.pod.sandbox,
                [_, kind, id, _, ..] if kind == "containers" => *id == self.pod.container,
                _ => false,
            };
            is_own.then_some(parts)
        })
    }
}

/// As [`OwnPlaces::below_containerd`], for one path.
pub(super) fn pods_own<'r>(real: &'r Path, subject: &Subject<'_>) -> Option<Vec<Cow<'r, str>>> {
    OwnPlaces::of(subject)?.below_containerd(real)
}

/// Directories that no pod sees: the kernel's, Curfew's own, and those of kubelet and containerd but for its own part.
fn protected(subject: &Subject<'_>) -> Vec<PathBuf> {
    let policy = subject.policy;
    let ours = [&policy.state.dir, &policy.state.ledger, &policy.mounts.kubelet];
    let all = NEVER.iter().map(Path::new).chain(ours.into_iter().map(PathBuf::as_path));
    all.chain(policy.mounts.containerd.iter().map(PathBuf::as_path)).map(real_place).collect()
}

/// Where a configured directory really is; as it was written if it isn't there.
fn real_place(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether one is in the other.
fn overlaps(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

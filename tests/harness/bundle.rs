//! An OCI spec as a test writes it: what CRI would give, and then what the test is about.

use serde_json::{Value, json};

use crate::{Runtime, Stdio, cgroup};

/// A container to be: its OCI spec, image, stdio and id.
#[derive(Debug, Clone)]
pub struct Spec {
    json: Value,
    pub(crate) id: Option<String>,
    pub(crate) image: &'static str,
    /// The pod that it is the sandbox or a container of.
    pub(crate) pod: Option<String>,
    pub(crate) stdio: Stdio,
}

const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

impl Spec {
    /// A container of the busybox image that runs these words, as CRI would describe it:
    /// own namespaces, default capabilities, no terminal, output by FIFO, no stdin.
    pub fn new<W: Into<String>>(args: impl IntoIterator<Item = W>) -> Self {
        let args: Vec<String> = args.into_iter().map(Into::into).collect();
        Self {
            json: json!({
                "ociVersion": "1.1.0",
                "process": process(&args),
                "root": { "path": "rootfs", "readonly": false },
                "hostname": "curfew-test",
                "mounts": mounts(),
                "annotations": {},
                "linux": linux(),
            }),
            id: None,
            image: "busybox",
            pod: None,
            stdio: Stdio::Fifos,
        }
    }

    /// A container that stays until it is killed.
    pub fn sleeper() -> Self {
        Self::new(["sleep", "1000"])
    }

    /// The container's id; without it the harness counts `c1`, `c2`….
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The guest image, `busybox` or `python`: the harness imports it when it is first needed.
    #[must_use]
    pub fn image(mut self, image: &'static str) -> Self {
        self.image = image;
        self
    }

    #[must_use]
    pub fn stdio(mut self, stdio: Stdio) -> Self {
        if stdio.is_terminal() {
            self.json["process"]["terminal"] = json!(true);
        }
        self.stdio = stdio;
        self
    }

    #[must_use]
    pub fn env(self, key: &str, value: &str) -> Self {
        let entry = json!(format!("{key}={value}"));
        self.edit(|spec| push(&mut spec["process"]["env"], entry))
    }

    #[must_use]
    pub fn annotation(self, key: &str, value: &str) -> Self {
        self.edit(|spec| spec["annotations"][key] = json!(value))
    }

    /// A bind mount of a host path.
    #[must_use]
    pub fn bind(self, from: &std::path::Path, to: &str, options: &[&str]) -> Self {
        let mut all = vec!["rbind"];
        all.extend(options);
        let mount = json!({ "destination": to, "type": "bind", "source": from, "options": all });
        self.edit(|spec| push(&mut spec["mounts"], mount))
    }

    /// The sandbox's memory limit in bytes.
    #[must_use]
    pub fn memory(self, bytes: u64) -> Self {
        self.edit(|spec| spec["linux"]["resources"]["memory"]["limit"] = json!(bytes))
    }

    /// As a pod with hostNetwork has it.
    #[must_use]
    pub fn without_network_namespace(self) -> Self {
        self.edit(|spec| namespaces(spec).retain(|ns| ns["type"] != "network"))
    }

    /// A pod's sandbox (pause) container.
    #[must_use]
    pub fn sandbox(self, id: &str) -> Self {
        self.id(id)
            .pod(id)
            .annotation("io.kubernetes.cri.container-type", "sandbox")
            .annotation("io.kubernetes.cri.sandbox-id", id)
    }

    /// A container of the pod whose sandbox has that id and whose pause process has that pid.
    #[must_use]
    pub fn container_of(self, sandbox_id: &str, pause_pid: u32) -> Self {
        self.pod(sandbox_id)
            .annotation("io.kubernetes.cri.container-type", "container")
            .annotation("io.kubernetes.cri.sandbox-id", sandbox_id)
            .edit(|spec| {
                for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
                    namespaces(spec).retain(|ns| ns["type"] != kind);
                    let path = format!("/proc/{pause_pid}/ns/{file}");
                    namespaces(spec).push(json!({ "type": kind, "path": path }));
                }
                // The pod's hostname is the sandbox's.
                spec.as_object_mut().map(|spec| spec.remove("hostname"));
            })
    }

    fn pod(mut self, id: &str) -> Self {
        self.pod = Some(id.into());
        self
    }

    /// Changes anything else; a key set here is not touched by the harness.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.json);
        self
    }

    /// The spec as it goes to containerd.
    pub(crate) fn finish(&self, runtime: Runtime, namespace: &str, id: &str) -> Value {
        let mut json = self.json.clone();
        let linux = &mut json["linux"];
        if linux.is_object() && linux["cgroupsPath"].is_null() {
            linux["cgroupsPath"] = json!(cgroup::spec_path(runtime, namespace, id));
        }
        json
    }
}

fn process(args: &[String]) -> Value {
    json!({
        "terminal": false,
        "user": { "uid": 0, "gid": 0 },
        "args": args,
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
        "cwd": "/",
        "capabilities": {
            "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
        },
        "noNewPrivileges": true,
    })
}

fn mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
    ])
}

fn linux() -> Value {
    json!({
        "namespaces": [
            { "type": "pid" }, { "type": "ipc" }, { "type": "uts" },
            { "type": "mount" }, { "type": "network" },
        ],
        "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    })
}

fn push(list: &mut Value, item: Value) {
    if let Value::Array(list) = list {
        list.push(item);
    } else {
        *list = json!([item]);
    }
}

fn namespaces(spec: &mut Value) -> &mut Vec<Value> {
    let list = &mut spec["linux"]["namespaces"];
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut().expect("just made an array")
}

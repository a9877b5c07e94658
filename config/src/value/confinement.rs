//! The sections about what a pod may have: `[limits]`, `[pod]`, `[capabilities]`, `[annotations]`, `[mounts]` and
//! `[seccomp]`.

use super::{Reader, one_of, path};
use crate::{
    error::{ConfigError, Fault},
    file,
    policy::{
        Annotations, Capabilities, GuestProfile, HostNamespaces, Limits, Mounts, NoNewPrivs, OuterFilter,
        Permission, Pod, Seccomp,
    },
    units::quantity::{parse_cpu, parse_size},
};

/// Less is no sandbox: the sentry itself needs about this much.
const LEAST_MEMORY: u64 = 32 << 20;
const MOST_MEMORY: u64 = 1 << 50;
/// A sandbox with less would take minutes to start.
const LEAST_CPU: u64 = 10;
const MOST_CPU: u64 = 1_000_000;
const MOST_PIDS: i64 = 4_194_304;
/// One page: a file system of none could hold nothing.
const LEAST_SHM: u64 = 4 << 10;

/// Linux' capabilities (capability(7)); their order is that of their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Reader<'_> {
    pub(super) fn limits(&self, file: file::Limits) -> Result<Limits, ConfigError> {
        let built_in = Limits::default();
        let pids = file.pids.map(|pids| pids.to_string());
        Ok(Limits {
            memory: self.take("limits.memory", file.memory, built_in.memory, memory)?,
            cpu: self.take("limits.cpu", file.cpu, built_in.cpu, cpu)?,
            pids: self.take("limits.pids", pids, built_in.pids, pids_limit)?,
            shm: self.take("limits.shm", file.shm, built_in.shm, shm)?,
            shm_default: self.take("limits.shm_default", file.shm_default, built_in.shm_default, shm)?,
            log_size: self.take("limits.log_size", file.log_size, built_in.log_size, |text| {
                positive_size(text).map(Some)
            })?,
        })
    }

    pub(super) fn pod(&self, file: file::Pod) -> Result<Pod, ConfigError> {
        let built_in = Pod::default();
        Ok(Pod {
            host_network: self.permission("pod.host_network", file.host_network)?,
            host_namespaces: self.take(
                "pod.host_namespaces",
                file.host_namespaces,
                built_in.host_namespaces,
                |text| one_of(text, HostNamespaces::ALL, HostNamespaces::as_str),
            )?,
            privileged: self.permission("pod.privileged", file.privileged)?,
            host_path: self.permission("pod.host_path", file.host_path)?,
            hooks: self.permission("pod.hooks", file.hooks)?,
            no_new_privs: self.take(
                "pod.no_new_privs",
                file.no_new_privs,
                built_in.no_new_privs,
                |text| one_of(text, NoNewPrivs::ALL, NoNewPrivs::as_str),
            )?,
            binary_logger: file.binary_logger.unwrap_or(built_in.binary_logger),
        })
    }

    fn permission(&self, key: &str, written: Option<String>) -> Result<Permission, ConfigError> {
        let read = |text: &str| one_of(text, Permission::ALL, Permission::as_str);
        self.take(key, written, Permission::default(), read)
    }

    pub(super) fn capabilities(&self, file: file::Capabilities) -> Result<Capabilities, ConfigError> {
        let built_in = Capabilities::default();
        Ok(Capabilities {
            ceiling: self.list("capabilities.ceiling", file.ceiling, built_in.ceiling, capability)?,
        })
    }

    pub(super) fn annotations(&self, file: file::Annotations) -> Result<Annotations, ConfigError> {
        let built_in = Annotations::default();
        Ok(Annotations { allow: self.list("annotations.allow", file.allow, built_in.allow, annotation_key)? })
    }

    pub(super) fn mounts(&self, file: file::Mounts) -> Result<Mounts, ConfigError> {
        let built_in = Mounts::default();
        Ok(Mounts {
            kubelet: self.take("mounts.kubelet", file.kubelet, built_in.kubelet, path)?,
            containerd: self.list("mounts.containerd", file.containerd, built_in.containerd, path)?,
        })
    }

    pub(super) fn seccomp(&self, file: file::Seccomp) -> Result<Seccomp, ConfigError> {
        let built_in = Seccomp::default();
        Ok(Seccomp {
            outer: self.take("seccomp.outer", file.outer, built_in.outer, |text| {
                one_of(text, OuterFilter::ALL, OuterFilter::as_str)
            })?,
            io_uring: file.io_uring.unwrap_or(built_in.io_uring),
            guest: self.take("seccomp.guest", file.guest, built_in.guest, |text| {
                one_of(text, GuestProfile::ALL, GuestProfile::as_str)
            })?,
        })
    }

    /// The values of a list, sorted and each once, or the built-in ones where none was written.
    fn list<T: Ord>(
        &self,
        key: &str,
        written: Option<Vec<String>>,
        built_in: Vec<T>,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(written) = written else { return Ok(built_in) };
        let mut values = Vec::new();
        for text in written {
            values.push(self.take(key, Some(text), None, |text| read(text).map(Some))?);
        }
        let mut values: Vec<T> = values.into_iter().flatten().collect();
        values.sort();
        values.dedup();
        Ok(values)
    }
}

pub(super) fn positive_size(text: &str) -> Result<u64, Fault> {
    match parse_size(text)? {
        0 => Err(Fault::Nothing),
        bytes => Ok(bytes),
    }
}

fn memory(text: &str) -> Result<u64, Fault> {
    let range = || Fault::OutOfRange { least: "32Mi", most: "1Pi" };
    Some(parse_size(text)?).filter(|bytes| (LEAST_MEMORY..=MOST_MEMORY).contains(bytes)).ok_or_else(range)
}

pub(super) fn cpu(text: &str) -> Result<u64, Fault> {
    let range = || Fault::OutOfRange { least: "10m", most: "1000" };
    Some(parse_cpu(text)?).filter(|cpu| (LEAST_CPU..=MOST_CPU).contains(cpu)).ok_or_else(range)
}

fn shm(text: &str) -> Result<u64, Fault> {
    let range = || Fault::OutOfRange { least: "4Ki", most: "1Pi" };
    Some(parse_size(text)?).filter(|bytes| (LEAST_SHM..=MOST_MEMORY).contains(bytes)).ok_or_else(range)
}

/// A size that a pod asks for. The node's own limit is what bounds it above.
pub(crate) fn shm_size(text: &str) -> Result<u64, Fault> {
    Some(parse_size(text)?).filter(|bytes| *bytes >= LEAST_SHM).ok_or(Fault::TooSmall { least: "4Ki" })
}

/// Digits, whether from a file or an annotation.
pub(crate) fn pids_limit(text: &str) -> Result<u64, Fault> {
    let range = || Fault::OutOfRange { least: "1", most: "4194304" };
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<i64>().ok().filter(|_| is_plain);
    number.filter(|number| (1..=MOST_PIDS).contains(number)).map(i64::cast_unsigned).ok_or_else(range)
}

fn capability(text: &str) -> Result<String, Fault> {
    let name = text.strip_prefix("CAP_").unwrap_or(text);
    match CAPABILITIES.contains(&name) {
        true => Ok(format!("CAP_{name}")),
        false => Err(Fault::NotACapability(text.to_owned())),
    }
}

/// A whole key: a prefix would be too much to allow at once.
fn annotation_key(text: &str) -> Result<String, Fault> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    match !text.is_empty() && text.len() <= 253 && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(Fault::NotAKey(text.to_owned())),
    }
}

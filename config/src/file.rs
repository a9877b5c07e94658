//! The files' content as written: every key optional, every value still a text, number or flag.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_path_to_error::Segment;

use crate::error::{ConfigError, one_line};
use crate::merge::{Layers, dotted};

/// The merged tree with its keys known and its TOML types right, and no value understood yet.
///
/// The top-level `version` is not here: it belongs to each file and is checked when the file is read.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct FileConfig {
    pub(crate) runsc: Runsc,
    pub(crate) state: State,
    pub(crate) protocol: Protocol,
    pub(crate) timeout: Timeout,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) idle: Idle,
    pub(crate) cpu_budget: CpuBudget,
    pub(crate) exec: Exec,
    pub(crate) termination: Termination,
    pub(crate) limits: Limits,
    pub(crate) pod: Pod,
    pub(crate) capabilities: Capabilities,
    pub(crate) annotations: Annotations,
    pub(crate) mounts: Mounts,
    pub(crate) seccomp: Seccomp,
    pub(crate) calls: Calls,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Runsc {
    pub(crate) path: Option<String>,
    pub(crate) platform: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) overlay2: Option<String>,
    pub(crate) directfs: Option<bool>,
    pub(crate) flags: BTreeMap<String, String>,
    pub(crate) debug: Option<bool>,
    pub(crate) debug_dir: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct State {
    pub(crate) dir: Option<String>,
    pub(crate) ledger: Option<String>,
    pub(crate) retention: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Protocol {
    pub(crate) version: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Timeout {
    pub(crate) default: Option<String>,
    pub(crate) max: Option<String>,
    pub(crate) raise: Option<bool>,
    pub(crate) grace: Option<String>,
    pub(crate) max_grace: Option<String>,
    pub(crate) startup: Option<String>,
    pub(crate) on_shim_loss: Option<String>,
    pub(crate) on_timeout: Option<String>,
    pub(crate) expose: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Checkpoint {
    pub(crate) dir: Option<String>,
    pub(crate) max_size: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Idle {
    pub(crate) timeout: Option<String>,
    pub(crate) max: Option<String>,
    pub(crate) cpu: Option<String>,
    pub(crate) execs: Option<bool>,
    pub(crate) stdin: Option<bool>,
    pub(crate) network: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct CpuBudget {
    pub(crate) default: Option<String>,
    pub(crate) max: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Exec {
    pub(crate) timeout: Option<String>,
    pub(crate) max: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Termination {
    pub(crate) receipts: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Limits {
    pub(crate) memory: Option<String>,
    pub(crate) cpu: Option<String>,
    pub(crate) pids: Option<i64>,
    pub(crate) shm: Option<String>,
    pub(crate) shm_default: Option<String>,
    pub(crate) log_size: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Pod {
    pub(crate) host_network: Option<String>,
    pub(crate) host_namespaces: Option<String>,
    pub(crate) privileged: Option<String>,
    pub(crate) host_path: Option<String>,
    pub(crate) hooks: Option<String>,
    pub(crate) no_new_privs: Option<String>,
    pub(crate) binary_logger: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Capabilities {
    pub(crate) ceiling: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Annotations {
    pub(crate) allow: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Mounts {
    pub(crate) kubelet: Option<String>,
    pub(crate) containerd: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Seccomp {
    pub(crate) outer: Option<String>,
    pub(crate) io_uring: Option<bool>,
    pub(crate) guest: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct Calls {
    pub(crate) create: Option<String>,
    pub(crate) start: Option<String>,
    pub(crate) signal: Option<String>,
    pub(crate) delete: Option<String>,
    pub(crate) probe: Option<String>,
    pub(crate) checkpoint: Option<String>,
    pub(crate) state: Option<String>,
}

impl FileConfig {
    /// Types the merged tree.
    ///
    /// Fails with [`ConfigError::Shape`] at the first key that is unknown or of the wrong type.
    pub(crate) fn from_layers(layers: &Layers) -> Result<Self, ConfigError> {
        let tree = layers.merged();
        let shape = |path: &[&str], reason: &str| ConfigError::Shape {
            file: layers.origin(path),
            line: layers.line(path),
            key: dotted(path),
            reason: one_line(reason),
        };
        let written = serde_path_to_error::deserialize(tree.clone()).map_err(|error| {
            let path: Vec<&str> = error.path().iter().filter_map(key_of).collect();
            shape(&path, error.inner().message())
        })?;
        // serde also reads a struct from an array, key by key in the order of its fields.
        match tree.iter().find(|(_, section)| !section.is_table()) {
            Some((key, _)) => Err(shape(&[key], "invalid type: sequence, expected a table")),
            None => Ok(written),
        }
    }
}

fn key_of(segment: &Segment) -> Option<&str> {
    match segment {
        Segment::Map { key } => Some(key),
        // A list is one value of its key; there are no enums.
        Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
    }
}

//! Reads the files; the only place of this crate that touches the disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::ceiling::{check_order, hold_class};
use crate::error::{ConfigError, Fault, Origin, one_line};
use crate::file::FileConfig;
use crate::locate::line_of;
use crate::merge::{Layer, Layers};
use crate::policy::NodePolicy;
use crate::value::node_policy;

#[cfg(test)]
mod tests;

/// Where the node's base file is.
pub const BASE_FILE: &str = "/etc/curfew/config.toml";
/// Where the node's drop-ins are; those named `*.toml` are read, in byte order of their names.
pub const DROP_IN_DIR: &str = "/etc/curfew/conf.d";

/// Bytes of one file or inline body.
const MAX_BYTES: u64 = 1 << 20;
/// The version of the format, written at the top of the base file.
const VERSION: i64 = 1;
/// Fields of containerd's own that may stand at the top of an inline body, in lower case.
const CONTAINERD_KEYS: [&str; 2] = ["typeurl", "configpath"];

/// What a runtime's entry in containerd's configuration names, to be merged over the node's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class<'a> {
    /// Nothing: the node's policy as it is.
    None,
    /// A file, which must exist.
    File(&'a Path),
    /// TOML text in place of a file.
    Inline(&'a str),
}

/// The node's own files, the strongest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFiles {
    /// Must say its version; without it the built-in defaults are the base.
    pub base: Option<PathBuf>,
    pub drop_ins: Vec<PathBuf>,
}

impl NodeFiles {
    /// Looks for them where they are on a node. A missing `base` or `drop_in_dir` is fine.
    ///
    /// # Errors
    /// What is there and cannot be looked at.
    pub fn find(base: &Path, drop_in_dir: &Path) -> Result<Self, ConfigError> {
        let base = exists(base)?.then(|| base.to_owned());
        Ok(Self { base, drop_ins: drop_ins(drop_in_dir)? })
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = Result<Layer, ConfigError>> {
        let base = self.base.iter().map(|path| read_layer(path, Version::Required));
        base.chain(self.drop_ins.iter().map(|path| read_layer(path, Version::Optional)))
    }
}

/// Reads and merges the node's files and the class, and checks the result.
///
/// A missing `base` or `drop_in_dir` is fine: the built-in defaults hold. Anything else that is named, listed
/// or linked to and cannot be read is refused. The node's files must make a valid policy without the class.
pub fn load(base: &Path, drop_in_dir: &Path, class: Class<'_>) -> Result<NodePolicy, ConfigError> {
    let files = NodeFiles::find(base, drop_in_dir)?;
    let mut layers = Layers { node: files.layers().collect::<Result<_, _>>()?, class: None };
    let node = node_of(&layers)?;
    layers.class = class_layer(class)?;
    under_class(node, &layers)
}

/// The policy without the class, valid as a whole.
pub(crate) fn node_of(layers: &Layers) -> Result<NodePolicy, ConfigError> {
    let node = typed(layers)?;
    check_order(&node, layers)?;
    Ok(node)
}

/// The policy with the class, if there is one, held under `node`.
pub(crate) fn under_class(node: NodePolicy, layers: &Layers) -> Result<NodePolicy, ConfigError> {
    if layers.class.is_none() {
        return Ok(node);
    }
    let mut policy = typed(layers)?;
    hold_class(&mut policy, &node, layers)?;
    Ok(policy)
}

/// Every value understood by itself.
pub(crate) fn typed(layers: &Layers) -> Result<NodePolicy, ConfigError> {
    node_policy(FileConfig::from_layers(layers)?, layers)
}

pub(crate) fn class_layer(class: Class<'_>) -> Result<Option<Layer>, ConfigError> {
    match class {
        Class::None => Ok(None),
        Class::File(path) => read_layer(path, Version::Optional).map(Some),
        Class::Inline(body) => inline_layer(body).map(Some),
    }
}

/// Whether a file must say its version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Required,
    Optional,
}

/// Whether there is anything at `path`, be it a dangling link: that one was meant to be read.
fn exists(path: &Path) -> Result<bool, ConfigError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unreadable(path, error)),
    }
}

/// The paths of the drop-ins in byte order of names. Hidden files are left out, as a shell's `*.toml` does.
fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    if !exists(dir)? {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in dir.read_dir().map_err(|error| unreadable(dir, error))? {
        let name = entry.map_err(|error| unreadable(dir, error))?.file_name();
        if name.as_bytes().ends_with(b".toml") && !name.as_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn read_layer(path: &Path, version: Version) -> Result<Layer, ConfigError> {
    let text = read(path)?;
    layer(&text, Origin::File(path.to_owned()), version)
}

fn inline_layer(body: &str) -> Result<Layer, ConfigError> {
    check_size(body.len() as u64, || Origin::Inline)?;
    let mut layer = layer(body, Origin::Inline, Version::Optional)?;
    let is_ours = |key: &str| !CONTAINERD_KEYS.contains(&key.to_ascii_lowercase().as_str());
    layer.table.retain(|key, _| is_ours(key));
    Ok(layer)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    // Asked before opening: to open a FIFO would wait for its writer.
    let metadata = path.metadata().map_err(|error| unreadable(path, error))?;
    if !metadata.is_file() {
        return Err(ConfigError::NotAFile { file: path.to_owned() });
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, error))?;
    check_size(bytes.len() as u64, || Origin::File(path.to_owned()))?;
    String::from_utf8(bytes).map_err(|_| ConfigError::NotUtf8 { file: path.to_owned() })
}

fn check_size(bytes: u64, file: impl FnOnce() -> Origin) -> Result<(), ConfigError> {
    match bytes <= MAX_BYTES {
        true => Ok(()),
        false => Err(ConfigError::TooLarge { file: file(), most: MAX_BYTES }),
    }
}

fn unreadable(path: &Path, reason: io::Error) -> ConfigError {
    ConfigError::Unreadable { file: path.to_owned(), reason }
}

/// Parses one file's text, and checks and takes out its version.
fn layer(text: &str, origin: Origin, version: Version) -> Result<Layer, ConfigError> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line_ends = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n');
        ConfigError::Syntax {
            file: origin.clone(),
            line: 1 + line_ends.count(),
            reason: one_line(error.message()),
        }
    })?;
    match table.remove("version") {
        Some(Value::Integer(VERSION)) => {}
        Some(other) => {
            return Err(ConfigError::Value {
                file: origin,
                line: line_of(text, &["version"]),
                key: "version".to_owned(),
                value: other.to_string(),
                fault: Fault::NotOneOf { known: vec!["1"] },
            });
        }
        None if version == Version::Required => {
            return Err(ConfigError::NoVersion { file: origin });
        }
        None => {}
    }
    Ok(Layer { origin, table, text: text.to_owned() })
}

//! What can be wrong, with everything a reader needs to put it right.
//!
//! Each message is whole: file, key, value and reason stand in its text, and there is no source chain to
//! print besides. Messages are fragments for the end of a sentence such as "failed to load node policy: …".

use std::{fmt, io, path::PathBuf, time::Duration};

use crate::units::{DurationError, format_duration, quantity::QuantityError};

/// Characters of a refused value that a message repeats.
pub(crate) const SHOWN: usize = 64;
/// Characters of a parser's message.
const REASON: usize = 300;

/// `text` in quotes, escaped and cut, so that no value can break or flood a log line.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A parser's message, which may repeat what it read, as one line of bounded length.
pub(crate) fn one_line(message: &str) -> String {
    let shown = message.chars().take(REASON);
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A line, as it follows a file's name.
fn at(line: Option<u32>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the value is this crate's default.
    BuiltIn,
    /// The base file, a drop-in or a class file.
    File(PathBuf),
    /// The options in containerd's own configuration of the runtime.
    Inline,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => out.write_str("built-in defaults"),
            Self::File(path) => write!(out, "{}", path.display()),
            Self::Inline => out.write_str("inline options"),
        }
    }
}

/// Why the node's policy could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file or directory could not be opened or read; a class file that is missing is one of these.
    #[error("{}: {reason}", .file.display())]
    Unreadable { file: PathBuf, reason: io::Error },
    /// A directory, FIFO, socket or device in a file's place.
    #[error("{}: not a regular file", .file.display())]
    NotAFile { file: PathBuf },
    #[error("{file}: longer than {most} bytes")]
    TooLarge { file: Origin, most: u64 },
    #[error("{}: not valid utf-8", .file.display())]
    NotUtf8 { file: PathBuf },
    /// Not TOML. Lines count from 1.
    #[error("{file}, line {line}: {reason}")]
    Syntax { file: Origin, line: usize, reason: String },
    /// The base file doesn't say which version of the format it is.
    #[error("{file}: version is missing; write version = 1 at the top")]
    NoVersion { file: Origin },
    /// A key that doesn't exist, or a value of the wrong TOML type.
    #[error("{file}{}: {key}: {reason}", at(*.line))]
    Shape { file: Origin, line: Option<u32>, key: String, reason: String },
    /// A value of the right type that breaks a rule of its own.
    #[error("{file}{}: {key} = {}: {fault}", at(*.line), quoted(.value))]
    Value { file: Origin, line: Option<u32>, key: String, value: String, fault: Fault },
    /// A value above the ceiling that the same policy sets for it. Both as they would be written.
    #[error("{file}: {key} = {value} is above {ceiling_key} = {ceiling} ({ceiling_file})")]
    AboveCeiling {
        file: Origin,
        key: &'static str,
        value: Box<str>,
        ceiling_file: Origin,
        ceiling_key: &'static str,
        ceiling: Box<str>,
    },
    /// A value that means nothing without another key.
    #[error("{file}: {key} = {value:?} needs {needed}, which isn't set")]
    Alone { file: Origin, key: &'static str, value: &'static str, needed: &'static str },
    /// A class that loosens a ceiling of the node.
    #[error(
        "{file}: {key} = {}: a class may not go above the node's {} ({node_file})",
        format_duration(*.value),
        format_duration(*.node)
    )]
    Loosened { file: Origin, key: &'static str, value: Duration, node_file: Origin, node: Duration },
    /// A class that lets out what the node keeps in.
    #[error("{file}: {key}: a class may not go from the node's {node:?} ({node_file}) to {}", quoted(.value))]
    Looser { file: Origin, key: &'static str, value: String, node_file: Origin, node: String },
}

/// The rule that a single value breaks, as the end of "`key = value`: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Duration(#[from] DurationError),
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    #[error("must be longer than zero")]
    Zero,
    #[error("must be more than zero")]
    Nothing,
    #[error("must be between {least} and {most}")]
    OutOfRange { least: &'static str, most: &'static str },
    #[error("{} isn't the name of a Linux capability, such as CAP_KILL", quoted(.0))]
    NotACapability(String),
    #[error("{} isn't an annotation's key", quoted(.0))]
    NotAKey(String),
    #[error("must be at least {least}")]
    TooSmall { least: &'static str },
    #[error("must be at least {}", format_duration(*.least))]
    TooShort { least: Duration },
    #[error("must be at most {}", format_duration(*.most))]
    TooLong { most: Duration },
    #[error("must be one of: {}", .known.join(", "))]
    NotOneOf { known: Vec<&'static str> },
    /// A value with a meaning that this version does not implement.
    #[error("not supported by this version")]
    Unsupported,
    #[error("must be an absolute path")]
    NotAbsolute,
    #[error("must be a path below / without '.', '..', doubled or trailing slashes or control characters")]
    NotNormal,
    /// The path must leave room for the socket names below it.
    #[error("must be at most {most} bytes long")]
    PathTooLong { most: usize },
    #[error(
        "must be none, or root or all with :memory, :self or :dir=/path and then ,size=NUMBER[kmg], which all but \
         :dir may leave out"
    )]
    Overlay,
    #[error("a flag's name must be lower-case letters, digits and inner dashes, without leading dashes")]
    FlagName,
    #[error("a flag's value must not contain a line break or NUL")]
    FlagValue,
}

/// Why a pod's annotations were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// A key under our prefix that means nothing: a typo must not pass for the default.
    #[error("annotation {}: unknown key; known are: {}", quoted(.key), .known.join(", "))]
    Unknown { key: String, known: Vec<&'static str> },
    #[error("annotation {key} = {}: {fault}", quoted(.value))]
    Value { key: String, value: String, fault: Fault },
}

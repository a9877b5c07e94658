//! Identifiers, checked once, at the door.
//!
//! The rule is containerd's own (`pkg/identifiers`): letters and digits, joined by single `.`, `_` or `-`, at most 76
//! bytes. It leaves no room for a path separator, for `..` or for an option that starts with a dash, so a checked id
//! can be part of a path or of a command line.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest identifier containerd accepts, in bytes.
pub const MAX_LENGTH: usize = 76;

/// An identifier that breaks containerd's rule.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum IdError {
    /// No identifier at all.
    #[error("{what} is empty")]
    Empty { what: &'static str },
    /// More than [`MAX_LENGTH`] bytes.
    #[error("{what} of {length} bytes is longer than {MAX_LENGTH}")]
    TooLong { what: &'static str, length: usize },
    /// A character, or two separators in a row, that the rule doesn't allow.
    #[error("{what} {id:?} must be letters and digits joined by single '.', '_' or '-'")]
    Malformed { what: &'static str, id: String },
}

fn check(what: &'static str, id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty { what });
    }
    if id.len() > MAX_LENGTH {
        let length = id.len();
        return Err(IdError::TooLong { what, length });
    }
    let well_formed = id
        .split(['.', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    if well_formed {
        return Ok(());
    }
    let id = id.to_owned();
    Err(IdError::Malformed { what, id })
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `id` against containerd's rule.
            ///
            /// # Errors
            /// [`IdError`] says what is wrong with it.
            pub fn new(id: &str) -> Result<Self, IdError> {
                check($what, id)?;
                Ok(Self(id.into()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(id: String) -> Result<Self, IdError> {
                Self::new(&id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }
    };
}

identifier!(
    /// The id of a sandbox: the pod's under CRI, the container's own for a plain container.
    SandboxId,
    "sandbox id"
);
identifier!(
    /// The id of a container.
    ContainerId,
    "container id"
);
identifier!(
    /// The id of an exec within a container.
    ExecId,
    "exec id"
);

impl SandboxId {
    /// The sandbox's root container, which carries the sandbox's id.
    pub fn root_container(&self) -> ContainerId {
        ContainerId(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_that_could_leave_a_directory_or_start_an_option_are_refused() {
        for id in [".", "..", "a/b", "../x", "-a", "a..b", "a-", "a b", "ä", "a\0", "a\n", "_"] {
            assert!(matches!(ContainerId::new(id), Err(IdError::Malformed { .. })), "{id:?} was accepted");
        }
        assert!(matches!(ContainerId::new(""), Err(IdError::Empty { .. })));
    }

    #[test]
    fn an_id_is_at_most_76_bytes_long() {
        assert!(ContainerId::new(&"a".repeat(76)).is_ok());
        assert_eq!(
            ContainerId::new(&"a".repeat(200)),
            Err(IdError::TooLong { what: "container id", length: 200 })
        );
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_one_harmless_path_component(id in ".{0,90}") {
            if let Ok(id) = ContainerId::new(&id) {
                let id = id.as_str();
                prop_assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
                prop_assert!(!id.contains("..") && !id.starts_with(['.', '-', '_']));
            }
        }
    }
}

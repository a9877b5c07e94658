//! Rules between values: a default stays under its ceiling, and a class under the node.

use std::time::Duration;

use crate::error::ConfigError;
use crate::merge::{Layers, segments};
use crate::policy::{NodePolicy, Timeout};

#[cfg(test)]
mod tests;

const DEFAULT: &str = "timeout.default";
const MAX: &str = "timeout.max";
const GRACE: &str = "timeout.grace";
const MAX_GRACE: &str = "timeout.max_grace";
const BINARY_LOGGER: &str = "pod.binary_logger";

/// A key and its duration.
type Setting = (&'static str, Duration);

/// Checks that `default <= max` and `grace <= max_grace`.
///
/// Fails with [`ConfigError::AboveCeiling`], which names both values and both files.
pub(crate) fn check_order(timeout: &Timeout, layers: &Layers) -> Result<(), ConfigError> {
    not_above((DEFAULT, timeout.default), (MAX, timeout.max), layers)?;
    not_above((GRACE, timeout.grace), (MAX_GRACE, timeout.max_grace), layers)
}

/// Holds `policy`, which has the class merged in, under the node's own policy.
///
/// A class that lowers a ceiling below a default which it inherits takes the default down with it: its
/// author meant "at most this" and need not repeat the default. One that writes both must agree with itself.
///
/// Fails with [`ConfigError::Loosened`] if the class raises a ceiling, with [`ConfigError::NotAllowed`] if it allows
/// what the node doesn't, and as [`check_order`] does.
pub(crate) fn hold_class(
    policy: &mut NodePolicy,
    node: &NodePolicy,
    layers: &Layers,
) -> Result<(), ConfigError> {
    let timeout = &mut policy.timeout;
    not_looser((MAX, timeout.max), node.timeout.max, layers)?;
    not_looser((MAX_GRACE, timeout.max_grace), node.timeout.max_grace, layers)?;
    if !layers.class_sets(&segments(DEFAULT)) {
        timeout.default = timeout.default.min(timeout.max);
    }
    if !layers.class_sets(&segments(GRACE)) {
        timeout.grace = timeout.grace.min(timeout.max_grace);
    }
    check_order(timeout, layers)?;
    not_allowed_by_class(BINARY_LOGGER, policy.pod.binary_logger, node.pod.binary_logger, layers)
}

/// Refuses a class that allows what the node doesn't.
fn not_allowed_by_class(
    key: &'static str,
    class: bool,
    node: bool,
    layers: &Layers,
) -> Result<(), ConfigError> {
    if node || !class {
        return Ok(());
    }
    let path = segments(key);
    Err(ConfigError::NotAllowed { file: layers.origin(&path), key, node_file: layers.node_origin(&path) })
}

fn not_above(
    (key, value): Setting,
    (ceiling_key, ceiling): Setting,
    layers: &Layers,
) -> Result<(), ConfigError> {
    if value <= ceiling {
        return Ok(());
    }
    Err(ConfigError::AboveCeiling {
        file: layers.origin(&segments(key)),
        key,
        value,
        ceiling_file: layers.origin(&segments(ceiling_key)),
        ceiling_key,
        ceiling,
    })
}

fn not_looser((key, value): Setting, node: Duration, layers: &Layers) -> Result<(), ConfigError> {
    if value <= node {
        return Ok(());
    }
    Err(ConfigError::Loosened {
        file: layers.origin(&segments(key)),
        key,
        value,
        node_file: layers.node_origin(&segments(key)),
        node,
    })
}

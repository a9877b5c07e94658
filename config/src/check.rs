//! Everything that is wrong with a set of files, for whoever writes them. A shim stops at the first.

use crate::error::{ConfigError, Origin};
use crate::load::{Class, NodeFiles, class_layer, node_of, typed, under_class};
use crate::merge::Layers;
use crate::policy::NodePolicy;

#[cfg(test)]
mod tests;

/// As [`load`](crate::load()), from these very files, and with every error instead of the first.
///
/// Rules between values are looked at once each value is right by itself: what a wrong one was meant to be isn't known.
///
/// # Errors
/// At least one, those of the files first in their order.
pub fn check(files: &NodeFiles, class: Class<'_>) -> Result<NodePolicy, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut layers = Layers::default();
    for layer in files.layers() {
        layer.map_or_else(|error| errors.push(error), |layer| layers.node.push(layer));
    }
    let class = class_layer(class).unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    all_errors(&mut layers, &mut errors, typed);
    layers.class = class;
    all_errors(&mut layers, &mut errors, typed);
    if !errors.is_empty() {
        return Err(errors);
    }
    let class = layers.class.take();
    let node = all_errors(&mut layers, &mut errors, node_of);
    layers.class = class;
    let policy = node
        .and_then(|node| all_errors(&mut layers, &mut errors, |layers| under_class(node.clone(), layers)));
    policy.filter(|_| errors.is_empty()).ok_or(errors)
}

/// Asks again and again, each time without the key that was wrong.
fn all_errors(
    layers: &mut Layers,
    errors: &mut Vec<ConfigError>,
    ask: impl Fn(&Layers) -> Result<NodePolicy, ConfigError>,
) -> Option<NodePolicy> {
    loop {
        match ask(layers) {
            Ok(policy) => return Some(policy),
            Err(error) => {
                let forgotten = blamed(&error).is_some_and(|(file, key)| layers.forget(file, key));
                errors.push(error);
                if !forgotten {
                    return None;
                }
            }
        }
    }
}

/// The key without which there would be no such error, and the file that has it.
fn blamed(error: &ConfigError) -> Option<(&Origin, &str)> {
    match error {
        ConfigError::AboveCeiling { file: Origin::BuiltIn, ceiling_file, ceiling_key, .. } => {
            Some((ceiling_file, ceiling_key))
        }
        ConfigError::Shape { file, key, .. } | ConfigError::Value { file, key, .. } => Some((file, key)),
        ConfigError::AboveCeiling { file, key, .. }
        | ConfigError::Alone { file, key, .. }
        | ConfigError::Loosened { file, key, .. }
        | ConfigError::Looser { file, key, .. } => Some((file, key)),
        ConfigError::Unreadable { .. }
        | ConfigError::NotAFile { .. }
        | ConfigError::TooLarge { .. }
        | ConfigError::NotUtf8 { .. }
        | ConfigError::Syntax { .. }
        | ConfigError::NoVersion { .. } => None,
    }
}

//! Files as layers of one TOML tree.

use toml::{Table, Value};

use crate::error::{Origin, SHOWN, quoted};
use crate::locate::line_of;

/// One file's tree and where it came from.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) origin: Origin,
    pub(crate) table: Table,
    /// As it was read, to tell lines.
    pub(crate) text: String,
}

/// What one layer says about a key.
enum Said {
    /// The key itself is there.
    Set,
    /// A value stands where a table on the way to the key would be: earlier layers are covered.
    Covered,
    Nothing,
}

impl Layer {
    fn look_up(&self, path: &[&str]) -> Said {
        let mut table = &self.table;
        for (depth, segment) in path.iter().enumerate() {
            match table.get(*segment) {
                None => return Said::Nothing,
                Some(_) if depth + 1 == path.len() => return Said::Set,
                Some(Value::Table(inner)) => table = inner,
                Some(_) => return Said::Covered,
            }
        }
        Said::Nothing
    }
}

/// All layers of a load.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// The base file and the drop-ins, the strongest last.
    pub(crate) node: Vec<Layer>,
    /// The class, stronger than all of them.
    pub(crate) class: Option<Layer>,
}

impl Layers {
    /// The merged tree: tables merge, any other value replaces what was there.
    pub(crate) fn merged(&self) -> Table {
        let mut tree = Table::new();
        for layer in self.node.iter().chain(&self.class) {
            merge(&mut tree, &layer.table);
        }
        tree
    }

    /// Who wrote the value that the merged tree has at `path`; the built-in defaults if nobody did.
    pub(crate) fn origin(&self, path: &[&str]) -> Origin {
        origin_of(last_writer(self.node.iter().chain(&self.class), path))
    }

    /// The line at which that was written; `None` for what nobody wrote.
    pub(crate) fn line(&self, path: &[&str]) -> Option<u32> {
        line_of(&last_writer(self.node.iter().chain(&self.class), path)?.text, path)
    }

    /// As [`Self::origin`], for the tree without the class.
    pub(crate) fn node_origin(&self, path: &[&str]) -> Origin {
        origin_of(last_writer(self.node.iter(), path))
    }

    /// Takes a key, as [`dotted`] writes it, out of the last of this file's layers that has it; whether there was one.
    pub(crate) fn forget(&mut self, origin: &Origin, key: &str) -> bool {
        let layers = self.node.iter_mut().chain(&mut self.class).rev();
        layers
            .filter(|layer| layer.origin == *origin)
            .any(|layer| forget(&mut layer.table, &mut Vec::new(), key))
    }

    /// Whether there is a class and it writes the key itself.
    pub(crate) fn class_sets(&self, path: &[&str]) -> bool {
        let said = self.class.as_ref().map(|class| class.look_up(path));
        matches!(said, Some(Said::Set))
    }
}

fn last_writer<'a>(layers: impl DoubleEndedIterator<Item = &'a Layer>, path: &[&str]) -> Option<&'a Layer> {
    for layer in layers.rev() {
        match layer.look_up(path) {
            Said::Set => return Some(layer),
            Said::Covered => return None,
            Said::Nothing => {}
        }
    }
    None
}

fn origin_of(writer: Option<&Layer>) -> Origin {
    writer.map_or(Origin::BuiltIn, |layer| layer.origin.clone())
}

fn merge(into: &mut Table, from: &Table) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

fn forget(table: &mut Table, way: &mut Vec<String>, key: &str) -> bool {
    let names: Vec<String> = table.keys().cloned().collect();
    names.into_iter().any(|name| {
        way.push(name.clone());
        let path: Vec<&str> = way.iter().map(String::as_str).collect();
        let found = match dotted(&path) == key {
            true => table.remove(&name).is_some(),
            false => table
                .get_mut(&name)
                .and_then(Value::as_table_mut)
                .is_some_and(|inner| forget(inner, way, key)),
        };
        way.pop();
        found
    })
}

/// The path of one of our own keys, none of which needs quotes.
pub(crate) fn segments(key: &str) -> Vec<&str> {
    key.split('.').collect()
}

/// A key path as TOML writes it: dotted, with quotes around segments that need them, and these cut.
pub(crate) fn dotted(path: &[&str]) -> String {
    let is_bare = |segment: &str| {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        (1..=SHOWN).contains(&segment.len()) && segment.chars().all(bare)
    };
    let segments = path.iter().map(|segment| match is_bare(segment) {
        true => (*segment).to_owned(),
        false => quoted(segment),
    });
    segments.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(texts: &[&str]) -> Layers {
        let layer = |(index, text): (usize, &&str)| Layer {
            origin: Origin::File(index.to_string().into()),
            table: text.parse().unwrap(),
            text: (*text).to_owned(),
        };
        Layers { node: texts.iter().enumerate().map(layer).collect(), class: None }
    }

    #[test]
    fn tables_merge_and_other_values_replace() {
        let layers = layers(&["[a]\nx = 1\ny = [1]\n[b]", "[a]\ny = [2]\n[a.z]\nq = 1", "b = 3"]);
        let expected: Table = "b = 3\n[a]\nx = 1\ny = [2]\n[a.z]\nq = 1".parse().unwrap();
        assert_eq!(layers.merged(), expected);
    }

    #[test]
    fn the_origin_is_the_last_layer_that_wrote_the_key() {
        let layers = layers(&["[a]\nx = 1\ny = 1", "[a]\ny = 2"]);
        assert_eq!(layers.origin(&["a", "x"]), Origin::File("0".into()));
        assert_eq!(layers.origin(&["a", "y"]), Origin::File("1".into()));
        assert_eq!(layers.origin(&["a", "z"]), Origin::BuiltIn);
    }

    #[test]
    fn a_value_in_a_tables_place_covers_what_was_below_it() {
        let layers = layers(&["[a]\nx = 1", "a = 1", "[a]\ny = 2"]);
        assert_eq!(layers.origin(&["a", "x"]), Origin::BuiltIn);
        assert_eq!(layers.origin(&["a", "y"]), Origin::File("2".into()));
    }

    #[test]
    fn segments_that_are_not_bare_are_quoted() {
        assert_eq!(dotted(&["runsc", "flags", "a.b"]), r#"runsc.flags."a.b""#);
    }
}

//! From containerd's JSON to [`Resources`].

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use serde_json::Value;

use super::{Limit, Resources, ResourcesError};

/// The end of the type's name; before it come the prefix and the major version that a client was built with.
pub(super) const TYPE_SUFFIX: &str = "/LinuxResources";

/// The most JSON to look at. containerd's own is below 2 KiB.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// How much of a refused value an error repeats.
const SHOWN: usize = 64;

const SECTIONS: [&str; 3] = ["cpu", "memory", "pids"];

/// Numbers that a key may have, and the same in words.
struct Rule {
    range: RangeInclusive<u64>,
    words: &'static str,
}

const SHARES: Rule = Rule { range: 2..=262_144, words: "2 to 262144" };

/// From the kernel's least, 1 ms, to its most.
const QUOTA: Rule =
    Rule { range: 1_000..=(1 << 44) - 1, words: "-1 or 1000 to 17592186044415 (microseconds)" };

const PERIOD: Rule = Rule { range: 1_000..=1_000_000, words: "1000 to 1000000 (microseconds)" };

/// With less than this a sentry doesn't even start.
const MEMORY: Rule = Rule {
    range: (4 << 20)..=i64::MAX.cast_unsigned(),
    words: "-1 or 4194304 to 9223372036854775807 (bytes)",
};

/// Up to the kernel's PID_MAX_LIMIT, above which `pids.max` takes nothing but `max`.
const PIDS: Rule = Rule { range: 1..=4_194_304, words: "-1, 0 or 1 to 4194304" };

/// The kernel's highest NR_CPUS and MAX_NUMNODES, less one.
const LAST_CPU: u32 = 8_191;
const LAST_NODE: u32 = 1_023;

/// Reads the `LinuxResources` that Update brings. Keys that aren't known are ignored, as the runtime specification has it.
///
/// # Errors
/// Another type, too much of it, no JSON, or a value that no kernel would take; it names the key and the value.
pub(crate) fn parse(type_url: &str, json: &[u8]) -> Result<Resources, ResourcesError> {
    if !type_url.ends_with(TYPE_SUFFIX) {
        return Err(ResourcesError::Type(shown(type_url)));
    }
    if json.len() > MAX_BYTES {
        return Err(ResourcesError::TooLong(json.len()));
    }
    let root: Value = serde_json::from_slice(json).map_err(|e| ResourcesError::Malformed(e.to_string()))?;
    let root = Root(&root);
    root.check_sections()?;
    let resources = Resources {
        cpu_shares: root.number("cpu.shares", &SHARES)?,
        cpu_quota: root.limit("cpu.quota", &QUOTA)?,
        cpu_period: root.number("cpu.period", &PERIOD)?,
        cpuset_cpus: root.list("cpu.cpus", LAST_CPU, "a list like 0-3,7 with CPUs up to 8191")?,
        cpuset_mems: root.list("cpu.mems", LAST_NODE, "a list like 0-1,3 with nodes up to 1023")?,
        memory: root.limit("memory.limit", &MEMORY)?,
        memory_and_swap: root.limit("memory.swap", &MEMORY)?,
        check_usage: root.flag("memory.checkBeforeUpdate")?,
        pids: match root.integer("pids.limit", &PIDS)? {
            Some(0) => Some(Limit::Unlimited),
            _ => root.limit("pids.limit", &PIDS)?,
        },
    };
    if is_below(resources.memory_and_swap, resources.memory) {
        let rule = "no less than memory.limit, as it is memory and swap together";
        return Err(root.refused("memory.swap", rule));
    }
    Ok(resources)
}

fn is_below(limit: Option<Limit>, other: Option<Limit>) -> bool {
    match (limit, other) {
        (Some(Limit::At(limit)), Some(Limit::At(other))) => limit < other,
        (Some(Limit::At(_)), Some(Limit::Unlimited)) => true,
        (None | Some(Limit::Unlimited), _) | (Some(Limit::At(_)), None) => false,
    }
}

/// The whole message; a key's name is its path, with dots.
struct Root<'a>(&'a Value);

impl Root<'_> {
    fn check_sections(&self) -> Result<(), ResourcesError> {
        if !self.0.is_object() {
            return Err(ResourcesError::Malformed(shown(&self.0.to_string())));
        }
        let wrong = |section: &&str| self.find(section).is_some_and(|value| !value.is_object());
        SECTIONS.into_iter().find(wrong).map_or(Ok(()), |section| Err(self.refused(section, "an object")))
    }

    /// The value of `key`. `null` is none, as it is for containerd.
    fn find(&self, key: &str) -> Option<&Value> {
        key.split('.').try_fold(self.0, |value, part| value.get(part)).filter(|value| !value.is_null())
    }

    fn refused(&self, key: &'static str, rule: &'static str) -> ResourcesError {
        let value = self.find(key).map(|value| shown(&value.to_string())).unwrap_or_default();
        ResourcesError::Value { key, value, rule }
    }

    fn integer(&self, key: &'static str, rule: &Rule) -> Result<Option<i64>, ResourcesError> {
        let Some(value) = self.find(key) else { return Ok(None) };
        value.as_i64().map(Some).ok_or_else(|| self.refused(key, rule.words))
    }

    fn number(&self, key: &'static str, rule: &Rule) -> Result<Option<u64>, ResourcesError> {
        let Some(value) = self.integer(key, rule)? else { return Ok(None) };
        let number = u64::try_from(value).ok().filter(|number| rule.range.contains(number));
        number.map(Some).ok_or_else(|| self.refused(key, rule.words))
    }

    fn limit(&self, key: &'static str, rule: &Rule) -> Result<Option<Limit>, ResourcesError> {
        if self.integer(key, rule)? == Some(-1) {
            return Ok(Some(Limit::Unlimited));
        }
        Ok(self.number(key, rule)?.map(Limit::At))
    }

    fn flag(&self, key: &'static str) -> Result<bool, ResourcesError> {
        let Some(value) = self.find(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.refused(key, "true or false"))
    }

    /// A cpuset list. An empty one is none, as it is for containerd.
    fn list(
        &self,
        key: &'static str,
        last: u32,
        rule: &'static str,
    ) -> Result<Option<String>, ResourcesError> {
        match self.find(key) {
            None => Ok(None),
            Some(Value::String(list)) if list.is_empty() => Ok(None),
            Some(Value::String(list)) if is_list(list, last) => Ok(Some(list.clone())),
            Some(_) => Err(self.refused(key, rule)),
        }
    }
}

/// Numbers and ranges with commas between them, each up to `last`.
fn is_list(list: &str, last: u32) -> bool {
    list.split(',').all(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        matches!((position(from), position(to)), (Some(from), Some(to)) if from <= to && to <= last)
    })
}

/// Digits only: Rust would take a plus sign, and the kernel doesn't.
fn position(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

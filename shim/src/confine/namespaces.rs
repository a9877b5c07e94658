//! Namespaces: a sandbox has its own, and shares none with the host.

use std::{fs, os::unix::fs::MetadataExt};

use curfew_config::{HostNamespaces, Permission};
use serde_json::{Value, json};

use super::{Object, Refusal, Subject, list, malformed, object, object_mut};

/// The shim's network is the host's.
const OWN_NETWORK: &str = "/proc/self/ns/net";

/// A spec that names no namespace of a kind asks for the host's. Only a sandbox's root container decides: the others
/// live in its. Returns whether the sandbox is to have the host's network.
pub(super) fn confine(spec: &mut Object, subject: &Subject<'_>) -> Result<bool, Refusal> {
    if !subject.role.is_root() {
        return Ok(false);
    }
    let mut named = Vec::new();
    let mut is_host_network = false;
    if let Some(linux) = object(spec, "linux")? {
        for namespace in list(linux, "namespaces", "linux.namespaces")? {
            let kind = namespace.get("type").and_then(Value::as_str);
            let kind = kind.ok_or_else(|| malformed("linux.namespaces"))?;
            is_host_network |= kind == "network" && is_own_network(namespace)?;
            named.push(kind.to_owned());
        }
    }
    let has = |kind: &str| named.iter().any(|named| named == kind);
    is_host_network |= !has("network");
    if is_host_network && subject.policy.pod.host_network == Permission::Refuse {
        return Err(Refusal::NotAllowed { what: "the host's network".into(), rule: "pod.host_network" });
    }
    let wanted: Vec<&str> = ["pid", "ipc"].into_iter().filter(|kind| !has(kind)).collect();
    if let Some(kind) = wanted.first()
        && subject.policy.pod.host_namespaces == HostNamespaces::Refuse
    {
        let what = format!("the host's {kind} namespace");
        return Err(Refusal::NotAllowed { what, rule: "pod.host_namespaces" });
    }
    if wanted.is_empty() {
        return Ok(is_host_network);
    }
    let linux = object_mut(spec, "linux")?;
    let namespaces = linux.entry("namespaces").or_insert(Value::Null);
    if namespaces.is_null() {
        *namespaces = json!([]);
    }
    let namespaces = namespaces.as_array_mut().ok_or_else(|| malformed("linux.namespaces"))?;
    namespaces.extend(wanted.into_iter().map(|kind| json!({ "type": kind })));
    Ok(is_host_network)
}

/// Whether a namespace is the host's by its path. runsc would take the host's addresses and routes for the sandbox's.
fn is_own_network(namespace: &Value) -> Result<bool, Refusal> {
    let path = match namespace.get("path") {
        None | Some(Value::Null) => return Ok(false),
        Some(path) => path.as_str().ok_or_else(|| malformed("linux.namespaces"))?,
    };
    if path.is_empty() {
        return Ok(false);
    }
    // One that the shim may not see runsc may not join.
    let (Ok(named), Ok(own)) = (fs::metadata(path), fs::metadata(OWN_NETWORK)) else { return Ok(false) };
    Ok((named.dev(), named.ino()) == (own.dev(), own.ino()))
}

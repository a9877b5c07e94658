//! Namespaces: a sandbox has its own, and shares none with the host.

use curfew_config::{HostNamespaces, Permission};
use serde_json::{Value, json};

use super::{Object, Refusal, Subject, list, malformed, object, object_mut};

/// A spec that names no namespace of a kind asks for the host's. Only a sandbox's root container decides: the others
/// live in its.
pub(super) fn confine(spec: &mut Object, subject: &Subject<'_>) -> Result<(), Refusal> {
    if !subject.role.is_root() {
        return Ok(());
    }
    let mut named = Vec::new();
    if let Some(linux) = object(spec, "linux")? {
        for namespace in list(linux, "namespaces", "linux.namespaces")? {
            let kind = namespace.get("type").and_then(Value::as_str);
            named.push(kind.ok_or_else(|| malformed("linux.namespaces"))?.to_owned());
        }
    }
    let has = |kind: &str| named.iter().any(|named| named == kind);
    if !has("network") && subject.policy.pod.host_network == Permission::Refuse {
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
        return Ok(());
    }
    let linux = object_mut(spec, "linux")?;
    let namespaces = linux.entry("namespaces").or_insert(Value::Null);
    if namespaces.is_null() {
        *namespaces = json!([]);
    }
    let namespaces = namespaces.as_array_mut().ok_or_else(|| malformed("linux.namespaces"))?;
    namespaces.extend(wanted.into_iter().map(|kind| json!({ "type": kind })));
    Ok(())
}

//! Capabilities and what may raise them.

use caps::Capability;
use curfew_config::{NoNewPrivs, NodePolicy, Permission};
use runsc_bridge::CapabilitySets;
use serde_json::{Value, json};

use super::{Object, Refusal, Subject, list, malformed, object, object_mut};

/// Sets that a sandbox's programs have; the others would pass capabilities on to programs that shouldn't have them.
const KEPT: [&str; 3] = ["bounding", "effective", "permitted"];
const EMPTIED: [&str; 2] = ["inheritable", "ambient"];
/// Who has all of these has asked for everything.
const PRIVILEGED: [Capability; 4] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_MODULE,
    Capability::CAP_SYS_RAWIO,
    Capability::CAP_SYS_BOOT,
];

pub(super) fn confine(spec: &mut Object, subject: &Subject<'_>) -> Result<(), Refusal> {
    let policy = subject.policy;
    let privileged = is_privileged(spec)?;
    if privileged && policy.pod.privileged == Permission::Refuse {
        return Err(Refusal::NotAllowed { what: "a privileged container".into(), rule: "pod.privileged" });
    }
    if object(spec, "process")?.is_none() {
        return Ok(());
    }
    let process = object_mut(spec, "process")?;
    if policy.pod.no_new_privs == NoNewPrivs::Always {
        process.insert("noNewPrivileges".to_owned(), json!(true));
    }
    let Some(sets) = process.get_mut("capabilities").filter(|sets| !sets.is_null()) else { return Ok(()) };
    let sets = sets.as_object_mut().ok_or_else(|| malformed("process.capabilities"))?;
    for name in EMPTIED {
        sets.remove(name);
    }
    for name in KEPT {
        if let Some(set) = sets.get_mut(name).filter(|_| !privileged) {
            keep_below_ceiling(set, policy)?;
        }
    }
    Ok(())
}

fn keep_below_ceiling(set: &mut Value, policy: &NodePolicy) -> Result<(), Refusal> {
    if set.is_null() {
        return Ok(());
    }
    let names = set.as_array_mut().ok_or_else(|| malformed("process.capabilities"))?;
    let ceiling = &policy.capabilities.ceiling;
    names.retain(|name| name.as_str().is_some_and(|name| ceiling.iter().any(|allowed| allowed == name)));
    Ok(())
}

/// Whether a set of the process's has all of [`PRIVILEGED`].
pub(super) fn is_privileged(spec: &Object) -> Result<bool, Refusal> {
    let Some(process) = object(spec, "process")? else { return Ok(false) };
    let Some(sets) = object(process, "capabilities")? else { return Ok(false) };
    let holds = |set: &str| {
        let names = sets.get(set).and_then(Value::as_array);
        let names: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
        PRIVILEGED.iter().all(|capability| names.contains(&capability.to_string().as_str()))
    };
    Ok(KEPT.into_iter().any(holds))
}

/// Whether the process can have `capability`.
pub(super) fn has_capability(spec: &Object, capability: Capability) -> Result<bool, Refusal> {
    let Some(process) = object(spec, "process")? else { return Ok(false) };
    let Some(sets) = object(process, "capabilities")? else { return Ok(false) };
    let names = list(sets, "bounding", "process.capabilities")?;
    let capability = capability.to_string();
    Ok(names.iter().any(|name| name.as_str() == Some(&capability)))
}

/// What an exec gets of the capabilities that it asks for, in a container that has `container`: runsc would grant it more
/// than the container has.
pub(crate) fn exec_capabilities(asked: CapabilitySets, container: CapabilitySets) -> CapabilitySets {
    let most = container.bounding;
    CapabilitySets {
        permitted: asked.permitted & most,
        effective: asked.effective & most,
        bounding: asked.bounding & most,
        inheritable: 0,
        ambient: 0,
    }
}

//! The guest's filter of system calls, which the sandbox enforces: the one that a spec brings, or the node's own.

mod calls;

#[cfg(test)]
mod tests;

use curfew_config::GuestProfile;
use serde_json::{Value, json};

use self::calls::{ALLOWED, DENIED, PRIVILEGED};
use super::{
    Object, Refusal, Subject, malformed, object, object_mut,
    privileges::{has_capability, is_privileged},
};

/// Fails with EPERM: the sandbox's only error.
const DENY: &str = "SCMP_ACT_ERRNO";
const ALLOW: &str = "SCMP_ACT_ALLOW";
/// Fails with ENOSYS unless a tracer wants to see it, which [`no_tracer`] keeps from happening.
const MISSING: &str = "SCMP_ACT_TRACE";
const ENOSYS: u64 = 38;

const EQUAL: &str = "SCMP_CMP_EQ";
/// `value` is the mask, `valueTwo` what is left.
const MASKED: &str = "SCMP_CMP_MASKED_EQ";

/// Flags of clone(2) for new namespaces: mount, cgroup, UTS, IPC, user, PID and network.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Linux' own execution domain, with or without fixed addresses, and the question which one it is (personality(2)).
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// The two requests of ptrace(2) that take options, and the option to see calls that a filter wants seen.
const PTRACE_SETOPTIONS: u64 = 0x4200;
const PTRACE_SEIZE: u64 = 0x4206;
const PTRACE_O_TRACESECCOMP: u64 = 0x80;

pub(super) fn confine(spec: &mut Object, subject: &Subject<'_>) -> Result<(), Refusal> {
    let has_one = match object(spec, "linux")? {
        Some(linux) => object(linux, "seccomp").map_err(|_| malformed("linux.seccomp"))?.is_some(),
        None => false,
    };
    if has_one {
        return keep_missing_calls_missing(object_mut(object_mut(spec, "linux")?, "seccomp")?);
    }
    // Who is privileged here was found to be allowed to be.
    if subject.policy.seccomp.guest == GuestProfile::RuntimeDefault && !is_privileged(spec)? {
        let profile = runtime_default(spec)?;
        object_mut(spec, "linux")?.insert("seccomp".to_owned(), profile);
    }
    Ok(())
}

/// Everything that isn't named is missing, as it is where a kernel doesn't have it: programs know how to go on without a
/// call that isn't there, and give up on one that fails. Among these is clone3, whose flags no filter can see.
pub(super) fn runtime_default(spec: &Object) -> Result<Value, Refusal> {
    let mut allowed: Vec<&str> = ALLOWED.iter().flat_map(|(_, names)| words(names)).collect();
    let mut denied: Vec<&str> = words(DENIED).collect();
    for (capabilities, names) in PRIVILEGED {
        let mut may = false;
        for capability in *capabilities {
            may |= has_capability(spec, *capability)?;
        }
        if may { &mut allowed } else { &mut denied }.extend(words(names));
    }
    let is_admin = has_capability(spec, caps::Capability::CAP_SYS_ADMIN)?;
    let mut rules = if allowed.contains(&"ptrace") { no_tracer().to_vec() } else { Vec::new() };
    rules.push(json!({ "names": allowed, "action": ALLOW }));
    rules.push(json!({ "names": denied, "action": DENY }));
    let no_namespaces = argument(0, MASKED, NEW_NAMESPACES, 0);
    let arguments = if is_admin { vec![] } else { vec![no_namespaces] };
    rules.push(json!({ "names": ["clone"], "action": ALLOW, "args": arguments }));
    let personalities: Vec<Value> = PERSONALITIES.iter().map(|p| argument(0, EQUAL, *p, 0)).collect();
    rules.push(json!({ "names": ["personality"], "action": ALLOW, "args": personalities }));
    // Of both, any other use.
    rules.push(json!({ "names": ["clone", "personality"], "action": DENY }));
    Ok(json!({ "defaultAction": MISSING, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules }))
}

/// The sandbox's error is EPERM, whatever a profile asks for. containerd's own has ENOSYS for clone3, without which the C
/// library falls back on clone, and with EPERM no program could have a thread.
fn keep_missing_calls_missing(profile: &mut Object) -> Result<(), Refusal> {
    let mut changed = replace(profile, "defaultAction", "defaultErrnoRet");
    let rules = profile.entry("syscalls").or_insert(Value::Null);
    if rules.is_null() {
        *rules = json!([]);
    }
    let rules = rules.as_array_mut().ok_or_else(|| malformed("linux.seccomp.syscalls"))?;
    for rule in &mut *rules {
        let rule = rule.as_object_mut().ok_or_else(|| malformed("linux.seccomp.syscalls"))?;
        changed |= replace(rule, "action", "errnoRet");
    }
    if changed {
        rules.splice(0..0, no_tracer());
    }
    Ok(())
}

fn replace(rule: &mut Object, action: &str, error: &str) -> bool {
    let is_missing = rule.get(action).and_then(Value::as_str) == Some(DENY)
        && rule.get(error).and_then(Value::as_u64) == Some(ENOSYS);
    if is_missing {
        rule.insert(action.to_owned(), json!(MISSING));
        rule.remove(error);
    }
    is_missing
}

/// Rules by which no program becomes a tracer that would let a missing call happen. The first rule that fits counts.
fn no_tracer() -> [Value; 2] {
    [PTRACE_SETOPTIONS, PTRACE_SEIZE].map(|request| {
        let request = argument(0, MASKED, 0xffff_ffff, request);
        let option = argument(3, MASKED, PTRACE_O_TRACESECCOMP, PTRACE_O_TRACESECCOMP);
        json!({ "names": ["ptrace"], "action": DENY, "args": [request, option] })
    })
}

fn argument(index: u8, operator: &str, value: u64, value_two: u64) -> Value {
    json!({ "index": index, "value": value, "valueTwo": value_two, "op": operator })
}

fn words(names: &'static str) -> impl Iterator<Item = &'static str> {
    names.split_ascii_whitespace()
}

//! Resource limits of programs (getrlimit(2)).
//!
//! A sandbox has one set of them for the first programs of all its containers and for execs: who starts a container
//! writes what its spec names into that set, and each exec what the root container's spec names. So a pod's root
//! container names none, each other container names all, and none names more than another: then an exec changes
//! nothing, a container starts with what its own spec says whatever programs before it did to the set, and nobody has
//! more than any container's spec allows.

use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use super::{Object, Refusal, Subject, list, malformed, object, object_mut};
use crate::pod::group::Role;

const KEY: &str = "rlimits";
const NAME: &str = "process.rlimits";
const INFINITE: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rlimit {
    soft: u64,
    hard: u64,
}

impl Rlimit {
    fn at_most(self, other: Self) -> Self {
        let hard = self.hard.min(other.hard);
        Self { soft: self.soft.min(other.soft).min(hard), hard }
    }
}

/// Every resource, and what a program has of it whose spec doesn't say, as runsc has it.
const KINDS: [(&str, Rlimit); 16] = [
    ("RLIMIT_AS", fixed(INFINITE)),
    ("RLIMIT_CORE", fixed(INFINITE)),
    ("RLIMIT_CPU", fixed(INFINITE)),
    ("RLIMIT_DATA", fixed(INFINITE)),
    (FSIZE, fixed(INFINITE)),
    ("RLIMIT_LOCKS", fixed(INFINITE)),
    ("RLIMIT_MEMLOCK", fixed(64 << 10)),
    ("RLIMIT_MSGQUEUE", fixed(819_200)),
    ("RLIMIT_NICE", fixed(0)),
    (NOFILE, fixed(INFINITE)),
    ("RLIMIT_NPROC", fixed(INFINITE)),
    ("RLIMIT_RSS", fixed(INFINITE)),
    ("RLIMIT_RTPRIO", fixed(0)),
    ("RLIMIT_RTTIME", fixed(INFINITE)),
    ("RLIMIT_SIGPENDING", fixed(0)),
    ("RLIMIT_STACK", Rlimit { soft: 8 << 20, hard: INFINITE }),
];
const FSIZE: &str = "RLIMIT_FSIZE";
const NOFILE: &str = "RLIMIT_NOFILE";

const fn fixed(value: u64) -> Rlimit {
    Rlimit { soft: value, hard: value }
}

/// What the programs of a pod's containers have, in the order of [`KINDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rlimits([Rlimit; KINDS.len()]);

/// Limits as a spec names them; `None` for what it doesn't.
type Named = [Option<Rlimit>; KINDS.len()];

/// Returns what the pod's containers have from now on; `None` for a container without a pod, which shares with nobody.
pub(super) fn confine(spec: &mut Object, subject: &Subject<'_>) -> Result<Option<Rlimits>, Refusal> {
    let Some(process) = object(spec, "process")? else { return Ok(subject.rlimits) };
    let named = named(process)?;
    let process = object_mut(spec, "process")?;
    match subject.role {
        Role::Plain => {
            if process.contains_key(KEY) {
                process.insert(KEY.to_owned(), written(&of_sandbox(named)));
            }
            Ok(None)
        }
        Role::Pause => {
            process.remove(KEY);
            let names_none = named.iter().all(Option::is_none);
            Ok((!names_none).then(|| completed(of_sandbox(named))))
        }
        Role::Workload { .. } => {
            let mut limits = completed(of_sandbox(named));
            if let Some(pods) = subject.rlimits {
                for (limit, most) in limits.0.iter_mut().zip(pods.0) {
                    *limit = limit.at_most(most);
                }
            }
            process.insert(KEY.to_owned(), written(&limits.0.map(Some)));
            Ok(Some(limits))
        }
    }
}

fn named(process: &Object) -> Result<Named, Refusal> {
    let mut named: Named = [None; KINDS.len()];
    for entry in list(process, KEY, NAME)? {
        let kind = entry.get("type").and_then(Value::as_str).ok_or_else(|| malformed(NAME))?;
        let wrong = || malformed(&format!("{NAME}: {kind:?}"));
        let number = |key: &str| entry.get(key).and_then(Value::as_u64).ok_or_else(wrong);
        let limit = Rlimit { soft: number("soft")?, hard: number("hard")? };
        let slot = KINDS.iter().position(|(known, _)| *known == kind).and_then(|at| named.get_mut(at));
        let slot = slot.filter(|slot| slot.is_none() && limit.soft <= limit.hard).ok_or_else(wrong)?;
        *slot = Some(limit);
    }
    Ok(named)
}

/// A guest's files are the sandbox's on the host: nobody can have more of them than the sandbox, which has the shim's.
fn of_sandbox(mut named: Named) -> Named {
    for (limit, (kind, _)) in named.iter_mut().zip(KINDS) {
        *limit = limit.map(|limit| own(kind).map_or(limit, |own| limit.at_most(fixed(own.hard))));
    }
    named
}

fn completed(named: Named) -> Rlimits {
    let mut all = KINDS.map(|(kind, default)| own(kind).unwrap_or(default));
    for (limit, named) in all.iter_mut().zip(named) {
        *limit = named.unwrap_or(*limit);
    }
    Rlimits(all)
}

/// The shim's own limit, where it is the sandbox's and its guest's too.
fn own(kind: &str) -> Option<Rlimit> {
    let resource = match kind {
        FSIZE => Resource::Fsize,
        NOFILE => Resource::Nofile,
        _ => return None,
    };
    let own = getrlimit(resource);
    Some(Rlimit { soft: own.current.unwrap_or(INFINITE), hard: own.maximum.unwrap_or(INFINITE) })
}

fn written(limits: &Named) -> Value {
    let entries = KINDS.iter().zip(limits).filter_map(|((kind, _), limit)| {
        limit.map(|limit| json!({ "type": kind, "soft": limit.soft, "hard": limit.hard }))
    });
    Value::Array(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{confined_for, own_namespaces, subject};
    use super::*;

    fn spec(limits: &Value) -> Value {
        json!({ "process": { "rlimits": limits }, "linux": { "namespaces": own_namespaces() } })
    }

    fn workload() -> Role {
        Role::Workload { sandbox: runsc_bridge::SandboxId::new("p").unwrap() }
    }

    fn limit(kind: &str, soft: u64, hard: u64) -> Value {
        json!({ "type": kind, "soft": soft, "hard": hard })
    }

    #[test]
    fn a_pods_containers_name_every_limit_and_none_more_than_another() {
        let policy = curfew_config::NodePolicy::default();
        let mut pod = None;
        let mut start = |role: &Role, limits: Value| {
            let Value::Object(mut spec) = spec(&limits) else { unreachable!() };
            let subject = Subject { rlimits: pod, ..subject(&policy, role) };
            pod = super::super::confine(&mut spec, &subject).unwrap().rlimits;
            let limits = spec["process"].get(KEY).and_then(Value::as_array).cloned().unwrap_or_default();
            let of = |kind: &str| {
                let found = limits.iter().find(|limit| limit["type"] == kind)?;
                Some((found["soft"].as_u64()?, found["hard"].as_u64()?))
            };
            (limits.len(), of("RLIMIT_CORE"), of("RLIMIT_STACK"))
        };
        assert_eq!(start(&Role::Pause, json!([])).0, 0);
        let default = Some((8 << 20, INFINITE));
        assert_eq!(start(&workload(), json!([limit("RLIMIT_CORE", 5, 7)])), (16, Some((5, 7)), default));
        assert_eq!(start(&workload(), json!([])), (16, Some((5, 7)), default));
        assert_eq!(start(&workload(), json!([limit("RLIMIT_CORE", 6, 6)])), (16, Some((5, 6)), default));
        assert_eq!(start(&workload(), json!([limit("RLIMIT_CORE", 0, 9)])), (16, Some((0, 6)), default));
        assert_eq!(start(&workload(), json!([limit("RLIMIT_STACK", 9, 9)])).2, Some((9, 9)));
    }

    #[test]
    fn what_a_pods_root_container_names_holds_for_the_others() {
        let policy = curfew_config::NodePolicy::default();
        let Value::Object(mut root) = spec(&json!([limit("RLIMIT_CORE", 1, 2)])) else { unreachable!() };
        let pod = super::super::confine(&mut root, &subject(&policy, &Role::Pause)).unwrap().rlimits;
        assert!(root["process"].get(KEY).is_none());
        let core = KINDS.iter().position(|(kind, _)| *kind == "RLIMIT_CORE").unwrap();
        assert_eq!(pod.unwrap().0[core], Rlimit { soft: 1, hard: 2 });
    }

    #[test]
    fn a_container_without_a_pod_keeps_what_it_names_and_has_no_more_files_than_the_shim() {
        let policy = curfew_config::NodePolicy::default();
        let asked = json!([limit("RLIMIT_CORE", 5, 7), limit(NOFILE, 3, INFINITE)]);
        let kept = confined_for(spec(&asked), &policy, &Role::Plain, None).unwrap();
        let most = own(NOFILE).unwrap().hard;
        let expected = json!([limit("RLIMIT_CORE", 5, 7), limit(NOFILE, 3, most)]);
        assert_eq!(kept["process"]["rlimits"], expected);
    }

    #[test]
    fn limits_that_are_none_are_malformed() {
        let policy = curfew_config::NodePolicy::default();
        for limits in [
            json!([limit("RLIMIT_CORE", 8, 7)]),
            json!([limit("RLIMIT_CORES", 7, 7)]),
            json!([limit("RLIMIT_CORE", 7, 7), limit("RLIMIT_CORE", 7, 7)]),
            json!([{ "type": "RLIMIT_CORE", "soft": 7 }]),
            json!([{ "type": "RLIMIT_CORE", "soft": -1, "hard": 7 }]),
            json!([{ "soft": 7, "hard": 7 }]),
            json!({ "RLIMIT_CORE": 7 }),
        ] {
            for role in [Role::Plain, Role::Pause, workload()] {
                let refused = confined_for(spec(&limits), &policy, &role, None).unwrap_err();
                assert!(matches!(refused, Refusal::Malformed { .. }), "{limits}: {refused}");
                assert!(refused.to_string().contains(NAME), "{refused}");
            }
        }
    }
}

//! An exec's process, from the JSON that containerd passes on.

use std::{path::Path, str::FromStr};

use caps::Capability;
use runsc_bridge::{CapabilitySets, ExecProcess};
use serde::Deserialize;
use thiserror::Error;

use crate::confine::exec_capabilities;

/// The largest process description that is read, in bytes.
const LARGEST: usize = 64 << 10;
/// `(uid_t)-1`, which means "unchanged" to the kernel and is nobody's.
const NOBODYS_ID: u32 = u32::MAX;
/// What no sandbox gets unless its policy says so: raw sockets could forge what the node's network trusts.
const NET_RAW: u64 = 1 << 13;

/// A process description that cannot be executed.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ProcessError {
    #[error("a process description of {0} bytes is larger than {LARGEST}")]
    TooLarge(usize),
    #[error("the process description is malformed: {0}")]
    Malformed(String),
    #[error("process.{key}: {reason}")]
    Invalid { key: &'static str, reason: String },
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct TerminalSize {
    pub(crate) height: u16,
    pub(crate) width: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    #[serde(default)]
    user: DescribedUser,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    cwd: String,
    #[serde(default)]
    capabilities: Option<DescribedCapabilities>,
    #[serde(default)]
    no_new_privileges: bool,
    #[serde(default)]
    console_size: Option<TerminalSize>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct DescribedUser {
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    additional_gids: Option<Vec<u32>>,
}

/// Capability sets as a spec names them.
#[derive(Deserialize, Default)]
pub(super) struct DescribedCapabilities {
    #[serde(default)]
    bounding: Option<Vec<String>>,
    #[serde(default)]
    effective: Option<Vec<String>>,
    #[serde(default)]
    inheritable: Option<Vec<String>>,
    #[serde(default)]
    permitted: Option<Vec<String>>,
    #[serde(default)]
    ambient: Option<Vec<String>>,
}

impl DescribedCapabilities {
    pub(super) fn sets(&self) -> Result<CapabilitySets, ProcessError> {
        Ok(CapabilitySets {
            permitted: mask(self.permitted.as_deref())?,
            inheritable: mask(self.inheritable.as_deref())?,
            effective: mask(self.effective.as_deref())?,
            bounding: mask(self.bounding.as_deref())?,
            ambient: mask(self.ambient.as_deref())?,
        })
    }
}

fn mask(names: Option<&[String]>) -> Result<u64, ProcessError> {
    let mut mask = 0;
    for name in names.unwrap_or_default() {
        let unknown = |_| invalid("capabilities", format!("{name:?} is no capability"));
        mask |= Capability::from_str(name).map_err(unknown)?.bitmask();
    }
    Ok(mask & !NET_RAW)
}

fn invalid(key: &'static str, reason: impl Into<String>) -> ProcessError {
    ProcessError::Invalid { key, reason: reason.into() }
}

/// What an exec can have at most: what its container has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ExecCeiling {
    pub(crate) capabilities: CapabilitySets,
    /// Whether nothing in the container may gain privileges.
    pub(crate) no_new_privileges: bool,
}

/// Reads and checks an exec's process. Where it names no capabilities it gets those of its container.
///
/// # Errors
/// [`ProcessError`] names the key.
pub(crate) fn parse(
    json: &[u8],
    terminal: bool,
    container: ExecCeiling,
) -> Result<(ExecProcess, Option<TerminalSize>), ProcessError> {
    if json.len() > LARGEST {
        return Err(ProcessError::TooLarge(json.len()));
    }
    // An array would do for a struct, as far as the parser is concerned.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(ProcessError::Malformed("it is no object".to_owned()));
    }
    let described: Described =
        serde_json::from_slice(json).map_err(|e| ProcessError::Malformed(e.to_string()))?;
    let capabilities = match &described.capabilities {
        Some(capabilities) => exec_capabilities(capabilities.sets()?, container.capabilities),
        None => container.capabilities,
    };
    let console_size = described.console_size;
    let user = described.user;
    let process = ExecProcess {
        args: described.args,
        env: described.env.unwrap_or_default(),
        cwd: if described.cwd.is_empty() { "/".to_owned() } else { described.cwd },
        uid: user.uid,
        gid: user.gid,
        additional_gids: user.additional_gids.unwrap_or_default(),
        capabilities,
        no_new_privileges: described.no_new_privileges || container.no_new_privileges,
        terminal,
    };
    check(&process)?;
    Ok((process, console_size))
}

fn check(process: &ExecProcess) -> Result<(), ProcessError> {
    if process.args.first().is_none_or(String::is_empty) {
        return Err(invalid("args", "names no program"));
    }
    if process.args.iter().any(|arg| arg.contains('\0')) {
        return Err(invalid("args", "holds a NUL"));
    }
    // Never with its value: it may be a secret.
    if process.env.iter().any(|variable| variable.contains('\0') || !variable.contains('=')) {
        return Err(invalid("env", "holds a variable that isn't KEY=value"));
    }
    if !process.cwd.starts_with('/') || process.cwd.contains('\0') {
        return Err(invalid("cwd", format!("{:?} is not an absolute path", process.cwd)));
    }
    if Path::new(&process.cwd).starts_with("/proc") {
        return Err(invalid("cwd", format!("{:?} is a process's own", process.cwd)));
    }
    if process.uid == NOBODYS_ID {
        return Err(invalid("user.uid", format!("{NOBODYS_ID} is no user")));
    }
    if process.gid == NOBODYS_ID || process.additional_gids.contains(&NOBODYS_ID) {
        return Err(invalid("user.gid", format!("{NOBODYS_ID} is no group")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::subsequence};

    use super::*;

    fn names() -> Vec<String> {
        (0..41)
            .map(|index| caps::all().into_iter().find(|c| c.index() == index).unwrap().to_string())
            .collect()
    }

    fn parsed(json: &str) -> Result<ExecProcess, ProcessError> {
        let capabilities = CapabilitySets { bounding: 1 | 1 << 5, ..Default::default() };
        parse(json.as_bytes(), false, ExecCeiling { capabilities, no_new_privileges: false })
            .map(|(process, _)| process)
    }

    #[test]
    fn an_exec_gets_what_it_names_and_its_containers_capabilities_otherwise() {
        let process =
            parsed(r#"{"args":["true"],"env":["A=b"],"cwd":"/tmp","user":{"uid":1000,"gid":7}}"#).unwrap();
        assert_eq!((process.uid, process.gid, process.cwd.as_str()), (1000, 7, "/tmp"));
        assert_eq!(process.capabilities.bounding, 1 | 1 << 5);
        let names = r#"["CAP_CHOWN","CAP_SYS_ADMIN","CAP_NET_RAW"]"#;
        let process = parsed(&format!(
            r#"{{"args":["true"],"capabilities":{{"bounding":{names},"inheritable":{names},"ambient":{names}}}}}"#
        ));
        assert_eq!(process.unwrap().capabilities, CapabilitySets { bounding: 1, ..Default::default() });
    }

    #[test]
    fn what_cannot_be_executed_is_refused_by_key() {
        for (json, key) in [
            (r#"{"args":[]}"#, "args"),
            (r#"{"args":[""]}"#, "args"),
            (r#"{"args":["a"],"cwd":"tmp"}"#, "cwd"),
            (r#"{"args":["a"],"cwd":"/proc/self/fd/7"}"#, "cwd"),
            (r#"{"args":["a"],"user":{"uid":4294967295}}"#, "user.uid"),
            (r#"{"args":["a"],"user":{"additionalGids":[4294967295]}}"#, "user.gid"),
            (r#"{"args":["a"],"env":["nothing"]}"#, "env"),
            (r#"{"args":["a"],"capabilities":{"bounding":["CAP_EVERYTHING"]}}"#, "capabilities"),
        ] {
            let error = parsed(json).unwrap_err();
            assert!(
                matches!(error, ProcessError::Invalid { key: found, .. } if found == key),
                "{json}: {error}"
            );
        }
        assert!(matches!(parsed(r#"{"args":["a"],"user":{"uid":-1}}"#), Err(ProcessError::Malformed(_))));
        assert!(matches!(parsed("[]"), Err(ProcessError::Malformed(_))));
        assert!(matches!(parsed(&" ".repeat(65 << 10)), Err(ProcessError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = parsed(&text);
        }

        #[test]
        fn an_exec_has_no_more_than_it_asks_for_nor_than_its_container(
            asked in subsequence(names(), 0..=41), more in subsequence(names(), 0..=41), bounding in 0..1_u64 << 41,
            no_new_privileges in any::<bool>(), kept_from in any::<bool>(),
        ) {
            let text = serde_json::json!({
                "args": ["true"], "noNewPrivileges": no_new_privileges,
                "capabilities": { "bounding": asked, "effective": more, "permitted": more, "ambient": more, "inheritable": more },
            });
            let ceiling = ExecCeiling {
                capabilities: CapabilitySets { bounding, ..CapabilitySets::default() }, no_new_privileges: kept_from,
            };
            let (process, _) = parse(text.to_string().as_bytes(), false, ceiling).unwrap();
            let bits = |names: &[String]| names.iter().fold(0, |all, name| all | 1 << Capability::from_str(name).unwrap().index());
            let got = process.capabilities;
            prop_assert_eq!(got.bounding & !(bits(&asked) & bounding), 0);
            for set in [got.effective, got.permitted] {
                prop_assert_eq!(set & !(bits(&more) & bounding), 0);
            }
            prop_assert_eq!((got.inheritable, got.ambient), (0, 0));
            prop_assert_eq!(process.no_new_privileges, no_new_privileges || kept_from);
        }
    }
}

//! What `start`, `delete` and `-info` read and print.

use containerd_shim_protos::{
    api::DeleteResponse,
    bootstrap_api::BootstrapParams,
    types::introspection::{RuntimeInfo, RuntimeVersion},
};
use protobuf::{Message, MessageField, well_known_types::any::Any};
use runsc_bridge::Features;
use thiserror::Error;

use super::timestamp;
use crate::process::Exit;

/// The type of the runtime options that CRI, `ctr` and moby send to every runtime but runc's.
const OPTIONS_TYPE: &str = "runtimeoptions.v1.Options";

/// Standard input that isn't what containerd sends.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum BootstrapError {
    #[error("standard input holds no protobuf message: {0}")]
    Malformed(String),
    #[error("runtime options of type {0:?} are not supported: the type is {OPTIONS_TYPE}")]
    OptionsType(String),
}

/// What the runtime options name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RuntimeOptions {
    /// The class's own file.
    pub(crate) config_path: String,
    /// Or its content, inline.
    pub(crate) config_body: String,
}

/// What standard input told `start`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stdin {
    pub(crate) options: RuntimeOptions,
    /// Whether containerd asked for debug logs by its log level; older ones pass a flag instead.
    pub(crate) debug: bool,
    /// containerd's ttrpc address, where the message carries it.
    pub(crate) events_address: Option<String>,
}

impl Stdin {
    /// Reads the standard input of `start` for `id` in `namespace`.
    ///
    /// From 2.3 on it is a `BootstrapParams`, before that an `Any`, or nothing. An `Any` parses as a `BootstrapParams`
    /// too, with the type in the place of the id, so that one counts only if it names what the flags name.
    pub(crate) fn parse(bytes: &[u8], id: &str, namespace: &str) -> Result<Self, BootstrapError> {
        if let Ok(params) = BootstrapParams::parse_from_bytes(bytes)
            && params.instance_id == id
            && params.namespace == namespace
        {
            return Self::from_params(params);
        }
        Ok(Self { options: parse_options_message(bytes)?, ..Self::default() })
    }

    fn from_params(params: BootstrapParams) -> Result<Self, BootstrapError> {
        let options = params.extensions.into_iter().filter_map(|extension| extension.value.into_option());
        let options =
            options.filter(|any| any.type_url.ends_with(OPTIONS_TYPE)).map(|any| parse_options(&any));
        let options = options.last().transpose()?.unwrap_or_default();
        // Debug and trace are below zero on this scale.
        let debug = params.log_level.value() < 0;
        let events_address = Some(params.containerd_ttrpc_address).filter(|address| !address.is_empty());
        Ok(Self { options, debug, events_address })
    }
}

/// Reads runtime options from the bytes of an `Any`; no bytes are no options.
pub(crate) fn parse_options_message(bytes: &[u8]) -> Result<RuntimeOptions, BootstrapError> {
    let any = Any::parse_from_bytes(bytes).map_err(|e| BootstrapError::Malformed(e.to_string()))?;
    parse_options(&any)
}

fn parse_options(any: &Any) -> Result<RuntimeOptions, BootstrapError> {
    if any.type_url.is_empty() && any.value.is_empty() {
        return Ok(RuntimeOptions::default());
    }
    if !any.type_url.ends_with(OPTIONS_TYPE) {
        return Err(BootstrapError::OptionsType(any.type_url.clone()));
    }
    let malformed = |e: protobuf::Error| BootstrapError::Malformed(e.to_string());
    let mut options = RuntimeOptions::default();
    let mut input = protobuf::CodedInputStream::from_bytes(&any.value);
    // Three string-like fields: type_url, config_path, config_body. Tags are the number and wire type 2.
    while let Some(tag) = input.read_raw_tag_or_eof().map_err(malformed)? {
        match tag {
            0x12 => options.config_path = input.read_string().map_err(malformed)?,
            0x1a => options.config_body = input.read_string().map_err(malformed)?,
            0x0a => drop(input.read_string().map_err(malformed)?),
            _ => {
                return Err(BootstrapError::Malformed(format!(
                    "unknown field tag {tag:#x} in the runtime options"
                )));
            }
        }
    }
    Ok(options)
}

/// A description of the runtime that cannot be written.
#[derive(Debug, Error)]
pub(crate) enum InfoError {
    #[error(transparent)]
    Features(#[from] serde_json::Error),
    #[error(transparent)]
    Message(#[from] protobuf::Error),
}

/// The reply to `start`: JSON, which every containerd from 1.7 on reads.
pub(crate) fn start_reply(version: u32, socket: &std::path::Path) -> String {
    let address = format!("unix://{}", socket.display());
    serde_json::json!({ "version": version, "address": address, "protocol": "ttrpc" }).to_string()
}

/// The reply to `delete`.
pub(crate) fn delete_reply(pid: u32, exit: Exit) -> Result<Vec<u8>, protobuf::Error> {
    let response = DeleteResponse {
        pid,
        exit_status: exit.status,
        exited_at: timestamp(exit.at),
        ..DeleteResponse::default()
    };
    response.write_to_bytes()
}

/// The reply to `-info`. It claims what the sandbox does and the shim passes on, and nothing more: no user namespaces
/// and ID-mapped mounts, and no recursive read-only mounts, which runsc doesn't know.
pub(crate) fn info_reply(options: &[u8], mut sandbox: Features) -> Result<Vec<u8>, InfoError> {
    sandbox.linux.namespaces.retain(|namespace| namespace != "user");
    let mut features = serde_json::to_value(sandbox)?;
    features["linux"]["cgroup"] = serde_json::json!({ "v1": true, "v2": true });
    let features = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".to_owned(),
        value: features.to_string().into_bytes(),
        ..Any::default()
    };
    let version =
        RuntimeVersion { version: env!("CARGO_PKG_VERSION").to_owned(), ..RuntimeVersion::default() };
    let info = RuntimeInfo {
        name: "io.containerd.curfew.v1".to_owned(),
        version: MessageField::some(version),
        options: if options.is_empty() {
            MessageField::none()
        } else {
            Any::parse_from_bytes(options).ok().into()
        },
        features: MessageField::some(features),
        ..RuntimeInfo::default()
    };
    Ok(info.write_to_bytes()?)
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::bootstrap_api::Extension;
    use proptest::prelude::*;

    use super::*;

    fn options_any(path: &str) -> Any {
        let mut value = vec![0x0a, 1, b'x', 0x12, u8::try_from(path.len()).unwrap()];
        value.extend_from_slice(path.as_bytes());
        Any { type_url: OPTIONS_TYPE.to_owned(), value, ..Any::default() }
    }

    #[test]
    fn an_any_is_told_from_bootstrap_params_by_the_id() {
        let any = options_any("/etc/curfew/short.toml").write_to_bytes().unwrap();
        let stdin = Stdin::parse(&any, "c1", "k8s.io").unwrap();
        assert_eq!(stdin.options.config_path, "/etc/curfew/short.toml");
        let params = BootstrapParams {
            instance_id: "c1".into(),
            namespace: "k8s.io".into(),
            containerd_ttrpc_address: "/run/containerd/containerd.sock.ttrpc".into(),
            extensions: vec![Extension {
                value: MessageField::some(options_any("/a")),
                ..Extension::default()
            }],
            ..BootstrapParams::default()
        };
        let stdin = Stdin::parse(&params.write_to_bytes().unwrap(), "c1", "k8s.io").unwrap();
        assert_eq!(stdin.options.config_path, "/a");
        assert_eq!(stdin.events_address.unwrap(), "/run/containerd/containerd.sock.ttrpc");
    }

    #[test]
    fn no_input_is_no_options() {
        assert_eq!(Stdin::parse(b"", "c1", "k8s.io").unwrap(), Stdin::default());
    }

    #[test]
    fn options_of_another_runtime_are_refused() {
        let any = Any { type_url: "containerd.runc.v1.Options".into(), value: vec![8, 1], ..Any::default() };
        let error = Stdin::parse(&any.write_to_bytes().unwrap(), "c1", "k8s.io").unwrap_err();
        assert_eq!(error, BootstrapError::OptionsType("containerd.runc.v1.Options".into()));
    }

    proptest! {
        #[test]
        fn no_input_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Stdin::parse(&bytes, "c1", "k8s.io");
        }
    }
}

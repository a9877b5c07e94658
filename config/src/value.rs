//! What each single value may be, and the step from [`FileConfig`] to [`NodePolicy`].
//!
//! Rules between values (`default <= max`) are in [`crate::ceiling`].

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::error::{ConfigError, Fault};
use crate::file::{self, FileConfig};
use crate::merge::{Layers, dotted, segments};
use crate::policy::{
    Calls, Network, NodePolicy, OnShimLoss, OnTimeout, Platform, Protocol, Runsc, State, Timeout,
};
use crate::units::parse_duration;

mod confinement;
mod ending;
mod opt_in;

pub(crate) use self::{
    confinement::{pids_limit, shm_size},
    opt_in::OFF,
};

#[cfg(test)]
mod tests;

/// The longest life, grace and retention: far above any use, and safe to add to any clock.
const LONGEST: Duration = Duration::from_hours(365 * 24);
const SHORTEST_CALL: Duration = Duration::from_millis(100);
const LONGEST_CALL: Duration = Duration::from_mins(10);
/// Bytes of `state.dir`: `sun_path` has 108, and a pod's directory, the socket's name and a NUL follow.
const STATE_DIR_BYTES: usize = 64;
/// What the kernel takes for a path.
const LONGEST_PATH: usize = 4096;

/// Understands every written value and takes the built-in default for every other.
///
/// Fails with [`ConfigError::Value`] at the first value that breaks its own rule.
pub(crate) fn node_policy(file: FileConfig, layers: &Layers) -> Result<NodePolicy, ConfigError> {
    let reader = Reader { layers };
    Ok(NodePolicy {
        runsc: reader.runsc(file.runsc)?,
        state: reader.state(file.state)?,
        protocol: reader.protocol(file.protocol)?,
        timeout: reader.timeout(file.timeout)?,
        checkpoint: reader.checkpoint(file.checkpoint)?,
        idle: reader.idle(file.idle)?,
        cpu_budget: reader.cpu_budget(file.cpu_budget)?,
        exec: reader.exec(file.exec)?,
        termination: reader.termination(&file.termination),
        limits: reader.limits(file.limits)?,
        pod: reader.pod(file.pod)?,
        capabilities: reader.capabilities(file.capabilities)?,
        annotations: reader.annotations(file.annotations)?,
        mounts: reader.mounts(file.mounts)?,
        seccomp: reader.seccomp(file.seccomp)?,
        calls: reader.calls(file.calls)?,
    })
}

/// Reads sections; knows the layers, to name the file in errors.
struct Reader<'a> {
    layers: &'a Layers,
}

impl Reader<'_> {
    fn runsc(&self, file: file::Runsc) -> Result<Runsc, ConfigError> {
        let built_in = Runsc::default();
        let some_path = |text: &str| path(text).map(Some);
        Ok(Runsc {
            path: self.take("runsc.path", file.path, built_in.path, some_path)?,
            platform: self.take("runsc.platform", file.platform, built_in.platform, platform)?,
            network: self.take("runsc.network", file.network, built_in.network, network)?,
            overlay2: self.take("runsc.overlay2", file.overlay2, built_in.overlay2, overlay2)?,
            directfs: file.directfs.unwrap_or(built_in.directfs),
            flags: self.flags(file.flags)?,
            debug: file.debug.unwrap_or(built_in.debug),
            debug_dir: self.take("runsc.debug_dir", file.debug_dir, built_in.debug_dir, path)?,
        })
    }

    fn flags(&self, flags: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ConfigError> {
        for (name, value) in &flags {
            flag(name, value).map_err(|fault| self.refused(&["runsc", "flags", name], value, fault))?;
        }
        Ok(flags)
    }

    fn state(&self, file: file::State) -> Result<State, ConfigError> {
        let built_in = State::default();
        Ok(State {
            dir: self.take("state.dir", file.dir, built_in.dir, state_dir)?,
            ledger: self.take("state.ledger", file.ledger, built_in.ledger, path)?,
            retention: self.take("state.retention", file.retention, built_in.retention, period)?,
        })
    }

    fn protocol(&self, file: file::Protocol) -> Result<Protocol, ConfigError> {
        let version = file.version.map(|version| version.to_string());
        let built_in = Protocol::default().version;
        Ok(Protocol { version: self.take("protocol.version", version, built_in, protocol_version)? })
    }

    fn timeout(&self, file: file::Timeout) -> Result<Timeout, ConfigError> {
        let built_in = Timeout::default();
        Ok(Timeout {
            default: self.take("timeout.default", file.default, built_in.default, period)?,
            max: self.take("timeout.max", file.max, built_in.max, period)?,
            raise: file.raise.unwrap_or(built_in.raise),
            grace: self.take("timeout.grace", file.grace, built_in.grace, grace)?,
            max_grace: self.take("timeout.max_grace", file.max_grace, built_in.max_grace, period)?,
            startup: self.take("timeout.startup", file.startup, built_in.startup, period)?,
            on_shim_loss: self.take(
                "timeout.on_shim_loss",
                file.on_shim_loss,
                built_in.on_shim_loss,
                on_shim_loss,
            )?,
            on_timeout: self.take("timeout.on_timeout", file.on_timeout, built_in.on_timeout, on_timeout)?,
            expose: file.expose.unwrap_or(built_in.expose),
        })
    }

    fn calls(&self, file: file::Calls) -> Result<Calls, ConfigError> {
        let built_in = Calls::default();
        Ok(Calls {
            create: self.take("calls.create", file.create, built_in.create, call_limit)?,
            start: self.take("calls.start", file.start, built_in.start, call_limit)?,
            signal: self.take("calls.signal", file.signal, built_in.signal, call_limit)?,
            delete: self.take("calls.delete", file.delete, built_in.delete, call_limit)?,
            probe: self.take("calls.probe", file.probe, built_in.probe, call_limit)?,
            checkpoint: self.take("calls.checkpoint", file.checkpoint, built_in.checkpoint, call_limit)?,
            state: self.take("calls.state", file.state, built_in.state, call_limit)?,
        })
    }

    /// The value of what was written at `key`, or the built-in one where nothing was.
    fn take<T>(
        &self,
        key: &str,
        written: Option<String>,
        built_in: T,
        read: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Result<T, ConfigError> {
        let Some(text) = written else {
            return Ok(built_in);
        };
        read(&text).map_err(|fault| self.refused(&segments(key), &text, fault))
    }

    fn refused(&self, path: &[&str], value: &str, fault: Fault) -> ConfigError {
        ConfigError::Value {
            file: self.layers.origin(path),
            line: self.layers.line(path),
            key: dotted(path),
            value: value.to_owned(),
            fault,
        }
    }
}

/// A duration longer than zero.
pub(crate) fn positive(text: &str) -> Result<Duration, Fault> {
    match parse_duration(text)? {
        Duration::ZERO => Err(Fault::Zero),
        duration => Ok(duration),
    }
}

fn period(text: &str) -> Result<Duration, Fault> {
    at_most(LONGEST, positive(text)?)
}

/// The one duration that may be zero: KILL follows TERM at once.
fn grace(text: &str) -> Result<Duration, Fault> {
    at_most(LONGEST, parse_duration(text)?)
}

fn call_limit(text: &str) -> Result<Duration, Fault> {
    let limit = positive(text)?;
    if limit < SHORTEST_CALL {
        return Err(Fault::TooShort { least: SHORTEST_CALL });
    }
    at_most(LONGEST_CALL, limit)
}

fn at_most(most: Duration, duration: Duration) -> Result<Duration, Fault> {
    match duration <= most {
        true => Ok(duration),
        false => Err(Fault::TooLong { most }),
    }
}

fn platform(text: &str) -> Result<Platform, Fault> {
    one_of(text, Platform::ALL, Platform::as_str)
}

fn network(text: &str) -> Result<Network, Fault> {
    one_of(text, Network::ALL, Network::as_str)
}

fn on_shim_loss(text: &str) -> Result<OnShimLoss, Fault> {
    one_of(text, OnShimLoss::ALL, OnShimLoss::as_str)
}

fn on_timeout(text: &str) -> Result<OnTimeout, Fault> {
    one_of(text, OnTimeout::ALL, OnTimeout::as_str)
}

fn protocol_version(text: &str) -> Result<u32, Fault> {
    let name = |version| if version == 2 { "2" } else { "3" };
    one_of(text, [2, 3], name)
}

fn one_of<T: Copy, const N: usize>(text: &str, all: [T; N], name: fn(T) -> &'static str) -> Result<T, Fault> {
    all.into_iter()
        .find(|choice| name(*choice) == text)
        .ok_or_else(|| Fault::NotOneOf { known: all.map(name).to_vec() })
}

fn state_dir(text: &str) -> Result<PathBuf, Fault> {
    match text.len() > STATE_DIR_BYTES {
        true => Err(Fault::PathTooLong { most: STATE_DIR_BYTES }),
        false => path(text),
    }
}

/// A file inside a pod.
pub(crate) fn guest_file(text: &str) -> Result<PathBuf, Fault> {
    match text.len() > LONGEST_PATH {
        true => Err(Fault::PathTooLong { most: LONGEST_PATH }),
        false => path(text),
    }
}

/// An absolute path that is its own normal form, so that comparing texts compares paths. Not `/` itself.
fn path(text: &str) -> Result<PathBuf, Fault> {
    let below_root = text.strip_prefix('/').ok_or(Fault::NotAbsolute)?;
    let is_odd = |part: &str| matches!(part, "" | "." | "..") || part.contains(char::is_control);
    match below_root.split('/').any(is_odd) {
        true => Err(Fault::NotNormal),
        false => Ok(PathBuf::from(text)),
    }
}

/// runsc's `none` or `mount:medium[,size=…]`. It splits at colons and commas, so a directory has neither. A directory of the
/// host's is refused without a size: nothing else would bound what guests write there.
fn overlay2(text: &str) -> Result<String, Fault> {
    let (overlay, size) = match text.split_once(",size=") {
        Some((overlay, size)) => (overlay, Some(size)),
        None => (text, None),
    };
    let is_medium = |medium: &str| match medium.strip_prefix("dir=") {
        Some(dir) => path(dir).is_ok() && !dir.contains([':', ',']),
        None => matches!(medium, "memory" | "self"),
    };
    let is_valid = match overlay.split_once(':') {
        Some(("root" | "all", medium)) => {
            let is_bounded = size.is_some() || !medium.starts_with("dir=");
            is_medium(medium) && is_bounded && size.is_none_or(is_size)
        }
        _ => text == "none",
    };
    is_valid.then(|| text.to_owned()).ok_or(Fault::Overlay)
}

fn is_size(text: &str) -> bool {
    let digits = text.strip_suffix(['k', 'm', 'g', 'K', 'M', 'G']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a flag is well-formed; which flags are allowed is known where runsc is.
fn flag(name: &str, value: &str) -> Result<(), Fault> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.starts_with('-') || !name.bytes().all(is_plain) {
        return Err(Fault::FlagName);
    }
    match value.contains(['\0', '\n']) {
        true => Err(Fault::FlagValue),
        false => Ok(()),
    }
}

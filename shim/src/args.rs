//! The command line that containerd uses: Go's flags, then an action.

use std::path::PathBuf;

use thiserror::Error;

/// A command line that containerd wouldn't write.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ArgsError {
    #[error("flag {0:?} is unknown")]
    UnknownFlag(String),
    #[error("flag {0:?} needs a value")]
    NoValue(String),
    #[error("{0:?} is no action: start, delete, -info or -v")]
    UnknownAction(String),
    #[error("no action was given: start, delete, -info or -v")]
    NoAction,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start the pod's shim, or find it.
    Start,
    /// Clean up after a shim that may be gone.
    Delete,
    /// Describe the runtime.
    Info,
    /// Print the version.
    Version,
    /// Be the shim. Only `start` asks for this.
    Serve,
    /// Be the watchdog beside it. Only the shim asks for this.
    Watchdog,
}

/// A parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) action: Action,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) debug: bool,
    /// The sandbox's directory, for [`Action::Serve`] and [`Action::Watchdog`].
    pub(crate) sandbox_dir: PathBuf,
}

impl Args {
    /// Reads the arguments after the program's name. One dash or two, a value in the same word or the next.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, ArgsError> {
        let mut args = Self {
            action: Action::Serve,
            namespace: String::new(),
            id: String::new(),
            bundle: PathBuf::new(),
            debug: false,
            sandbox_dir: PathBuf::new(),
        };
        let mut action = None;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                action = Some(parse_action(&argument)?);
                continue;
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            match name {
                "debug" => args.debug = inline.is_none_or(|value| value == "true"),
                "v" | "version" => action = Some(Action::Version),
                "info" => action = Some(Action::Info),
                _ => {
                    let value =
                        inline.or_else(|| arguments.next()).ok_or_else(|| ArgsError::NoValue(name.into()))?;
                    args.set(name, value)?;
                }
            }
        }
        args.action = action.ok_or(ArgsError::NoAction)?;
        Ok(args)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), ArgsError> {
        match name {
            "namespace" => self.namespace = value,
            "id" => self.id = value,
            "bundle" => self.bundle = value.into(),
            "sandbox-dir" => self.sandbox_dir = value.into(),
            // containerd's own addresses: the events' one comes by the environment or standard input.
            "address" | "publish-binary" | "socket" => {}
            _ => return Err(ArgsError::UnknownFlag(name.into())),
        }
        Ok(())
    }
}

fn parse_action(word: &str) -> Result<Action, ArgsError> {
    match word {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        "serve" => Ok(Action::Serve),
        "watchdog" => Ok(Action::Watchdog),
        _ => Err(ArgsError::UnknownAction(word.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, ArgsError> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn containerds_command_lines_are_understood() {
        let args = parse("-namespace k8s.io -address /a -publish-binary /c -id c1 -debug start").unwrap();
        assert_eq!((args.action, args.id.as_str(), args.debug), (Action::Start, "c1", true));
        let args = parse("--namespace=k8s.io -id=c1 -bundle /b delete").unwrap();
        assert_eq!((args.action, args.bundle.to_str()), (Action::Delete, Some("/b")));
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("-v").unwrap().action, Action::Version);
    }

    #[test]
    fn what_containerd_would_not_write_is_refused() {
        assert_eq!(parse(""), Err(ArgsError::NoAction));
        assert_eq!(parse("-id"), Err(ArgsError::NoValue("id".into())));
        assert_eq!(parse("-idd x start"), Err(ArgsError::UnknownFlag("idd".into())));
        assert_eq!(parse("stop"), Err(ArgsError::UnknownAction("stop".into())));
    }
}

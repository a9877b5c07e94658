//! What can go wrong with runsc, and the only place that reads its words.

use std::fmt;

use thiserror::Error;

/// What kind of failure a [`RunscError`] is. Callers decide by this, never by the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// There is no runsc at the path that was asked for.
    BinaryMissing,
    /// The file is there and cannot be executed.
    NotExecutable,
    /// A build older than the supported range.
    TooOld,
    /// It printed no version, so it isn't a runsc we know how to drive.
    NotRunsc,
    /// A flag that the bridge doesn't let an operator set.
    FlagNotAllowed,
    /// The call's limit passed; the child was killed.
    TimedOut,
    /// runsc or the sentry doesn't know the container.
    NoSuchContainer,
    /// There is no such process in the container: it has ended.
    NoSuchProcess,
    /// The container was created and never started.
    NotStarted,
    /// The program that the spec names isn't in the root file system, or cannot be executed.
    ProgramNotFound,
    /// runsc refused the spec.
    BadSpec,
    /// The checkpoint was made by another release of runsc.
    OtherRunsc,
    /// The checkpoint is of a container with another spec.
    OtherSpec,
    /// The sandbox doesn't answer: its control socket is gone, or closed in the middle of a call.
    SandboxGone,
    /// The sentry doesn't know the method: an unsupported build.
    UnknownMethod,
    /// An answer that doesn't parse.
    Protocol,
    /// Anything else that runsc reported, or a system call of ours that failed.
    Failed,
}

/// A failed call of runsc, by command line or by control socket.
#[derive(Debug, Error)]
pub struct RunscError {
    /// What was asked, for example `create` or `containerManager.Signal`.
    pub call: &'static str,
    /// The container it was asked for; empty for calls that concern none.
    pub subject: String,
    /// The kind of failure.
    pub kind: Kind,
    /// What runsc or the system said, in one line.
    pub detail: String,
}

impl fmt::Display for RunscError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runsc {}", self.call)?;
        if !self.subject.is_empty() {
            write!(f, " of {:?}", self.subject)?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl RunscError {
    /// A failure whose kind is already known.
    pub fn new(
        call: &'static str,
        subject: impl fmt::Display,
        kind: Kind,
        detail: impl fmt::Display,
    ) -> Self {
        let detail = one_line(&detail.to_string());
        Self { call, subject: subject.to_string(), kind, detail }
    }

    /// A failure that the sentry described in `words`, over the control socket.
    pub(crate) fn of_sentry(call: &'static str, subject: impl fmt::Display, words: &str) -> Self {
        Self::new(call, subject, classify(SENTRY, words), words)
    }

    /// A failure that runsc described in `words`, in its log.
    pub(crate) fn of_runsc(call: &'static str, subject: impl fmt::Display, words: &str) -> Self {
        // First of all: the values could read like any other failure.
        let told = without_values(words);
        Self::new(call, subject, classify(RUNSC, told), told)
    }
}

/// runsc shows both values of what differs between two specs: arguments, environment. Those are nobody's business.
fn without_values(words: &str) -> &str {
    if let Some((before, _)) = words.split_once(OTHER_SPEC) {
        let after = &words[before.len()..];
        // Up to the name of the field, where there is one.
        let named = after.find(SHOWS_VALUES).unwrap_or(OTHER_SPEC.len());
        return &words[..before.len() + named];
    }
    words
}

/// How runsc begins to say that a spec is not the checkpoint's.
const OTHER_SPEC: &str = "failed to validate restore spec";

/// What stands before the values, after the name of the field.
const SHOWS_VALUES: &str = " across checkpoint restore";

/// Messages reach users through containerd's errors: one line, of bounded length.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 1024;
    let flat: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match flat.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &flat[..cut]),
        None => flat,
    }
}

/// Phrases and their kinds; all words of a phrase must be there, in order.
type Phrases = [(&'static [&'static str], Kind)];

/// The sentry's words (gVisor `pkg/urpc/urpc.go`, `runsc/boot/controller.go`, `runsc/boot/loader.go`).
const SENTRY: &Phrases = &[
    (&["unknown method"], Kind::UnknownMethod),
    (&["no such process"], Kind::NoSuchProcess),
    (&["container ", " not started"], Kind::NotStarted),
    (&["container ", " has stopped"], Kind::NoSuchContainer),
    (&["error finding executable"], Kind::ProgramNotFound),
    (&["failed to load ", ": "], Kind::ProgramNotFound),
    (&["working directory", ": "], Kind::BadSpec),
    (&["container ", " not found"], Kind::NoSuchContainer),
];

/// runsc's own words (gVisor `runsc/container`, `runsc/boot/loader.go`).
const RUNSC: &Phrases = &[
    (&["loading container", "does not exist"], Kind::NoSuchContainer),
    (&["fetchspec failed", "does not exist"], Kind::NoSuchContainer),
    (&["failed to load ", ": "], Kind::ProgramNotFound),
    (&["error finding executable"], Kind::ProgramNotFound),
    (&["reading spec"], Kind::BadSpec),
    (&["runsc version does not match", "checkpoint"], Kind::OtherRunsc),
    (&["failed to validate restore spec"], Kind::OtherSpec),
    (&["sandbox is not running"], Kind::SandboxGone),
    (&["connecting to control server", "connection refused"], Kind::SandboxGone),
];

fn classify(phrases: &Phrases, words: &str) -> Kind {
    let words = words.to_lowercase();
    let holds = |phrase: &[&str]| {
        phrase
            .iter()
            .try_fold(words.as_str(), |rest, part| rest.split_once(part).map(|(_, rest)| rest))
            .is_some()
    };
    phrases.iter().find(|(phrase, _)| holds(phrase)).map_or(Kind::Failed, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_supported_releases_have_their_kinds() {
        for (words, kind) in [
            (
                r#"signaling process in container "c" PID 99: no such process with PID 99"#,
                Kind::NoSuchProcess,
            ),
            (r#"container "x" not found"#, Kind::NoSuchContainer),
            (r#"container "x" not started"#, Kind::NotStarted),
            ("unknown method", Kind::UnknownMethod),
            ("out of paper", Kind::Failed),
        ] {
            assert_eq!(classify(SENTRY, words), kind, "{words}");
        }
        for (words, kind) in [
            ("FetchSpec failed: loading container: file does not exist", Kind::NoSuchContainer),
            ("creating process: failed to load /nope: no such file or directory", Kind::ProgramNotFound),
        ] {
            assert_eq!(classify(RUNSC, words), kind, "{words}");
        }
    }

    #[test]
    fn words_that_merely_look_like_a_phrase_are_a_failure_like_any_other() {
        for words in [
            "no path specified",
            "iptables not found",
            "fetchspec failed: permission denied",
            "kill: no such process",
        ] {
            assert_eq!(classify(RUNSC, words), Kind::Failed, "{words}");
        }
    }

    #[test]
    fn a_checkpoint_of_another_spec_is_told_without_what_differs() {
        let words = r#"restoring container "c": failed to handle restore spec validation: failed to validate restore
            spec: failed to validate spec for container "c": "Env" does not match across checkpoint restore for
            container: "c", checkpoint []string{"SECRET=1"} restore []string{"SECRET=2"}"#
            .replace("\n            ", " ");
        let error = RunscError::of_runsc("restore", "c", &words);
        assert_eq!(error.kind, Kind::OtherSpec);
        assert!(error.to_string().ends_with(r#""Env" does not match"#), "{error}");
        let error = RunscError::of_runsc("restore", "c", "failed to validate restore spec: SECRET=1 is new");
        assert!(!error.to_string().contains("SECRET"), "{error}");
        let words = words.replace("SECRET=1", "failed to load SECRET: reading spec");
        let error = RunscError::of_runsc("restore", "c", &words);
        assert_eq!(error.kind, Kind::OtherSpec);
        assert!(!error.to_string().contains("SECRET"), "{error}");
        let words = "runsc version does not match across checkpoint restore, checkpoint: a current: b";
        assert_eq!(RunscError::of_runsc("restore", "c", words).kind, Kind::OtherRunsc);
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let error = RunscError::new("create", "a", Kind::Failed, format!("a\nb{}", "x".repeat(5000)));
        assert!(!error.to_string().contains('\n'));
        assert!(error.to_string().len() < 1200);
    }
}

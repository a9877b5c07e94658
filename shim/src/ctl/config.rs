//! `curfewctl config`: what files make, and what a pod would get of it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use curfew_config::{BASE_FILE, Class, DROP_IN_DIR, NodeFiles, NodePolicy, Setting, check};

use super::{Failure, annotations};

#[cfg(test)]
mod tests;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the policy that files make, as one file with every key, or all that is wrong with them.
    Check(CheckArgs),
    /// Print what a pod with these annotations would get, and which rule decided.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The base file, then the drop-ins over it in this order [default: the node's own, from /etc/curfew]
    files: Vec<PathBuf>,
    /// A class's file, which may tighten and never loosen what the others say
    #[arg(long, value_name = "FILE")]
    class: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The base file; repeated, drop-ins over it in this order [default: the node's own, from /etc/curfew]
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// A class's file, which may tighten and never loosen what the others say
    #[arg(long, value_name = "FILE")]
    class: Option<PathBuf>,
    /// The pod's annotations: a JSON object of texts, or lines of KEY=VALUE (# starts a comment); - is stdin
    #[arg(long, value_name = "FILE")]
    annotations: PathBuf,
}

/// What to print.
pub(crate) fn run(command: &Command) -> Result<String, Failure> {
    match command {
        Command::Check(args) => {
            let policy = policy(&args.files, args.class.as_deref())?;
            Ok(policy.to_toml())
        }
        Command::Explain(args) => {
            let policy = policy(&args.config, args.class.as_deref())?;
            let annotations = annotations::read(&args.annotations).map_err(|line| vec![line])?;
            explain(&policy, &annotations).map_err(|line| vec![line])
        }
    }
}

fn policy(files: &[PathBuf], class: Option<&Path>) -> Result<NodePolicy, Failure> {
    let files = match files.split_first() {
        Some((base, drop_ins)) => NodeFiles { base: Some(base.clone()), drop_ins: drop_ins.to_vec() },
        None => NodeFiles::find(Path::new(BASE_FILE), Path::new(DROP_IN_DIR))
            .map_err(|error| vec![error.to_string()])?,
    };
    let class = class.map_or(Class::None, Class::File);
    check(&files, class).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn explain(policy: &NodePolicy, annotations: &[(String, String)]) -> Result<String, String> {
    let pairs = || annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    policy.for_pod(pairs()).map_err(|error| format!("the pod is refused: {error}"))?;
    let settings = policy.explain(pairs()).map_err(|error| error.to_string())?;
    Ok(table(&settings))
}

fn table(settings: &[Setting]) -> String {
    let width = |cell: fn(&Setting) -> &str| settings.iter().map(|s| cell(s).len()).max().unwrap_or(0);
    let (keys, values) = (width(|s| s.key), width(|s| &s.value));
    let line = |s: &Setting| format!("{:keys$}  {:values$}  {}\n", s.key, s.value, s.why);
    settings.iter().map(line).collect()
}

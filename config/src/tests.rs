//! Properties of the whole crate, and the two annotated files that operators read.

mod arbitrary;
mod whole;

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use crate::units::{format_duration, parse_duration};
use crate::{Class, NodePolicy, load};

fn load_class(class: Class<'_>) -> Result<NodePolicy, crate::ConfigError> {
    load(Path::new("/nonexistent/config.toml"), Path::new("/nonexistent/conf.d"), class)
}

fn load_base(path: &Path) -> NodePolicy {
    load(path, Path::new("/nonexistent/conf.d"), Class::None).unwrap()
}

fn repository_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The file with every setting in force and all prose gone. Prose has a space after its `#`.
fn settings(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ") && *line != "#");
    lines.map(|line| line.trim_start_matches('#')).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_written_defaults_are_the_built_in_defaults() {
    assert_eq!(load_base(&repository_file("src/default.toml")), NodePolicy::default());
}

#[test]
fn every_key_of_the_policy_is_in_the_written_defaults_and_nothing_else() {
    let written: toml::Table = settings(&repository_file("src/default.toml")).parse().unwrap();
    let built_in = serde_json::to_value(NodePolicy::default()).unwrap();
    let mut expected = vec!["version".to_owned()];
    for (section, keys) in built_in.as_object().unwrap() {
        expected.extend(keys.as_object().unwrap().keys().map(|key| format!("{section}.{key}")));
    }
    let mut found = Vec::new();
    for (section, value) in &written {
        match value.as_table() {
            Some(keys) => found.extend(keys.keys().map(|key| format!("{section}.{key}"))),
            None => found.push(section.clone()),
        }
    }
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_sample_for_operators_is_valid_as_it_is_and_changes_nothing() {
    assert_eq!(load_base(&repository_file("../packaging/config.toml")), NodePolicy::default());
}

#[test]
fn the_sample_for_operators_has_the_settings_of_the_written_defaults() {
    let sample = settings(&repository_file("../packaging/config.toml"));
    assert_eq!(sample, settings(&repository_file("src/default.toml")));
}

#[test]
fn a_policy_survives_its_record() {
    let mut policy = NodePolicy::default();
    policy.timeout.default = Duration::new(599, 999_999_999);
    policy.runsc.path = Some("/opt/runsc".into());
    let record = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<NodePolicy>(&record).unwrap(), policy);
    let pod = policy.for_pod([("curfew.dev/timeout", "11m")]).unwrap();
    let record = serde_json::to_string(&pod).unwrap();
    assert_eq!(serde_json::from_str::<crate::PodPolicy>(&record).unwrap(), pod);
}

/// TOML that is nearly right: our sections and keys with good, odd and wrong values.
fn likely_toml() -> impl Strategy<Value = String> {
    let section =
        r"(\[(timeout|idle|cpu_budget|exec|limits|state|runsc|calls|protocol|pod|termination|odd)\]\n)?";
    let key = r#"(default|max|grace|max_grace|timeout|shm|pids|dir|flags|version|create|overlay2|TypeUrl|timeout\.max|"\\n")"#;
    let value =
        r#"("[0-9]{1,3}(ms|s|m|h|Mi)"|"off"|"[^"\\]{0,5}"|[0-9]{1,3}|true|\{a = "b"\}|\[1\]|1979-05-27)"#;
    let lines = format!("({section}{key} = {value}\n){{0,5}}");
    proptest::string::string_regex(&lines).unwrap()
}

proptest! {
    #[test]
    fn a_written_duration_reads_back(seconds in any::<u64>(), nanos in 0u32..1_000_000_000) {
        let long = Duration::new(seconds, nanos);
        let short = Duration::new(seconds % 100_000, nanos);
        for duration in [long, short, Duration::from_nanos(nanos.into())] {
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }

    #[test]
    fn no_text_panics_the_parsers(text in any::<String>(), near in "[-+0-9.nuµmsh ]{0,30}") {
        for text in [&*text, &*near] {
            let _ = parse_duration(text);
            let keys = ["timeout", "grace", "idle-timeout", "cpu-budget", "exec-timeout", "pids", "shm-size"];
            let ours = keys.map(|key| format!("curfew.dev/{key}"));
            for annotation in ours.iter().map(|key| (&**key, text)).chain([(text, text)]) {
                if let Err(error) = NodePolicy::default().for_pod([annotation]) {
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
        }
    }

    #[test]
    fn no_toml_panics_load_or_loosens_the_node(text in any::<String>(), likely in likely_toml()) {
        let node = NodePolicy::default().timeout;
        for body in [text, likely] {
            match load_class(Class::Inline(&body)) {
                Ok(NodePolicy { timeout, .. }) => {
                    prop_assert!(timeout.default <= timeout.max && timeout.max <= node.max);
                    prop_assert!(timeout.grace <= timeout.max_grace && timeout.max_grace <= node.max_grace);
                }
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
            }
        }
    }
}

//! Properties of the whole policy: all sections and all annotations.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::arbitrary::{node, wishes};
use crate::units::{format_duration, quantity::format_size};
use crate::{Class, ConfigError, NodePolicy, PodPolicy, load};

fn ask(node: &NodePolicy, wishes: &[(String, String)]) -> PodPolicy {
    node.for_pod(wishes.iter().map(|(key, value)| (key.as_str(), value.as_str()))).unwrap()
}

fn load_texts(base: &str, class: Class<'_>) -> Result<NodePolicy, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    #[allow(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(&path, base).unwrap();
    load(&path, Path::new("/nonexistent/conf.d"), class)
}

/// The annotations that ask for just what `pod` has.
fn as_wishes(pod: &PodPolicy) -> Vec<(String, String)> {
    let wish = |key: &str, value: String| Some((key.to_owned(), value));
    let mut wishes = vec![
        wish("curfew.dev/timeout", format_duration(pod.timeout)),
        wish("curfew.dev/grace", format_duration(pod.grace)),
        wish("curfew.dev/pids", pod.pids.to_string()),
        wish("curfew.dev/shm-size", format_size(pod.shm)),
    ];
    wishes.extend(pod.opt_in().map(|(key, limit)| wish(key, format_duration(limit?))));
    wishes.into_iter().flatten().collect()
}

fn none_above(limit: Option<Duration>, most: Duration) -> bool {
    limit.is_none_or(|limit| limit <= most)
}

proptest! {
    #[test]
    fn a_pod_never_gets_more_than_any_ceiling(node in node(), wishes in wishes()) {
        let pod = ask(&node, &wishes);
        let longest = if node.timeout.raise { node.timeout.max } else { node.timeout.default };
        prop_assert!(Duration::ZERO < pod.timeout && pod.timeout <= longest && longest <= node.timeout.max);
        prop_assert!(pod.grace <= node.timeout.max_grace);
        prop_assert!(none_above(pod.idle_timeout, node.idle.max));
        prop_assert!(none_above(pod.cpu_budget, node.cpu_budget.max));
        prop_assert!(none_above(pod.exec_timeout, node.exec.max));
        prop_assert!(1 <= pod.pids && pod.pids <= node.limits.pids);
        prop_assert!(4096 <= pod.shm && pod.shm <= node.limits.shm);
        // And a limit that holds for everybody is not lost by asking for others.
        for (given, got) in ask(&node, &[]).opt_in().into_iter().zip(pod.opt_in()) {
            prop_assert!(given.1.is_none() || got.1.is_some(), "{}", given.0);
        }
    }

    #[test]
    fn what_a_pod_got_is_what_it_gets_when_it_asks_for_it(node in node(), wishes in wishes()) {
        let first = ask(&node, &wishes);
        let second = ask(&node, &as_wishes(&first));
        prop_assert_eq!(&second.clamped, &vec![]);
        prop_assert_eq!(second, PodPolicy { clamped: vec![], shm_asked: true, ..first });
    }

    #[test]
    fn an_explanation_says_what_the_pod_gets(node in node(), wishes in wishes()) {
        let pod = ask(&node, &wishes);
        let settings = node.explain(wishes.iter().map(|(key, value)| (&**key, &**value))).unwrap();
        for (key, value) in as_wishes(&pod) {
            let setting = settings.iter().find(|setting| setting.key == key).unwrap();
            prop_assert_eq!(&setting.value, &value);
        }
        let off = settings.iter().filter(|setting| setting.value == "off").count();
        prop_assert_eq!(off, pod.opt_in().iter().filter(|(_, limit)| limit.is_none()).count());
    }

    #[test]
    fn a_written_policy_reads_back(node in node()) {
        let text = node.to_toml();
        let read = load_texts(&text, Class::None);
        prop_assert!(read.is_ok(), "{}\n{text}", read.unwrap_err());
        prop_assert_eq!(read.unwrap(), node);
    }

    #[test]
    fn a_class_that_says_the_same_changes_nothing(node in node()) {
        let text = node.to_toml();
        prop_assert_eq!(load_texts(&text, Class::Inline(&text)).unwrap(), node);
    }

    #[test]
    fn under_any_class_no_pod_gets_more_than_the_nodes_ceilings(
        node in node(), class in node(), section in 0usize..20, wishes in wishes(),
    ) {
        // Whole classes are nearly always looser somewhere: one section of one often isn't.
        let text = class.to_toml();
        let sections: Vec<&str> = text.split("\n\n").skip(1).collect();
        let body = sections.get(section).copied().unwrap_or(&text);
        match load_texts(&node.to_toml(), Class::Inline(body)) {
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
            Ok(both) => {
                let pod = ask(&both, &wishes);
                prop_assert!(pod.timeout <= node.timeout.max && pod.grace <= node.timeout.max_grace);
                prop_assert!(none_above(pod.idle_timeout, node.idle.max));
                prop_assert!(none_above(pod.cpu_budget, node.cpu_budget.max));
                prop_assert!(none_above(pod.exec_timeout, node.exec.max));
                prop_assert!(pod.pids <= node.limits.pids && pod.shm <= node.limits.shm);
                prop_assert!(both.limits.memory <= node.limits.memory && both.limits.cpu <= node.limits.cpu);
                for (given, got) in ask(&node, &[]).opt_in().into_iter().zip(pod.opt_in()) {
                    prop_assert!(given.1.is_none() || got.1.is_some(), "{}", given.0);
                }
            }
        }
    }
}

#[test]
fn the_built_in_policy_is_written_with_every_key_that_has_a_value() {
    let written: toml::Table = NodePolicy::default().to_toml().parse().unwrap();
    let built_in = serde_json::to_value(NodePolicy::default()).unwrap();
    for (section, keys) in built_in.as_object().unwrap() {
        for (key, value) in keys.as_object().unwrap() {
            let is_off = written[section].get(key).is_some_and(|value| value.as_str() == Some("off"));
            assert_eq!(written[section].get(key).is_none() || is_off, value.is_null(), "{section}.{key}");
        }
    }
}

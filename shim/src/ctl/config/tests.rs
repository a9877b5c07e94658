use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn an_explanation_is_a_table_of_settings_values_and_rules() {
    let asked = pairs(&[("curfew.dev/timeout", "2h"), ("curfew.dev/shm-size", "128Mi"), ("other", "x")]);
    let expected = "\
curfew.dev/timeout       10m0s  lowered from 2h0m0s by timeout.raise
curfew.dev/grace         5s     default of timeout.grace
curfew.dev/idle-timeout  off    default of idle.timeout
curfew.dev/cpu-budget    off    default of cpu_budget.default
curfew.dev/exec-timeout  off    default of exec.timeout
curfew.dev/pids          512    default of limits.pids
curfew.dev/shm-size      128Mi  as asked
";
    assert_eq!(explain(&NodePolicy::default(), &asked).unwrap(), expected);
}

#[test]
fn a_pod_that_a_shim_would_refuse_is_refused_here() {
    for (key, value) in
        [("curfew.dev/timeout", "10m "), ("curfew.dev/timeuot", "10m"), ("curfew.dev/cpu-budget", "-1s")]
    {
        let line = explain(&NodePolicy::default(), &pairs(&[(key, value)])).unwrap_err();
        assert!(line.contains("the pod is refused") && line.contains(key), "{line}");
    }
}

use super::*;
use crate::policy::Timeout;
use crate::units::{DurationError, format_duration};

const MINUTE: Duration = Duration::from_mins(1);

/// default 10m, max 60m, grace 5s, max_grace 30s.
fn node(raise: bool) -> NodePolicy {
    let timeout = Timeout { max: 60 * MINUTE, raise, ..Timeout::default() };
    NodePolicy { timeout, ..NodePolicy::default() }
}

fn timeout(raise: bool, asked: &str) -> PodPolicy {
    node(raise).for_pod([("curfew.dev/timeout", asked)]).unwrap()
}

fn fault(key: &str, value: &str) -> Fault {
    match node(false).for_pod([(key, value)]).unwrap_err() {
        AnnotationError::Value { key: named, value: shown, fault } => {
            assert_eq!((&*named, &*shown), (key, value));
            fault
        }
        other @ AnnotationError::Unknown { .. } => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_that_asks_for_nothing_gets_the_defaults() {
    let pod = node(true).for_pod([("io.kubernetes.cri.sandbox-uid", "1"), ("curfew", "x")]).unwrap();
    let expected = PodPolicy {
        timeout: 10 * MINUTE,
        grace: Duration::from_secs(5),
        idle_timeout: None,
        cpu_budget: None,
        exec_timeout: None,
        pids: 512,
        shm: 64 << 20,
        shm_asked: false,
        deadline_file: None,
        clamped: Vec::new(),
    };
    assert_eq!(pod, expected);
}

#[test]
fn a_shorter_timeout_is_always_granted() {
    for raise in [false, true] {
        let pod = timeout(raise, "90s");
        assert_eq!(pod.timeout, Duration::from_secs(90));
        assert_eq!(pod.clamped, []);
    }
}

#[test]
fn a_longer_timeout_without_raise_is_cut_to_the_default() {
    for asked in [20 * MINUTE, 90 * MINUTE] {
        let pod = timeout(false, &format_duration(asked));
        assert_eq!(pod.timeout, 10 * MINUTE);
        let clamp = Clamp {
            key: TIMEOUT.to_owned(),
            asked: format_duration(asked),
            got: "10m0s".into(),
            rule: "timeout.raise".to_owned(),
        };
        assert_eq!(pod.clamped, [clamp]);
    }
}

#[test]
fn a_longer_timeout_with_raise_is_granted_up_to_max() {
    assert_eq!(timeout(true, "60m").timeout, 60 * MINUTE);
    assert_eq!(timeout(true, "60m").clamped, []);
    let pod = timeout(true, "61m");
    assert_eq!(pod.timeout, 60 * MINUTE);
    assert_eq!(pod.clamped[0].rule, "timeout.max");
}

#[test]
fn a_grace_is_granted_up_to_max_grace() {
    let grace = |asked| node(false).for_pod([("curfew.dev/grace", asked)]).unwrap();
    assert_eq!(grace("0s").grace, Duration::ZERO);
    assert_eq!(grace("30s").grace, Duration::from_secs(30));
    assert_eq!(grace("30s").clamped, []);
    assert_eq!(grace("31s").grace, Duration::from_secs(30));
    assert_eq!(grace("31s").clamped[0].rule, "timeout.max_grace");
}

#[test]
fn a_clamp_reads_as_one_line() {
    let line = timeout(false, "2h").clamped[0].to_string();
    assert_eq!(line, "curfew.dev/timeout lowered from 2h0m0s to 10m0s by timeout.raise");
}

#[test]
fn an_unknown_key_under_our_prefix_is_refused_with_the_known_ones() {
    for key in ["curfew.dev/timeuot", "curfew.dev/", "curfew.dev/Timeout", "curfew.dev/timeout/x"] {
        let error = node(false).for_pod([(key, "1s")]).unwrap_err();
        let expected = AnnotationError::Unknown { key: key.to_owned(), known: KNOWN.to_vec() };
        assert_eq!(error, expected);
    }
}

#[test]
fn a_malformed_value_is_refused_with_key_and_value() {
    assert_eq!(fault(TIMEOUT, "10"), Fault::Duration(DurationError::NoUnit));
    assert_eq!(fault(TIMEOUT, ""), Fault::Duration(DurationError::Empty));
    assert_eq!(fault(TIMEOUT, "99999999999999999999h"), Fault::Duration(DurationError::Overflow));
    assert_eq!(fault(GRACE, "-1s"), Fault::Duration(DurationError::Signed));
}

#[test]
fn a_timeout_of_zero_is_refused() {
    assert_eq!(fault(TIMEOUT, "0s"), Fault::Zero);
    assert_eq!(fault(TIMEOUT, "0.5ns"), Fault::Zero);
}

#[test]
fn a_hostile_value_can_neither_break_nor_flood_a_line() {
    let value = format!("1s\n\u{1b}[31m\u{202e}{}", "x".repeat(100_000));
    for (key, value) in [(TIMEOUT, &*value), (&*format!("curfew.dev/{value}"), "1s")] {
        let message = node(false).for_pod([(key, value)]).unwrap_err().to_string();
        assert!(!message.contains(|c: char| c.is_control() || c == '\u{202e}'));
        assert!(message.len() < 500, "{message}");
    }
}

#[test]
fn fewer_processes_are_granted_and_more_are_cut() {
    let pids = |asked| node(true).for_pod([(PIDS, asked)]).unwrap();
    assert_eq!((pids("64").pids, pids("64").clamped), (64, vec![]));
    assert_eq!(pids("513").pids, 512);
    assert_eq!(pids("513").clamped[0].to_string(), "curfew.dev/pids lowered from 513 to 512 by limits.pids");
    for asked in ["", "0", "-1", "+1", " 1", "1 ", "1e3", "\u{663}", "4194305", "99999999999999999999"] {
        assert!(matches!(fault(PIDS, asked), Fault::OutOfRange { .. }), "{asked:?}");
    }
}

const OPT_IN: [(&str, &str); 3] =
    [(IDLE_TIMEOUT, "idle.max"), (CPU_BUDGET, "cpu_budget.max"), (EXEC_TIMEOUT, "exec.max")];

#[test]
fn a_limit_that_is_off_is_set_by_its_annotation_up_to_its_ceiling() {
    for (key, rule) in OPT_IN {
        let ask = |asked| node(false).for_pod([(key, asked)]).unwrap();
        let of = |pod: &PodPolicy| pod.opt_in().into_iter().find(|(named, _)| *named == key).unwrap().1;
        let pod = ask("90s");
        assert_eq!((of(&pod), &pod.clamped), (Some(Duration::from_secs(90)), &vec![]));
        assert_eq!(pod.opt_in().iter().filter(|(_, limit)| limit.is_some()).count(), 1);
        let pod = ask("9000h");
        assert_eq!(pod.clamped[0].rule, rule);
        assert!(of(&pod).unwrap() <= 48 * 60 * MINUTE);
    }
}

#[test]
fn no_annotation_takes_a_limit_away() {
    for (key, _) in OPT_IN {
        assert!(matches!(fault(key, "off"), Fault::Duration(_)));
        assert_eq!(fault(key, "0s"), Fault::Zero);
    }
}

#[test]
fn a_larger_shm_is_granted_up_to_its_ceiling() {
    let shm = |asked| node(false).for_pod([(SHM_SIZE, asked)]).unwrap();
    for (asked, bytes) in [("1Gi", 1 << 30), ("4Ki", 4 << 10), ("512Mi", 512 << 20), ("5000", 5000)] {
        let pod = shm(asked);
        assert_eq!((pod.shm, pod.shm_asked, pod.clamped), (bytes, true, vec![]), "{asked}");
    }
    let pod = shm("2Gi");
    assert_eq!(pod.shm, 1 << 30);
    assert_eq!(pod.clamped[0].to_string(), "curfew.dev/shm-size lowered from 2Gi to 1Gi by limits.shm");
    for asked in ["0", "0Mi", "4095", "1"] {
        assert_eq!(fault(SHM_SIZE, asked), Fault::TooSmall { least: "4Ki" });
    }
    for asked in ["", "-1", "1e9", "1gb", " 1Gi", "1Gi ", "\u{661}Gi", "99999999999Ei"] {
        assert!(matches!(fault(SHM_SIZE, asked), Fault::Quantity(_)), "{asked:?}");
    }
}

#[test]
fn a_space_or_a_digit_of_another_script_is_no_part_of_any_number() {
    for key in KNOWN.into_iter().filter(|key| *key != DEADLINE_FILE) {
        let good = match key {
            PIDS => "64",
            SHM_SIZE => "64Mi",
            _ => "64s",
        };
        node(true).for_pod([(key, good)]).unwrap();
        for bad in [
            format!("{good} "),
            format!(" {good}"),
            good.replace('6', "\u{666}"),
            good.replace('4', "\u{ff14}"),
        ] {
            fault(key, &bad);
        }
    }
}

#[test]
fn an_explanation_names_every_setting_with_the_rule_that_won() {
    let asked = [(TIMEOUT, "2h"), (GRACE, "1s"), (CPU_BUDGET, "1m"), (SHM_SIZE, "2Gi"), ("x", "y")];
    let lines: Vec<String> = node(false)
        .explain(asked)
        .unwrap()
        .into_iter()
        .map(|setting| format!("{} {} {}", setting.key, setting.value, setting.why))
        .collect();
    let expected = [
        "curfew.dev/timeout 10m0s lowered from 2h0m0s by timeout.raise",
        "curfew.dev/grace 1s as asked",
        "curfew.dev/idle-timeout off default of idle.timeout",
        "curfew.dev/cpu-budget 1m0s as asked",
        "curfew.dev/exec-timeout off default of exec.timeout",
        "curfew.dev/pids 512 default of limits.pids",
        "curfew.dev/shm-size 1Gi lowered from 2Gi by limits.shm",
    ];
    assert_eq!(lines, expected);
    assert!(node(false).explain([(TIMEOUT, "0s")]).is_err());
}

#[test]
fn a_record_of_an_earlier_version_reads_as_a_pod_that_asked_for_none_of_the_new_limits() {
    let old = r#"{"timeout":{"secs":60,"nanos":0},"grace":{"secs":5,"nanos":0},"clamped":[]}"#;
    let pod: PodPolicy = serde_json::from_str(old).unwrap();
    let expected = NodePolicy::default().for_pod([(TIMEOUT, "60s")]).unwrap();
    assert_eq!(pod, expected);
}

#[test]
fn a_pod_with_a_deadline_file_waits_for_the_longest_life_unless_it_says_for_how_long() {
    let file = (DEADLINE_FILE, "/etc/podinfo/deadline");
    let pod = node(false).for_pod([file]).unwrap();
    assert_eq!((pod.timeout, pod.clamped.len()), (60 * MINUTE, 0));
    assert_eq!(pod.deadline_file.as_deref(), Some(std::path::Path::new("/etc/podinfo/deadline")));
    assert_eq!(node(true).for_pod([(TIMEOUT, "30m"), file]).unwrap().timeout, 30 * MINUTE);
    assert_eq!(node(true).for_pod([(TIMEOUT, "2h"), file]).unwrap().timeout, 60 * MINUTE);
    assert_eq!(node(false).for_pod([(TIMEOUT, "30m"), file]).unwrap().timeout, 10 * MINUTE);
    let settings = node(false).explain([file]).unwrap();
    let line = |setting: &Setting| format!("{} {} {}", setting.key, setting.value, setting.why);
    assert_eq!(line(&settings[0]), "curfew.dev/timeout 1h0m0s default of timeout.max");
    let last = settings.last().map(line).unwrap();
    assert_eq!(last, "curfew.dev/deadline-file /etc/podinfo/deadline as asked");
}

#[test]
fn a_deadline_file_is_a_plain_absolute_path_that_a_kernel_takes() {
    let longest = format!("/{}", "a".repeat(4095));
    assert!(node(false).for_pod([(DEADLINE_FILE, &*longest)]).is_ok());
    for (path, expected) in [
        ("", Fault::NotAbsolute),
        ("podinfo/deadline", Fault::NotAbsolute),
        ("/", Fault::NotNormal),
        ("/podinfo/", Fault::NotNormal),
        ("/podinfo/../deadline", Fault::NotNormal),
        ("/podinfo//deadline", Fault::NotNormal),
        ("/podinfo/dead\0line", Fault::NotNormal),
        (&format!("{longest}a"), Fault::PathTooLong { most: 4096 }),
    ] {
        assert_eq!(fault(DEADLINE_FILE, path), expected, "{path}");
    }
}

use proptest::prelude::*;
use serde_json::json;

use super::*;

const TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

fn read(value: &Value) -> Result<Resources, ResourcesError> {
    parse(TYPE, value.to_string().as_bytes())
}

/// A message with `value` at `key`.
fn with(key: &str, value: &Value) -> Value {
    let (section, key) = key.split_once('.').unwrap();
    json!({ section: { key: value } })
}

#[test]
fn what_cri_sends_for_a_resize_is_read_and_the_rest_of_it_ignored() {
    let resources = read(&json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "memory": { "limit": 268_435_456, "swap": 268_435_456, "reservation": 1 },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0-1,3", "mems": "0", "burst": 7 },
        "pids": { "limit": 100 },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 0 }],
        "unified": { "memory.high": "1" },
    }));
    let expected = Resources {
        cpu_shares: Some(512),
        cpu_quota: Some(Limit::At(50_000)),
        cpu_period: Some(100_000),
        cpuset_cpus: Some("0-1,3".to_owned()),
        cpuset_mems: Some("0".to_owned()),
        memory: Some(Limit::At(1 << 28)),
        memory_and_swap: Some(Limit::At(1 << 28)),
        check_usage: false,
        pids: Some(Limit::At(100)),
    };
    assert_eq!(resources.unwrap(), expected);
}

#[test]
fn what_is_absent_null_or_an_empty_list_stays_as_it_is() {
    for nothing in [
        json!({}),
        json!({ "cpu": null, "memory": {}, "pids": { "limit": null } }),
        json!({ "cpu": { "cpus": "", "mems": "" }, "memory": { "checkBeforeUpdate": false } }),
    ] {
        assert_eq!(read(&nothing).unwrap(), Resources::default(), "{nothing}");
    }
}

#[test]
fn minus_one_is_no_limit_and_so_are_no_pids() {
    let resources = read(&json!({
        "cpu": { "quota": -1 },
        "memory": { "limit": -1, "swap": -1, "checkBeforeUpdate": true },
        "pids": { "limit": 0 },
    }));
    let unlimited = Some(Limit::Unlimited);
    let expected = Resources {
        cpu_quota: unlimited,
        memory: unlimited,
        memory_and_swap: unlimited,
        check_usage: true,
        pids: unlimited,
        ..Resources::default()
    };
    assert_eq!(resources.unwrap(), expected);
    assert_eq!(read(&json!({ "pids": { "limit": -1 } })).unwrap().pids, unlimited);
}

#[test]
fn the_bounds_themselves_are_fine() {
    for (key, value) in [
        ("cpu.shares", 2),
        ("cpu.shares", 262_144),
        ("cpu.quota", 1_000),
        ("cpu.period", 1_000),
        ("cpu.period", 1_000_000),
        ("memory.limit", 4 << 20),
        ("memory.limit", i64::MAX),
        ("memory.swap", 4 << 20),
        ("pids.limit", 1),
        ("pids.limit", 4_194_304),
    ] {
        assert!(read(&with(key, &json!(value))).is_ok(), "{key} {value}");
    }
}

#[test]
fn a_value_that_no_kernel_takes_is_refused_with_its_key() {
    for (key, value) in [
        ("cpu.shares", json!(0)),
        ("cpu.shares", json!(1)),
        ("cpu.shares", json!(-1)),
        ("cpu.shares", json!(262_145)),
        ("cpu.shares", json!(2.5)),
        ("cpu.shares", json!("2")),
        ("cpu.quota", json!(0)),
        ("cpu.quota", json!(999)),
        ("cpu.quota", json!(-2)),
        ("cpu.quota", json!(1_u64 << 44)),
        ("cpu.period", json!(-1)),
        ("cpu.period", json!(999)),
        ("cpu.period", json!(1_000_001)),
        ("cpu.cpus", json!([0])),
        ("memory.limit", json!(0)),
        ("memory.limit", json!((4 << 20) - 1)),
        ("memory.limit", json!(i64::MIN)),
        ("memory.limit", json!(1_u64 << 63)),
        ("memory.limit", json!(1e300)),
        ("memory.swap", json!(-2)),
        ("memory.checkBeforeUpdate", json!(1)),
        ("pids.limit", json!(-2)),
        ("pids.limit", json!(4_194_305)),
    ] {
        let error = read(&with(key, &value)).unwrap_err();
        let ResourcesError::Value { key: named, value: shown, .. } = &error else { panic!("{error}") };
        assert_eq!((*named, shown), (key, &value.to_string()), "{error}");
    }
}

#[test]
fn a_section_that_is_no_object_is_refused() {
    for section in SECTIONS {
        let error = read(&json!({ section: [1] })).unwrap_err();
        assert!(matches!(error, ResourcesError::Value { key, .. } if key == section), "{error}");
    }
}

#[test]
fn memory_and_swap_together_are_no_less_than_memory() {
    for (memory, swap) in [(8 << 20, 4 << 20), (-1, 4 << 20)] {
        let error = read(&json!({ "memory": { "limit": memory, "swap": swap } })).unwrap_err();
        assert!(matches!(error, ResourcesError::Value { key: "memory.swap", .. }), "{error}");
    }
    assert!(read(&json!({ "memory": { "limit": 8 << 20, "swap": -1 } })).is_ok());
}

#[test]
fn a_cpuset_is_numbers_and_rising_ranges_with_commas_between() {
    for list in ["0", "7", "0-3", "0-3,7", "2,0", "3-3", "8191", "00"] {
        assert!(is_list(list, LAST_CPU), "{list:?}");
    }
    for list in [
        "",
        ",",
        "0,",
        "-",
        "-1",
        "1-",
        "3-1",
        "0-3:1/2",
        "+1",
        " 0",
        "0\n",
        "a",
        "8192",
        "1-2-3",
        "99999999999",
    ] {
        assert!(!is_list(list, LAST_CPU), "{list:?}");
    }
    for (key, list) in [("cpu.cpus", "0-9999"), ("cpu.mems", "1024"), ("cpu.mems", "0\n1")] {
        let error = read(&with(key, &json!(list))).unwrap_err();
        assert!(matches!(error, ResourcesError::Value { key: named, .. } if named == key), "{error}");
    }
}

#[test]
fn another_type_too_much_and_what_is_no_object_are_refused() {
    let windows = "types.containerd.io/opencontainers/runtime-spec/1/WindowsResources";
    assert!(matches!(parse(windows, b"{}"), Err(ResourcesError::Type(_))));
    assert!(matches!(parse("", b"{}"), Err(ResourcesError::Type(_))));
    let long = format!("{{{}}}", " ".repeat(MAX_BYTES));
    assert!(matches!(parse(TYPE, long.as_bytes()), Err(ResourcesError::TooLong(_))));
    for text in ["", "{", "null", "[]", "1", "{}x", &"[".repeat(10_000)] {
        assert!(matches!(parse(TYPE, text.as_bytes()), Err(ResourcesError::Malformed(_))), "{text:.9}");
    }
}

#[test]
fn an_error_repeats_only_the_start_of_a_long_value() {
    let error = read(&with("cpu.cpus", &json!("é".repeat(20_000)))).unwrap_err();
    assert!(error.to_string().len() < 300, "{error}");
}

/// Any JSON that isn't deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9,\\-]{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop_oneof![
            Just("cpu"),
            Just("memory"),
            Just("pids"),
            Just("shares"),
            Just("quota"),
            Just("period"),
            Just("cpus"),
            Just("limit"),
            Just("swap"),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(TYPE, &bytes);
    }

    #[test]
    fn no_type_makes_the_parser_panic(type_url in any::<String>()) {
        let _ = parse(&type_url, b"{}");
    }

    #[test]
    fn no_json_makes_the_parser_panic(value in any_json()) {
        let _ = read(&value);
    }

    #[test]
    fn a_quota_is_taken_exactly_when_the_kernel_would(quota in any::<i64>()) {
        let taken = read(&json!({ "cpu": { "quota": quota } })).is_ok();
        prop_assert_eq!(taken, quota == -1 || (1_000..1 << 44).contains(&quota));
    }
}

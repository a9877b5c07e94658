use proptest::prelude::*;

use super::*;

#[test]
fn sizes_are_read_as_kubernetes_reads_them() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("1Ki", 1024),
        ("512Mi", 512 << 20),
        ("1.5Gi", 3 << 29),
        ("64M", 64_000_000),
        ("2k", 2000),
        ("0.5", 1),
        ("16E", 16_000_000_000_000_000_000),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    assert_eq!(parse_size("18446744073709551615"), Ok(u64::MAX));
    assert_eq!(parse_size("18446744073709551616"), Err(QuantityError::Overflow));
}

#[test]
fn cpus_are_read_in_thousandths() {
    for (text, thousandths) in
        [("2", 2000), ("0.5", 500), ("500m", 500), ("1.5", 1500), ("0.1m", 1), ("0.0001", 1)]
    {
        assert_eq!(parse_cpu(text), Ok(thousandths), "{text}");
    }
}

#[test]
fn what_is_no_quantity_is_refused() {
    for text in [
        "",
        " 1",
        "1 ",
        "-1",
        "+1",
        "1e9",
        "1e3Ki",
        ".5",
        "1.",
        "Mi",
        "1mi",
        "1MiB",
        "1K",
        "٣",
        "0x10",
        "1,5",
        "1.0000000001k",
    ] {
        assert!(parse_size(text).is_err(), "{text:?}");
    }
    for text in ["", "1 ", "-1", "1e3", "m", "1Mi", ".5", "1.m", "half", "1u"] {
        assert!(parse_cpu(text).is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(number in any::<u64>(), shift in 0..64_u32) {
        for number in [number, number >> shift, (number >> shift) << shift] {
            prop_assert_eq!(parse_size(&format_size(number)), Ok(number));
        }
        prop_assert_eq!(parse_cpu(&format_cpu(number >> 10)), Ok(number >> 10));
    }

    #[test]
    fn no_text_panics(text in any::<String>(), near in "[-+0-9.KMGikmE ]{0,30}") {
        for text in [text, near] {
            let _ = (parse_size(&text), parse_cpu(&text));
        }
    }
}

//! How a test file says which rules hold where. A rule is a `fn(&Harness)` of the file; each becomes a named test
//! for each runtime and containerd that it is about.

/// Each rule (a `fn(&Harness)` of the test file) as two tests: `runc::RULE` and `curfew::RULE`.
#[macro_export]
macro_rules! on_both_runtimes {
    ($($rule:ident),* $(,)?) => {
        mod runc {
            $(#[test] fn $rule() { $crate::with($crate::Runtime::Runc, super::$rule); })*
        }
        mod curfew {
            $(#[test] fn $rule() { $crate::with($crate::Runtime::Curfew, super::$rule); })*
        }
    };
}

/// Each rule as a test of Curfew, where runc's shim has no such rule or another.
#[macro_export]
macro_rules! on_curfew_alone {
    ($($rule:ident),* $(,)?) => {
        mod curfew_alone {
            $(#[test] fn $rule() { $crate::with($crate::Runtime::Curfew, super::$rule); })*
        }
    };
}

/// Each rule as a test of runc's shim, where Curfew's doesn't serve it yet.
#[macro_export]
macro_rules! on_runc_alone {
    ($($rule:ident),* $(,)?) => {
        mod runc {
            $(#[test] fn $rule() { $crate::with($crate::Runtime::Runc, super::$rule); })*
        }
    };
}

/// Rules for every containerd of `scripts/versions.env`: `both: […]` as tests `VERSION::runc::RULE` and
/// `VERSION::curfew::RULE`, `curfew: […]` as the latter alone. VERSION is `v1_7`, `v2_0`, `v2_2` or `v2_3`.
#[macro_export]
macro_rules! on_every_containerd {
    ($($rules:tt)*) => {
        $crate::on_containerd! { v1_7 = "CONTAINERD_1_7_VERSION"; $($rules)* }
        $crate::on_containerd! { v2_0 = "CONTAINERD_2_0_VERSION"; $($rules)* }
        $crate::on_containerd! { v2_2 = "CONTAINERD_2_2_VERSION"; $($rules)* }
        $crate::on_containerd! { v2_3 = "CONTAINERD_VERSION"; $($rules)* }
    };
}

/// The rules of [`on_every_containerd`] for one of them.
#[macro_export]
macro_rules! on_containerd {
    ($version:ident = $pin:literal; both: [$($both:ident),* $(,)?], curfew: [$($curfew:ident),* $(,)?]) => {
        mod $version {
            mod runc {
                $(#[test] fn $both() {
                    $crate::with_version($crate::Runtime::Runc, $pin, "", super::super::$both);
                })*
            }
            mod curfew {
                $(#[test] fn $both() {
                    $crate::with_version($crate::Runtime::Curfew, $pin, "", super::super::$both);
                })*
                $(#[test] fn $curfew() {
                    $crate::with_version($crate::Runtime::Curfew, $pin, "", super::super::$curfew);
                })*
            }
        }
    };
    ($version:ident = $pin:literal; curfew: [$($curfew:ident),* $(,)?]) => {
        mod $version {
            mod curfew {
                $(#[test] fn $curfew() {
                    $crate::with_version($crate::Runtime::Curfew, $pin, "", super::super::$curfew);
                })*
            }
        }
    };
}

/// Each rule with the task service's version 3, as tests `VERSION::curfew::RULE`, on the containerds that speak it.
#[macro_export]
macro_rules! with_protocol_3 {
    ($($rule:ident),* $(,)?) => {
        $crate::with_protocol_3! { @on v2_0 = "CONTAINERD_2_0_VERSION"; $($rule)* }
        $crate::with_protocol_3! { @on v2_2 = "CONTAINERD_2_2_VERSION"; $($rule)* }
        $crate::with_protocol_3! { @on v2_3 = "CONTAINERD_VERSION"; $($rule)* }
    };
    (@on $version:ident = $pin:literal; $($rule:ident)*) => {
        mod $version {
            mod curfew {
                $(#[test] fn $rule() {
                    let class = "[protocol]\nversion = 3\n";
                    $crate::with_version($crate::Runtime::Curfew, $pin, class, super::super::$rule);
                })*
            }
        }
    };
}

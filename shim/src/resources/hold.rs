//! An Update under the node's ceilings.

use super::{Limit, Resources};

/// The kernel's own period of a CPU quota, in microseconds.
pub(crate) const PERIOD: u64 = 100_000;

/// The kernel's least quota, in microseconds.
const LEAST: u64 = 1000;

/// The quota of a period, both in microseconds, that is the smaller of what is asked (`None`: all there is) and so many
/// thousandths of a CPU. Where those would be less of the period than the kernel takes as a quota, the period is longer.
pub(crate) fn hold_quota(asked: Option<u64>, period: u64, cpu: u64) -> (u64, u64) {
    let most = period.saturating_mul(cpu) / 1000;
    match asked {
        Some(asked) if asked <= most => (asked, period),
        _ if most >= LEAST => (most, period),
        _ => (LEAST, (LEAST * 1000).div_ceil(cpu.max(1))),
    }
}

impl Resources {
    /// Cuts memory and CPU to the node's ceilings.
    pub(crate) fn hold_below(&mut self, ceilings: &curfew_config::Limits) {
        if let Some(memory) = &mut self.memory {
            *memory = memory.at_most(ceilings.memory);
        }
        if let Some(both) = &mut self.memory_and_swap {
            *both = both.at_most(ceilings.memory);
        }
        if self.cpu_quota.is_some() || self.cpu_period.is_some() {
            // One without the other would be another share of a CPU than was asked for.
            let period = self.cpu_period.unwrap_or(PERIOD);
            let asked = match self.cpu_quota {
                Some(Limit::At(quota)) => Some(quota),
                Some(Limit::Unlimited) | None => None,
            };
            let (quota, period) = hold_quota(asked, period, ceilings.cpu);
            (self.cpu_quota, self.cpu_period) = (Some(Limit::At(quota)), Some(period));
        }
    }

    /// Takes out the limit of processes, which isn't the cgroup's: at that one a sandbox dies.
    pub(crate) fn take_pids(&mut self, most: u64) -> Option<u64> {
        match self.pids.take()?.at_most(most) {
            Limit::At(pids) => Some(pids),
            Limit::Unlimited => Some(most),
        }
    }
}

impl Limit {
    fn at_most(self, most: u64) -> Self {
        match self {
            Self::At(value) => Self::At(value.min(most)),
            Self::Unlimited => Self::At(most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_never_a_larger_share_of_a_cpu_than_the_ceiling() {
        assert_eq!(hold_quota(None, 1000, 100), (1000, 10_000));
        assert_eq!(hold_quota(Some(2000), 100_000, 3), (1000, 333_334));
        assert_eq!(hold_quota(None, 1000, 1), (1000, 1_000_000));
        for cpu in [1, 3, 7, 100, 999, 1000, 2500, 64_000] {
            for period in [1000, 1001, 10_000, 99_999, 1_000_000] {
                for asked in [None, Some(1000), Some(period), Some(u64::MAX)] {
                    let (quota, period) = hold_quota(asked, period, cpu);
                    assert!(quota * 1000 <= cpu * period, "{quota} of {period} with {cpu}");
                    assert!(quota >= LEAST && (1000..=1_000_000).contains(&period));
                }
            }
        }
    }

    #[test]
    fn no_update_goes_above_a_ceiling() {
        let ceilings =
            curfew_config::Limits { memory: 1 << 30, cpu: 1500, ..curfew_config::Limits::default() };
        let held = |mut resources: Resources| {
            resources.hold_below(&ceilings);
            resources
        };
        assert_eq!(held(Resources::default()), Resources::default());
        for memory in [Limit::Unlimited, Limit::At(1 << 40), Limit::At(1 << 30)] {
            let resources = held(Resources { memory: Some(memory), ..Resources::default() });
            assert_eq!(resources.memory, Some(Limit::At(1 << 30)));
            let resources = held(Resources { memory_and_swap: Some(memory), ..Resources::default() });
            assert_eq!(resources.memory_and_swap, Some(Limit::At(1 << 30)));
        }
        let smaller = Resources { memory: Some(Limit::At(1 << 20)), ..Resources::default() };
        assert_eq!(held(smaller.clone()), smaller);
        for (quota, period, expected) in [
            (Some(Limit::Unlimited), None, (150_000, 100_000)),
            (Some(Limit::At(50_000)), None, (50_000, 100_000)),
            (Some(Limit::At(90_000)), Some(10_000), (15_000, 10_000)),
            (None, Some(10_000), (15_000, 10_000)),
        ] {
            let resources = held(Resources { cpu_quota: quota, cpu_period: period, ..Resources::default() });
            assert_eq!(
                (resources.cpu_quota, resources.cpu_period),
                (Some(Limit::At(expected.0)), Some(expected.1))
            );
        }
        for (asked, expected) in [
            (None, None),
            (Some(Limit::Unlimited), Some(512)),
            (Some(Limit::At(9)), Some(9)),
            (Some(Limit::At(999)), Some(512)),
        ] {
            let mut resources = Resources { pids: asked, ..Resources::default() };
            assert_eq!((resources.take_pids(512), resources.pids), (expected, None));
        }
    }
}

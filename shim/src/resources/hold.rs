//! An Update under the node's ceilings.

use super::{Limit, Resources};

/// The kernel's own period of a CPU quota, in microseconds.
pub(crate) const PERIOD: u64 = 100_000;

/// The quota that so many thousandths of a CPU are in a period, in microseconds; never below the kernel's least.
pub(crate) fn most_quota(period: u64, cpu: u64) -> u64 {
    (period.saturating_mul(cpu) / 1000).max(1000)
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
            let period = *self.cpu_period.get_or_insert(PERIOD);
            let most = most_quota(period, ceilings.cpu);
            self.cpu_quota = Some(self.cpu_quota.unwrap_or(Limit::Unlimited).at_most(most));
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

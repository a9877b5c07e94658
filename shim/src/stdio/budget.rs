//! How many bytes a container may write to its output in all, where the node sets a limit.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::oneshot;

/// What is left of a container's budget, shared by the copies of its streams.
#[derive(Debug)]
pub(crate) struct OutputBudget {
    left: AtomicU64,
    /// There until it is told that the budget is used up.
    exceeded: std::sync::Mutex<Option<oneshot::Sender<()>>>,
}

impl OutputBudget {
    /// A budget of so many bytes, and the word that more has been written; an error there means that nobody writes any more.
    pub(crate) fn new(bytes: u64) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (sender, exceeded) = oneshot::channel();
        (Arc::new(Self { left: AtomicU64::new(bytes), exceeded: Some(sender).into() }), exceeded)
    }

    /// How many of `bytes` may pass. What is beyond the budget is lost.
    fn take(&self, bytes: usize) -> usize {
        let asked = u64::try_from(bytes).unwrap_or(u64::MAX);
        let take = |left: u64| Some(left.saturating_sub(asked));
        let left = match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(left) | Err(left) => left,
        };
        if left < asked
            && let Ok(mut exceeded) = self.exceeded.lock()
            && let Some(exceeded) = exceeded.take()
        {
            // The container may have ended by itself.
            let _ = exceeded.send(());
        }
        usize::try_from(left.min(asked)).unwrap_or(bytes)
    }
}

/// How much of what was read may pass; all of it where there is no budget.
pub(super) fn gate(budget: Option<Arc<OutputBudget>>) -> impl FnMut(&[u8]) -> usize + Send {
    move |bytes| budget.as_ref().map_or(bytes.len(), |budget| budget.take(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_budget_does_not_pass_and_is_told_once() {
        let (budget, mut exceeded) = OutputBudget::new(10);
        let mut gates = [gate(Some(budget.clone())), gate(Some(budget))];
        assert_eq!(gates[0](b"12345678"), 8);
        assert_eq!(gates[1](b"90"), 2);
        assert!(exceeded.try_recv().is_err());
        assert_eq!(gates[1](b"abc"), 0);
        assert_eq!(exceeded.try_recv(), Ok(()));
        assert_eq!(gates[0](b"def"), 0);
        assert_eq!(gate(None)(b"abc"), 3);
    }
}

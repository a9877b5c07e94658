//! What is still under way when a process has ended: copies of its output, and its logger.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::drain::LAST_WORDS;

/// As long as containerd's own shims let a Delete wait for a reader that doesn't take what is left.
const FOR_READERS: Duration = Duration::from_secs(2);

/// Work that ends by itself, and for which Delete waits a bounded time.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(super) task: JoinHandle<()>,
    pub(super) patience: Duration,
}

impl Ending {
    /// A copy to a file, which must be whole, or to a reader, who may have gone.
    pub(super) fn of_copy(task: JoinHandle<()>, to_file: bool) -> Self {
        Self { task, patience: if to_file { LAST_WORDS } else { FOR_READERS } }
    }

    /// Whether there is nothing to wait for.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits for it. A task that goes on after that isn't stopped.
    pub(crate) async fn over(self) {
        let _ = tokio::time::timeout(self.patience, self.task).await;
    }
}

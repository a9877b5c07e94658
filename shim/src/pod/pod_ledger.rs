//! The pod's entry in the ledger, written in order and without holding up the pod.

use std::{path::PathBuf, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    deadline::{escalate::Step, span::Span},
    error::Error,
    ledger::{Ledger, LedgerError, PodName, Verdict},
};

/// How long something may take to be written for whoever waits for it: a disk that hangs must not hold up everybody. Less
/// than the operator's patience.
const WRITING: Duration = Duration::from_secs(4);
/// Between two tries to write down that a pod's time is up.
const WRITE_AGAIN: Duration = Duration::from_secs(2);

/// Whose entry it is.
#[derive(Debug, Clone)]
struct Place {
    ledger: Ledger,
    pod: PodName,
    sandbox: String,
}

/// What is to be written down.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Span(Span),
    Verdict(Verdict),
    EndedBy(Step),
    /// Somebody was refused, and it is to be remembered from now on.
    Refused,
    /// CPU time that all attempts have used.
    CpuUsed(Duration),
    /// Where the pod was written to.
    Checkpoint(PathBuf),
    /// All that was asked for before.
    Nothing,
}

#[derive(Debug)]
struct Asked {
    change: Change,
    written: oneshot::Sender<Result<(), LedgerError>>,
}

/// A pod's entry. What was asked for is written also after this is dropped, as long as the shim lives.
#[derive(Debug, Clone)]
pub(crate) struct PodLedger {
    sandbox: String,
    changes: mpsc::UnboundedSender<Asked>,
}

/// Something that is being written.
#[must_use]
pub(super) struct Writing(oneshot::Receiver<Result<(), LedgerError>>);

impl Writing {
    /// Waits until it is, but not for ever.
    pub(super) async fn done(self) -> Result<(), Error> {
        match tokio::time::timeout(WRITING, self.0).await {
            Ok(Ok(written)) => Ok(written?),
            Ok(Err(_)) => Err(Error::Internal("the ledger's writer has gone")),
            Err(_) => Err(Error::SlowLedger { limit: WRITING }),
        }
    }
}

impl PodLedger {
    pub(super) fn start(ledger: Ledger, pod: PodName, sandbox: String) -> Self {
        let (changes, inbox) = mpsc::unbounded_channel();
        let place = Place { ledger, pod, sandbox: sandbox.clone() };
        tokio::spawn(write_all(place, inbox));
        Self { sandbox, changes }
    }

    /// Has it written. A failure is logged, whether or not somebody waits for it.
    pub(super) fn write(&self, change: Change) -> Writing {
        let (written, receiver) = oneshot::channel();
        // Without a writer nobody answers, which is what the caller sees.
        let _ = self.changes.send(Asked { change, written });
        Writing(receiver)
    }

    /// Returns once all is written, or after `limit`. Says whether it is.
    pub(crate) async fn finish(&self, limit: Duration) -> bool {
        let all = self.write(Change::Nothing);
        let is_written = tokio::time::timeout(limit, all.0).await.is_ok();
        if !is_written {
            log::error!(pod = self.sandbox.as_str(); "its ledger entry could not be finished within {limit:?}");
        }
        is_written
    }
}

impl Place {
    fn write(&self, change: Change) -> Result<(), LedgerError> {
        match change {
            Change::Span(span) => self.ledger.write_span(&self.pod, &self.sandbox, &span),
            Change::Verdict(verdict) => self.ledger.write_verdict(&self.pod, &self.sandbox, verdict),
            Change::EndedBy(step) => self.ledger.write_end(&self.pod, &self.sandbox, step),
            Change::CpuUsed(used) => self.ledger.write_cpu_used(&self.pod, &self.sandbox, used),
            Change::Checkpoint(path) => self.ledger.write_checkpoint(&self.pod, &self.sandbox, path),
            Change::Nothing => Ok(()),
            Change::Refused => {
                // It says so again, which is what was said already.
                let _ = self.ledger.admit(&self.pod.uid);
                Ok(())
            }
        }
    }
}

async fn write_all(place: Place, mut inbox: mpsc::UnboundedReceiver<Asked>) {
    let mut complained = false;
    while let Some(Asked { change, written }) = inbox.recv().await {
        let result = loop {
            let (here, now) = (place.clone(), change.clone());
            let result = tokio::task::spawn_blocking(move || here.write(now)).await.unwrap_or(Ok(()));
            let Err(error) = &result else { break result };
            if !std::mem::replace(&mut complained, true) {
                log::error!(pod = place.sandbox.as_str(); "{error}");
            }
            // Of a pod that ended for something else than its deadline, nothing else says it once the sandbox's record
            // is gone.
            if !matches!(change, Change::Verdict(_)) {
                break result;
            }
            tokio::time::sleep(WRITE_AGAIN).await;
        };
        // Not everybody waits.
        let _ = written.send(result);
    }
}

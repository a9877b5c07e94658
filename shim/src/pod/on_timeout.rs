//! A pod whose time is up, written to the disk before it is killed, where the node wants that.
//!
//! Nothing of it lets a sandbox live longer: the pod's grace is as long as that may take, and the watchdog knows it so.

use std::{path::PathBuf, pin::pin, time::Duration};

use curfew_config::OnTimeout;
use runsc_bridge::{Cli, ContainerId, ControlSocket};
use tokio::sync::mpsc;

use super::{
    Input, Pod, Stage,
    pod_ledger::{Change, PodLedger},
};
use crate::{
    last_checkpoint::{LastCheckpoint, LastCheckpointError},
    ledger::Reason,
    lifecycle::Phase,
    stats,
};

/// Between two looks at how large it has become.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The work of writing a sandbox down.
struct Saving {
    control: ControlSocket,
    cli: Cli,
    root: ContainerId,
    place: LastCheckpoint,
    /// Whether the sandbox runs, and has to be stopped first.
    runs: bool,
    /// Bytes that the sandbox uses.
    memory: u64,
    signal_limit: Duration,
    limit: Duration,
    ledger: Option<PodLedger>,
}

impl Pod {
    /// The grace that a pod of this node has with what may come in its place.
    pub(super) fn longest_grace(&self) -> Duration {
        let grace = self.record.pod_policy.as_ref().map_or(Duration::ZERO, |policy| policy.grace);
        match self.record.policy.timeout.on_timeout {
            OnTimeout::Kill => grace,
            OnTimeout::Checkpoint => grace.max(self.tools.calls.checkpoint),
        }
    }

    /// Has the sandbox of a pod whose time is up written down, if it is to be, in place of telling its workloads.
    pub(super) fn begin_saving(&mut self) {
        if self.record.policy.timeout.on_timeout != OnTimeout::Checkpoint {
            return;
        }
        if self.end_reason == Reason::DeadlineExceeded {
            match self.saving() {
                Ok(saving) => {
                    self.saving = true;
                    tokio::spawn(saving.run(self.outcomes.clone()));
                    return;
                }
                Err(error) => log::warn!(pod = self.record.sandbox.as_str(); "no checkpoint: {error}"),
            }
        }
        // The rest was for that.
        self.deadline
            .shorten_grace(self.record.pod_policy.as_ref().map_or(Duration::ZERO, |policy| policy.grace));
    }

    fn saving(&self) -> Result<Saving, LastCheckpointError> {
        let root = self.record.sandbox.root_container();
        let (Some(place), Some(sandbox)) = (LastCheckpoint::of(&self.record), &self.sandbox) else {
            return Err(LastCheckpointError::NoSandbox);
        };
        let phase = self.containers.get(&root).map(|container| container.init.phase);
        let runs = match phase {
            Some(Phase::Running) => true,
            Some(Phase::Paused) => false,
            Some(_) | None => return Err(LastCheckpointError::NotRunning),
        };
        if self.containers.values().any(|container| container.checkpointing.is_some()) {
            return Err(LastCheckpointError::Another);
        }
        if self.containers.values().any(|container| container.id != root && !container.init.has_ended()) {
            return Err(LastCheckpointError::Several);
        }
        let memory = stats::read(&sandbox.cgroup).ok().and_then(|stats| stats.memory);
        Ok(Saving {
            control: sandbox.control.clone(),
            cli: self.tools.cli.clone(),
            root,
            place,
            runs,
            memory: memory.map_or(0, |memory| memory.usage),
            signal_limit: self.tools.calls.signal,
            limit: self.tools.calls.checkpoint,
            ledger: self.ledger.clone(),
        })
    }

    /// The sandbox has been written down, or won't be: nothing more to wait for.
    pub(super) fn saved(&mut self, result: Result<PathBuf, LastCheckpointError>) {
        self.saving = false;
        let pod = self.record.sandbox.as_str();
        match result {
            Ok(path) => log::info!(pod; "written to {}, from which it can be restored", path.display()),
            Err(error) => log::error!(pod; "the checkpoint has failed: {error}"),
        }
        if self.deadline.stage() == Stage::Grace {
            self.time_is_up();
        }
    }
}

impl Saving {
    async fn run(self, outcomes: mpsc::UnboundedSender<Input>) {
        let mut result = self.prepare().await;
        if result.is_ok() {
            let mut call = pin!(self.checkpoint());
            result = tokio::select! {
                result = &mut call => result,
                error = self.outgrown() => {
                    // It has to end first, which it does with the sandbox; until then it goes on writing.
                    let _ = outcomes.send(Input::Saved(Err(error)));
                    let _ = call.await;
                    return self.place.clone().discard().await;
                }
            };
        }
        let result = match result {
            Ok(()) => self.place.clone().keep().await,
            Err(error) => Err(error),
        };
        let failed = result.is_err();
        if let (Ok(path), Some(ledger)) = (&result, self.ledger.clone()) {
            let path = path.clone();
            // Only what an operator is shown depends on it.
            let _ = ledger.write(Change::Checkpoint(path)).done().await;
        }
        // The sandbox is killed now, and then whatever still writes there ends.
        let _ = outcomes.send(Input::Saved(result));
        if failed {
            self.place.discard().await;
        }
    }

    async fn prepare(&self) -> Result<(), LastCheckpointError> {
        if self.runs {
            // Nothing that it does after its time counts. One that is stopped stays so through a checkpoint.
            self.control.pause(self.signal_limit).await?;
        }
        self.place.clone().prepare(self.memory).await
    }

    async fn checkpoint(&self) -> Result<(), LastCheckpointError> {
        // Left running, for it to end when all is in its place.
        Ok(self.cli.checkpoint(&self.root, self.place.unfinished(), true, self.limit).await?)
    }

    /// Returns once it is larger than it may be.
    async fn outgrown(&self) -> LastCheckpointError {
        loop {
            if let Err(error) = self.place.clone().keeps_to_its_size().await {
                return error;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

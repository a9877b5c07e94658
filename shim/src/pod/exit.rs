//! Exits: seen by whoever is first, recorded and published once.

use std::{process::ExitStatus, time::Duration};

use runsc_bridge::ContainerId;

use super::Pod;
use crate::{
    events::Event,
    lifecycle::{Effect, Phase, Trigger},
    priority,
    process::{Exit, STATUS_KILLED, STATUS_TIMED_OUT},
};

/// How long after the end of its sandbox a shim leaves the processors to others, unless it has to start something.
const GIVES_WAY_FOR: Duration = Duration::from_millis(250);

impl Pod {
    /// The program of container `id` has ended with `status`.
    pub(super) fn exited(&mut self, id: &ContainerId, status: u32) {
        if self.note_exited(id, status) {
            self.write_record_or_log(id);
        }
    }

    /// As [`Self::exited`], but for the record that is to be written. Says whether it is.
    fn note_exited(&mut self, id: &ContainerId, status: u32) -> bool {
        // What still ran when the time was up ends with 124, whatever it made of being told.
        let status = if self.deadline.has_expired() { STATUS_TIMED_OUT } else { status };
        let runs = |phase| phase != Phase::Starting;
        if self.containers.get(id).is_some_and(|container| runs(container.init.phase)) {
            self.end_execs(id);
        }
        // Nothing else but a KILL from outside ends a program so.
        let was_killed = status == STATUS_KILLED;
        let sandbox_is_out_of_memory = was_killed && self.has_run_out_of_memory();
        let Some(container) = self.containers.get_mut(id) else { return false };
        let out_of_memory = was_killed && (sandbox_is_out_of_memory || container.out_of_memory);
        let transition = container.init.transition(Trigger::Exited);
        if matches!(transition, Ok(Effect::RecordExit)) {
            self.leave_message(id, status, out_of_memory);
        }
        let Some(container) = self.containers.get_mut(id) else { return false };
        match transition {
            Ok(Effect::RecordExit) => {
                let exit = Exit::now(status);
                container.memory_watch = None;
                container.out_of_memory = out_of_memory;
                container.close_streams();
                if out_of_memory && container.role.is_workload() {
                    self.events.publish(Event::Oom { id: id.to_string() });
                }
                self.events.publish(Event::Exit {
                    id: id.to_string(),
                    exec: None,
                    pid: container.init.pid,
                    exit,
                });
                container.init.set_exit(exit);
                log::info!(container = id.as_str(); "ended with {status}");
                if let Some(container) = self.containers.get(id) {
                    self.keep_stats(container);
                }
                if let Some(noted) = self.record.containers.get_mut(id.as_str()) {
                    // For `delete`, should the shim die: what it says of the pod isn't how this container ended.
                    noted.exit = Some(exit);
                }
                self.end_if_no_workload_is_left();
                return true;
            }
            Ok(Effect::HoldExit) => container.init.held_exit = Some(status),
            Ok(_) => {}
            Err(error) => log::error!(container = id.as_str(); "{error}"),
        }
        false
    }

    /// The sandbox's process has ended: with the root container's status, and with every container of the pod.
    pub(super) fn sandbox_exited(&mut self, status: Option<ExitStatus>) {
        if self.deadline.has_expired() {
            // Others may have the same deadline, and be ending still.
            tokio::spawn(priority::give_way_for(GIVES_WAY_FOR));
        }
        let root = self.record.sandbox.root_container();
        self.keep_cpu_used();
        let (status, status_of_others) = self.statuses_of_end(status);
        let others: Vec<ContainerId> = self.containers.keys().filter(|id| **id != root).cloned().collect();
        let mut is_to_be_written = false;
        for id in others {
            is_to_be_written |= self.note_exited(&id, status_of_others);
        }
        if self.note_exited(&root, status) || is_to_be_written {
            self.write_record_or_log(&root);
        }
        self.deadline.disarm();
        self.clocks.clear();
        self.claim.forget_file();
    }
}

//! Stats: what a pod or one of its containers uses, read where it is accounted for and without the pod task.

use std::{io, sync::Arc, time::Duration};

use runsc_bridge::{ContainerId, ControlSocket};
use tokio::sync::watch;

use super::{Pod, container::Container, view::ContainerView};
use crate::{
    cgroup::Cgroup,
    error::Error,
    process::{PidFd, ProcessName},
    stats::{self, Cpu, Memory, MemoryEvents, Pids, Stats, Version},
};

/// Where a container's figures come from.
#[derive(Debug, Clone)]
pub(crate) enum UsageSource {
    /// The sandbox's cgroup and interfaces: of a plain container it is all there is, of a pause container the whole pod.
    Sandbox { cgroup: Arc<Cgroup>, name: Option<ProcessName>, process: Arc<PidFd> },
    /// The sentry's own accounting, which alone can tell a pod's containers apart.
    Sentry(OfSentry),
}

/// One container's figures in the sentry.
#[derive(Debug, Clone)]
pub(crate) struct OfSentry {
    cgroup: Arc<Cgroup>,
    version: Version,
    control: ControlSocket,
    id: ContainerId,
    call_limit: Duration,
    /// The container's own limit of memory, which the shim keeps, and whether it was ended for that.
    memory_limit: Option<u64>,
    out_of_memory: bool,
}

impl OfSentry {
    async fn read(&self) -> Result<Stats, Error> {
        let pod = stats::read(&self.cgroup).map_err(Error::system(READING))?;
        let usage = self.control.usage(&self.id, self.call_limit).await?;
        let pod_ns = pod.cpu.map_or(0, |cpu| cpu.usage_ns);
        let cpu = Cpu { usage_ns: share(pod_ns, usage.cpu, usage.cpu_of_all), ..Cpu::default() };
        Ok(Stats {
            cpu: Some(cpu),
            memory: Some(Memory { usage: usage.memory_bytes, ..self.memory() }),
            pids: Some(Pids { current: usage.pids, peak: None, limit: None }),
            ..self.of_nothing()
        })
    }

    /// What is known without the sentry.
    fn memory(&self) -> Memory {
        Memory {
            limit: self.memory_limit,
            oom_kills: self.out_of_memory.into(),
            // Among which version 2's figures have the kills.
            events: Some(MemoryEvents::default()),
            ..Memory::default()
        }
    }

    /// A container that uses nothing any more.
    fn of_nothing(&self) -> Stats {
        Stats {
            version: self.version,
            cpu: Some(Cpu::default()),
            memory: Some(self.memory()),
            pids: Some(Pids::default()),
            io: Vec::new(),
            network: Vec::new(),
        }
    }

    /// The last figures of a container that has ended, or none where nobody asked while it ran.
    fn after_its_end(&self, last: Option<Stats>) -> Stats {
        let last = last.unwrap_or_else(|| self.of_nothing());
        let memory = last.memory.map(|memory| Memory { oom_kills: self.out_of_memory.into(), ..memory });
        Stats { memory, ..last }
    }
}

const READING: &str = "reading the cgroup's figures";

impl UsageSource {
    /// Reads the figures.
    ///
    /// # Errors
    /// The cgroup is gone, or the sandbox doesn't answer.
    pub(crate) async fn read(&self) -> Result<Stats, Error> {
        match self {
            Self::Sandbox { cgroup, name, process } => {
                sandbox_stats(cgroup, *name, process).map_err(Error::system(READING))
            }
            Self::Sentry(container) => container.read().await,
        }
    }
}

fn sandbox_stats(cgroup: &Cgroup, name: Option<ProcessName>, process: &PidFd) -> io::Result<Stats> {
    let network = name.map(|name| stats::read_network(name, process)).unwrap_or_default();
    Ok(Stats { network, ..stats::read(cgroup)? })
}

/// A container's last figures, for the time when what they come from is gone: systemd removes a scope as soon as it is
/// empty, and a sandbox answers for its containers while it lives.
#[derive(Debug, Clone)]
pub(crate) struct LastStats(watch::Sender<Option<Stats>>);

impl LastStats {
    pub(crate) fn none() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Keeps `stats`, unless a controller has gone since the last: on version 1 its directory is removed by itself. A network
    /// that is gone with the last process counts as it did, and CPU time never runs back, as a container's share of its
    /// pod's can that did nothing while others did.
    fn keep(&self, mut stats: Stats) -> Stats {
        self.0.send_modify(|kept| {
            if let Some(last) = kept.take() {
                let has_gone = (last.cpu.is_some() && stats.cpu.is_none())
                    || (last.memory.is_some() && stats.memory.is_none())
                    || (last.pids.is_some() && stats.pids.is_none());
                if has_gone {
                    stats = last.clone();
                }
                if stats.network.is_empty() {
                    stats.network = last.network;
                }
                if let (Some(cpu), Some(last)) = (&mut stats.cpu, last.cpu) {
                    cpu.usage_ns = cpu.usage_ns.max(last.usage_ns);
                }
            }
            *kept = Some(stats.clone());
        });
        stats
    }

    fn get(&self) -> Option<Stats> {
        self.0.borrow().clone()
    }
}

impl ContainerView {
    /// What the container uses; once its program has ended, what it had used by then.
    ///
    /// # Errors
    /// There is no sandbox yet, its cgroup is gone, or it doesn't answer.
    pub(crate) async fn stats(&self, id: &str) -> Result<Stats, Error> {
        let Some(source) = &self.usage else {
            return self.last_stats.get().ok_or_else(|| Error::NoUsage(id.to_owned()));
        };
        match (source.read().await, self.init.exit_so_far(), source) {
            (Ok(stats), _, _) => Ok(self.last_stats.keep(stats)),
            (Err(error), None, _) => Err(error),
            (Err(_), Some(_), UsageSource::Sentry(container)) => {
                Ok(container.after_its_end(self.last_stats.get()))
            }
            (Err(error), Some(_), UsageSource::Sandbox { .. }) => self.last_stats.get().ok_or(error),
        }
    }
}

impl Pod {
    /// What the whole sandbox uses, if there is one to be asked.
    pub(super) fn sandbox_stats(&self) -> Option<Stats> {
        let sandbox = self.sandbox.as_ref()?;
        sandbox_stats(&sandbox.cgroup, self.record.process, &sandbox.process).ok()
    }

    /// Keeps what a container has used whose program has just ended: of the sandbox at once, as its cgroup may be gone
    /// the next moment; of another container as soon as the sentry says.
    pub(super) fn keep_stats(&self, container: &Container) {
        let last = container.last_stats.clone();
        match self.usage_of(container) {
            Some(UsageSource::Sandbox { cgroup, .. }) => {
                // Without a cgroup there is nothing newer than what is kept.
                let _ = stats::read(&cgroup).map(|stats| last.keep(stats));
            }
            // One that has ended says nothing.
            Some(UsageSource::Sentry(_)) if self.sandbox.as_ref().is_none_or(|s| s.process.has_ended()) => {}
            Some(UsageSource::Sentry(container)) => {
                tokio::spawn(async move { container.read().await.map(|stats| last.keep(stats)) });
            }
            None => {}
        }
    }

    /// Where a container's figures come from, once there is a sandbox.
    pub(super) fn usage_of(&self, container: &Container) -> Option<UsageSource> {
        let sandbox = self.sandbox.as_ref()?;
        let cgroup = sandbox.cgroup.clone();
        if container.role.is_root() {
            let (name, process) = (self.record.process, sandbox.process.clone());
            return Some(UsageSource::Sandbox { cgroup, name, process });
        }
        Some(UsageSource::Sentry(OfSentry {
            cgroup,
            version: sandbox.version,
            control: sandbox.control.clone(),
            id: container.id.clone(),
            call_limit: self.tools.calls.state,
            memory_limit: container.ceilings.memory,
            out_of_memory: container.out_of_memory,
        }))
    }
}

/// `part` of `whole`'s share of `total`.
fn share(total: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(total) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_never_runs_back_and_a_network_that_is_gone_counts_as_it_did() {
        let (last, dir) = (LastStats::none(), tempfile::tempdir().unwrap());
        crate::durable::replace(&dir.path().join("cgroup.procs"), b"").unwrap();
        let cgroup = Cgroup::of_directories(vec![dir.path().to_owned()]);
        let none = stats::read(&cgroup).unwrap();
        let of = |usage_ns, network| Stats {
            cpu: Some(Cpu { usage_ns, ..Cpu::default() }),
            network,
            ..none.clone()
        };
        let network = vec![stats::Interface { name: "eth0".into(), ..stats::Interface::default() }];
        assert_eq!(last.keep(of(7, network.clone())), of(7, network.clone()));
        assert_eq!(last.keep(of(5, Vec::new())), of(7, network.clone()));
        assert_eq!(last.keep(of(9, Vec::new())), of(9, network.clone()));
        // Its directory was removed before the others.
        assert_eq!(last.keep(Stats { cpu: None, ..none.clone() }), of(9, network));
    }

    #[test]
    fn a_containers_share_is_its_part_of_the_pods_total() {
        assert_eq!(share(1000, 1, 4), 250);
        assert_eq!(share(u64::MAX, 3, 4), u64::MAX / 4 * 3 + 2);
        assert_eq!(share(1000, 0, 0), 0);
    }
}

//! Create: from containerd's request to a container that waits for its Start.

mod policy;
pub(super) mod work;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use runsc_bridge::ContainerId;

use self::work::{Before, CreateWork, run_create};
use super::checkpoint::check_image;
use super::{
    Input, Pod,
    container::{Ceilings, Container},
    group::{self, Role},
    process::Responder,
    sandbox::NewSandbox,
};
use crate::{
    cgroup::Cgroup,
    command::{Create, Reply},
    confine::{Subject, confine, hold_below_pod, resize_shm, shared_shm, unexpose},
    deadline::clock::Boottime,
    error::Error,
    events::Event,
    lifecycle::{Effect, Trigger},
    process::{PidFd, ProcessName, STATUS_KILLED},
    record::{BundleNote, ContainerRecord},
    spec::Draft,
    stdio::{StdioPaths, error::StdioError, exec::ExecStreams, fifo::ContainerStdio, logger::LoggerProgram},
    termination,
};

/// What `runsc create` made.
pub(super) struct Created {
    sandbox: Option<NewSandbox>,
    gofer: Option<Gofer>,
    /// The copies to and from a root container's terminal.
    streams: Option<ExecStreams>,
}

/// The process that opens a container's files for the sandbox.
pub(super) struct Gofer {
    pub(super) name: ProcessName,
    pub(super) process: PidFd,
}

impl Pod {
    pub(super) fn create(&mut self, request: Create, responder: Responder) {
        let id = request.id.clone();
        match self.begin_create(request) {
            Err(error) => {
                log::warn!(container = id.as_str(); "create refused: {error}");
                let _ = responder.send(Err(error));
            }
            Ok((mut stdio, masked)) => {
                let longest = self.tools.calls.create + self.record.policy.timeout.startup;
                if let Some(container) = self.containers.get_mut(&id) {
                    container.init.waiting.push(responder);
                    let work = CreateWork::of(container, masked, &self.record.policy.state.dir);
                    let (tools, read) = (self.tools.clone(), self.claim.first_reading(&id));
                    let watched = container.role.is_root().then(|| {
                        // Also one that is never finished.
                        drop(self.watchdog.over_at(Boottime::now().after(longest)));
                        self.watchdog.guard(container.cgroup.clone())
                    });
                    self.spawn(async move {
                        let result = run_create(&tools, &work, Before { watched, read }, &mut stdio).await;
                        Input::Created(id, stdio, result)
                    });
                }
            }
        }
    }

    /// All that can be done at once, and undone at once. Returns what else the work needs: the streams, and paths in
    /// the image to be masked.
    fn begin_create(&mut self, request: Create) -> Result<(ContainerStdio, Vec<PathBuf>), Error> {
        if self.containers.contains_key(&request.id) {
            return Err(Error::AlreadyExists(request.id.to_string()));
        }
        self.refuse_ambiguous(&request.id)?;
        self.refuse_if_expired()?;
        let own_cgroup = self.tools.dir.own_cgroup(request.id.as_str());
        let mut draft = Draft::read(&request.bundle, &own_cgroup)?;
        let role = self.role_of(&request.id, &draft.annotations)?;
        if let Some(image) = &request.restore_from {
            check_image(&request.id, image)?;
        }
        let shm = self.decide_policy(&draft.annotations)?;
        let pod = role.places(&request.id, &draft.annotations);
        let rlimits = self.rlimits;
        let subject = Subject { policy: &self.record.policy, role: &role, shm, pod, rlimits };
        unexpose(draft.whole(), &self.tools.dir.guest());
        let asked = confine(draft.whole(), &subject)?;
        if let Some(dir) = shared_shm(draft.whole(), &subject) {
            resize_shm(&dir, shm.bytes).map_err(Error::system("setting the size of /dev/shm"))?;
        }
        let claim = self.plan_claim_file(draft.whole(), &role)?;
        self.expose_deadline(draft.whole(), &role)?;
        let cgroup =
            Cgroup::planned(draft.cgroups_path()).map_err(Error::system("reading the cgroup mounts"))??;
        if let Some(quota) = cgroup.quota_above() {
            hold_below_pod(draft.whole(), quota)?;
        }
        let place = group::termination_place(&draft.annotations);
        let termination_log = termination::file_of(draft.whole(), &place);
        let spec = draft.write()?;
        if cgroup.is_populated() {
            return Err(Error::CgroupInUse { id: request.id.to_string(), path: spec.cgroups_path });
        }
        if role.is_root() {
            self.decide_network(asked.host_network)?;
        }
        let stdio = self.open_stdio(&request)?;
        self.note_container(&request, &role, &cgroup, termination_log.clone())?;
        let ceilings = Ceilings {
            exec: spec.exec_ceiling,
            pids: asked.limits.pids.unwrap_or(u64::MAX).min(self.most_pids()),
            memory: match role.is_root() {
                true => Some(asked.limits.memory.unwrap_or(u64::MAX).min(self.record.policy.limits.memory)),
                false => asked.limits.memory,
            },
        };
        let mut container = Container::creating(request, role, cgroup, ceilings);
        container.termination_log = termination_log;
        self.take_claim_file(&container.id, claim);
        self.containers.insert(container.id.clone(), container);
        self.rlimits = asked.rlimits;
        Ok((stdio, asked.masked))
    }

    /// Refuses an id that is the beginning of a sibling's, or begins with one. CRI's ids are all of one length.
    fn refuse_ambiguous(&self, id: &ContainerId) -> Result<(), Error> {
        let (id, others) = (id.as_str(), self.containers.keys().map(ContainerId::as_str));
        let is_ambiguous = |other: &&str| id.starts_with(other) || other.starts_with(id);
        match others.into_iter().find(is_ambiguous) {
            Some(other) => Err(Error::AmbiguousId { id: id.to_owned(), other: other.to_owned() }),
            None => Ok(()),
        }
    }

    /// Refuses a logger where the node doesn't allow one.
    pub(super) fn check_logger(&self, paths: &StdioPaths) -> Result<(), Error> {
        if LoggerProgram::of(paths)?.is_some() && !self.record.policy.pod.binary_logger {
            return Err(StdioError::LoggerNotAllowed { uri: paths.stdout.clone() }.into());
        }
        Ok(())
    }

    fn open_stdio(&self, request: &Create) -> Result<ContainerStdio, Error> {
        self.check_logger(&request.stdio)?;
        let budget = self.limit_output(&request.id);
        if !request.terminal {
            return Ok(ContainerStdio::open(&request.stdio, budget)?);
        }
        let socket = self.tools.dir.console_socket(&request.id);
        Ok(ContainerStdio::open_terminal(&request.stdio, socket, budget)?)
    }

    fn role_of(&self, id: &ContainerId, annotations: &BTreeMap<String, String>) -> Result<Role, Error> {
        let role = Role::of(id, annotations)?;
        if role.sandbox(id)? != self.record.sandbox {
            return Err(Error::Internal("the container belongs to another sandbox than this shim's"));
        }
        if role.is_root() && self.sandbox.is_some() {
            return Err(Error::AlreadyExists(id.to_string()));
        }
        if !role.is_root() && self.sandbox.as_ref().is_none_or(|sandbox| sandbox.process.has_ended()) {
            return Err(Error::NoSandbox(self.record.sandbox.to_string()));
        }
        Ok(role)
    }

    /// Writes down where the container will be, before anything of it exists.
    fn note_container(
        &mut self,
        request: &Create,
        role: &Role,
        cgroup: &Cgroup,
        termination_log: Option<PathBuf>,
    ) -> Result<(), Error> {
        if role.is_root() {
            self.record.cgroup = cgroup.clone();
        }
        let noted = ContainerRecord {
            bundle: request.bundle.clone(),
            cgroup: cgroup.clone(),
            gofer: None,
            termination_log,
            exit: None,
        };
        self.record.containers.insert(request.id.to_string(), noted);
        let note = BundleNote { sandbox_dir: self.tools.dir.path().to_owned(), exit: None };
        let written = self
            .write_record()
            .and_then(|()| note.write(&request.bundle).map_err(Error::system("writing to the bundle")));
        if written.is_err() {
            self.forget_record(&request.id);
        }
        written
    }

    pub(super) fn forget_record(&mut self, id: &ContainerId) {
        self.record.containers.remove(id.as_str());
        self.write_record_or_log(id);
    }

    pub(super) fn created(
        &mut self,
        id: &ContainerId,
        stdio: ContainerStdio,
        result: Result<Created, Error>,
    ) {
        let result = result.map(|created| self.take_created(id, created));
        let Some(container) = self.containers.get_mut(id) else { return };
        container.keep_stdio(stdio);
        let trigger = if result.is_ok() { Trigger::CreateSucceeded } else { Trigger::CreateFailed };
        match (container.init.transition(trigger), result) {
            (Ok(Effect::Forget), Err(error)) => self.forget_container(id, error),
            (Ok(effect), _) => {
                self.limit_pod_memory();
                self.announce_created(id);
                if effect == Effect::EndUnstarted {
                    self.end_unstarted(id);
                } else if self.sandbox.as_ref().is_none_or(|sandbox| sandbox.process.has_ended()) {
                    self.exited(id, STATUS_KILLED);
                }
            }
            (Err(error), _) => log::error!(container = id.as_str(); "{error}"),
        }
    }

    fn take_created(&mut self, id: &ContainerId, created: Created) {
        if let Some(new) = created.sandbox {
            self.take_sandbox(id, new);
        }
        let pid = self.record.process.map_or(0, |name| name.pid.unsigned_abs());
        let noted = self.record.containers.get_mut(id.as_str());
        if let (Some(container), Some(noted)) = (self.containers.get_mut(id), noted) {
            container.init.pid = pid;
            container.streams = created.streams;
            noted.cgroup = container.cgroup.clone();
        }
        self.take_gofer(id, created.gofer);
        self.write_record_or_log(id);
    }

    /// Notes what runsc has started. A failure is no reason to end it: the cgroup was written down before, and through
    /// it `delete` still finds everything.
    pub(super) fn write_record_or_log(&self, id: &ContainerId) {
        if let Err(error) = self.write_record() {
            log::error!(container = id.as_str(); "{error}");
        }
    }

    pub(super) fn take_gofer(&mut self, id: &ContainerId, gofer: Option<Gofer>) {
        let noted = self.record.containers.get_mut(id.as_str());
        if let (Some(gofer), Some(container), Some(noted)) = (gofer, self.containers.get_mut(id), noted) {
            noted.gofer = Some(gofer.name);
            let process = Arc::new(gofer.process);
            self.watchdog.add(process.clone());
            container.gofer = Some(process);
        }
    }

    fn announce_created(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        self.events.publish(Event::Create {
            id: id.to_string(),
            pid: container.init.pid,
            bundle: container.bundle.clone(),
            rootfs: container.rootfs.clone(),
            stdio: container.init.stdio_paths.clone(),
        });
        container.init.answer(Reply::Pid(container.init.pid));
    }

    fn forget_container(&mut self, id: &ContainerId, error: Error) {
        log::warn!(container = id.as_str(); "create failed: {error}");
        let Some(container) = self.containers.remove(id) else { return };
        if container.role.is_root() {
            self.record.forget_sandbox();
            self.watchdog.forget();
        }
        self.forget_record(id);
        self.claim.forget_file_of(id);
        self.limit_pod_memory();
        if let Some(responder) = container.init.waiting.into_iter().next() {
            let _ = responder.send(Err(error));
        }
        for responder in container.waiting_kill {
            let _ = responder.send(Err(Error::NotFound { what: "container", id: id.to_string() }));
        }
    }
}

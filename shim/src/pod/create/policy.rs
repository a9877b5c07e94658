//! What the first Create decides for the whole pod.

use std::{collections::BTreeMap, sync::Arc};

use curfew_config::PodPolicy;

use crate::{
    confine::ShmSize,
    error::Error,
    pod::{Pod, Tools},
    serve::settings_of,
};

impl Pod {
    /// The first Create decides what the whole pod gets, for its life. Returns the part of it that goes into specs.
    pub(super) fn decide_policy(&mut self, annotations: &BTreeMap<String, String>) -> Result<ShmSize, Error> {
        if let Some(policy) = &self.record.pod_policy {
            return Ok(shm_of(policy));
        }
        self.take_up(annotations)?;
        let annotations = annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let policy = self.record.policy.for_pod(annotations)?;
        self.refuse_if_cpu_is_used_up(&policy)?;
        for clamp in &policy.clamped {
            log::warn!(pod = self.record.sandbox.as_str(); "{clamp}");
        }
        let shm = shm_of(&policy);
        self.record.pod_policy = Some(policy);
        Ok(shm)
    }

    /// The processes that a container of the pod can have at most.
    pub(in crate::pod) fn most_pids(&self) -> u64 {
        self.record.pod_policy.as_ref().map_or(u64::MAX, |policy| policy.pids)
    }

    /// A root container decides which network its sandbox has, and every later call of runsc names the same.
    pub(super) fn decide_network(&mut self, is_host: bool) -> Result<(), Error> {
        if self.record.host_network == is_host {
            return Ok(());
        }
        let settings = settings_of(&self.record.policy)?;
        let settings = if is_host { settings.on_host_network() } else { settings };
        let mut tools = Tools::clone(&self.tools);
        tools.cli = tools.cli.with_settings(settings);
        self.tools = Arc::new(tools);
        self.record.host_network = is_host;
        Ok(())
    }
}

fn shm_of(policy: &PodPolicy) -> ShmSize {
    ShmSize { bytes: policy.shm, asked: policy.shm_asked }
}

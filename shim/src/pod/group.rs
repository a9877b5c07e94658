//! How CRI tells a pod's sandbox from its containers. Its annotation keys are known here only.

use std::collections::BTreeMap;

use runsc_bridge::{ContainerId, IdError, SandboxId};

use crate::{confine::PodPlaces, error::Error, ledger::PodName, termination};

const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
const SANDBOX_UID: &str = "io.kubernetes.cri.sandbox-uid";
const SANDBOX_NAME: &str = "io.kubernetes.cri.sandbox-name";
const SANDBOX_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";

/// Far more than a UID has, and less than a file's name can.
const MOST_OF_A_UID: usize = 128;

const TERMINATION_PLACE: &str = "io.kubernetes.container.terminationMessagePath";

/// What runsc reads of CRI's annotations: the pod's grouping, and names for its metrics.
pub(crate) const RUNSC_NEEDS: [&str; 6] = [
    SANDBOX_ID,
    CONTAINER_TYPE,
    SANDBOX_UID,
    SANDBOX_NAME,
    SANDBOX_NAMESPACE,
    "io.kubernetes.cri.container-name",
];

/// A container's place in its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// A container without a pod: a pod of one, whose program is the workload.
    Plain,
    /// The pod's sandbox container, which holds its namespaces and does no work.
    Pause,
    /// A container in a pod's sandbox.
    Workload { sandbox: SandboxId },
}

impl Role {
    /// Reads the role of container `id` from its annotations.
    ///
    /// # Errors
    /// A sandbox id that is none.
    pub(crate) fn of(id: &ContainerId, annotations: &BTreeMap<String, String>) -> Result<Self, IdError> {
        let Some(sandbox) = annotations.get(SANDBOX_ID).filter(|sandbox| !sandbox.is_empty()) else {
            return Ok(Self::Plain);
        };
        let sandbox = SandboxId::new(sandbox)?;
        if sandbox.as_str() == id.as_str() {
            return Ok(Self::Pause);
        }
        // runsc decides by the type alone, so a container that names a sandbox without it would become one itself.
        Ok(match annotations.get(CONTAINER_TYPE).map(String::as_str) {
            Some("container") => Self::Workload { sandbox },
            _ => Self::Plain,
        })
    }

    /// The sandbox that container `id` lives in.
    pub(crate) fn sandbox(&self, id: &ContainerId) -> Result<SandboxId, IdError> {
        match self {
            Self::Workload { sandbox } => Ok(sandbox.clone()),
            Self::Plain | Self::Pause => SandboxId::new(id.as_str()),
        }
    }

    /// How kubelet and containerd name the pod on disk; `None` without a pod.
    pub(crate) fn places(
        &self,
        id: &ContainerId,
        annotations: &BTreeMap<String, String>,
    ) -> Option<PodPlaces> {
        let sandbox = annotations.get(SANDBOX_ID).filter(|sandbox| !sandbox.is_empty())?;
        let uid = annotations.get(SANDBOX_UID).filter(|uid| is_plain_name(uid)).cloned().unwrap_or_default();
        Some(PodPlaces { uid, sandbox: sandbox.clone(), container: id.as_str().to_owned() })
    }

    /// Whether the container is its sandbox's root container.
    pub(crate) fn is_root(&self) -> bool {
        matches!(self, Self::Plain | Self::Pause)
    }

    /// Whether the container's program is what the deadline is about.
    pub(crate) fn is_workload(&self) -> bool {
        matches!(self, Self::Plain | Self::Workload { .. })
    }
}

/// Where the container's termination message is: as kubelet says, if containerd passes that on.
pub(crate) fn termination_place(annotations: &BTreeMap<String, String>) -> String {
    let said = annotations.get(TERMINATION_PLACE).filter(|place| !place.is_empty());
    said.cloned().unwrap_or_else(|| termination::DEFAULT.to_owned())
}

/// The pod as Kubernetes names it; `None` for a container without one.
///
/// # Errors
/// A UID that is none: the pod could not be remembered by it.
pub(crate) fn pod_name(annotations: &BTreeMap<String, String>) -> Result<Option<PodName>, Error> {
    let of = |key: &str| annotations.get(key).cloned().unwrap_or_default();
    let uid = of(SANDBOX_UID);
    match uid.is_empty() {
        true => Ok(None),
        false if is_plain_name(&uid) => {
            Ok(Some(PodName { uid, namespace: of(SANDBOX_NAMESPACE), name: of(SANDBOX_NAME) }))
        }
        false => Err(Error::BadPodUid { key: SANDBOX_UID, uid }),
    }
}

/// A name that is one directory's, as a UID is.
fn is_plain_name(name: &str) -> bool {
    (1..=MOST_OF_A_UID).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(id: &str, annotations: &[(&str, &str)]) -> Result<Role, IdError> {
        let annotations = annotations.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Role::of(&ContainerId::new(id).unwrap(), &annotations)
    }

    #[test]
    fn cris_annotations_make_the_role() {
        assert_eq!(role("a", &[]), Ok(Role::Plain));
        assert_eq!(role("a", &[(SANDBOX_ID, "a"), (CONTAINER_TYPE, "sandbox")]), Ok(Role::Pause));
        let sandbox = SandboxId::new("p").unwrap();
        assert_eq!(
            role("a", &[(SANDBOX_ID, "p"), (CONTAINER_TYPE, "container")]),
            Ok(Role::Workload { sandbox })
        );
    }

    #[test]
    fn a_pod_has_a_uid_that_can_name_a_file_or_is_none() {
        let named = |uid: &str| pod_name(&BTreeMap::from([(SANDBOX_UID.into(), uid.into())]));
        assert_eq!(named("").unwrap(), None);
        assert_eq!(named("0f5c2c7e-1111").unwrap().unwrap().uid, "0f5c2c7e-1111");
        for uid in ["../x", "a.b", "a_b", "a b", &"a".repeat(129)] {
            assert!(named(uid).unwrap_err().to_string().contains(SANDBOX_UID), "{uid}");
        }
    }

    #[test]
    fn a_sandbox_id_that_is_none_is_refused() {
        assert!(role("a", &[(SANDBOX_ID, "../x"), (CONTAINER_TYPE, "container")]).is_err());
    }
}

//! What the shim gives up of being root, before there is a second thread.
//!
//! runsc, the sandbox and its gofers inherit the bounding set. With `directfs` sandbox and gofer live in a user namespace of
//! their own, where they have what they make of it: there this limits the runsc commands alone.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use curfew_config::Permission;

/// What some path of runsc or of the shim needs: to make namespaces, cgroups and mounts, to serve files of any owner, to
/// trace a guest, to end and protect processes.
const KEPT: [Capability; 17] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_KILL,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_MKNOD,
    Capability::CAP_SYS_RESOURCE,
];

/// Low ports, which a sandbox on the host's network can open by its own capabilities alone.
const HOST_NETWORK: Capability = Capability::CAP_NET_BIND_SERVICE;

/// Gives up every capability that isn't needed, for this process and for all that it starts. `host_network` says whether
/// its sandbox may have the host's.
///
/// # Errors
/// The kernel refuses, which it does to nobody who may give capabilities up.
pub(crate) fn reduce(host_network: Permission) -> Result<(), CapsError> {
    let keeps = |capability: &Capability| {
        KEPT.contains(capability) || (*capability == HOST_NETWORK && host_network == Permission::Allow)
    };
    for capability in caps::all() {
        // The kernel may not know it, or the node may not have it.
        if !keeps(&capability) && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
    caps::clear(None, CapSet::Inheritable)?;
    for set in [CapSet::Effective, CapSet::Permitted] {
        let mut held: CapsHashSet = caps::read(None, set)?;
        held.retain(keeps);
        caps::set(None, set, &held)?;
    }
    Ok(())
}

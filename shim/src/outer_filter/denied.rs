//! The system calls that no path of runsc makes, traced over whole lifecycles of sandboxes with and without networks,
//! volumes, cgroups and a gofer that opens files itself. One a line, with what it is for.

/// A system call of x86-64 and the reason to deny it.
pub(super) struct Denied {
    pub(super) number: i64,
    #[cfg_attr(not(test), allow(dead_code, reason = "the reason is for readers"))]
    pub(super) does: &'static str,
}

const fn deny(number: i64, does: &'static str) -> Denied {
    Denied { number, does }
}

// Too old, or too new, for the library that has the other numbers (arch/x86/entry/syscalls/syscall_64.tbl).
const SYS_CREATE_MODULE: i64 = 174;
const SYS_GET_KERNEL_SYMS: i64 = 177;
const SYS_QUERY_MODULE: i64 = 178;
const SYS_LSM_SET_SELF_ATTR: i64 = 460;

#[rustfmt::skip]
pub(super) const DENIED: &[Denied] = &[
    deny(libc::SYS_init_module, "loads code into the kernel"),
    deny(libc::SYS_finit_module, "loads code into the kernel"),
    deny(libc::SYS_delete_module, "takes code out of the kernel"),
    deny(SYS_CREATE_MODULE, "loads code into the kernel, once"),
    deny(SYS_QUERY_MODULE, "asked for the kernel's modules, once"),
    deny(SYS_GET_KERNEL_SYMS, "gave the kernel's addresses, once"),
    deny(libc::SYS_kexec_load, "starts another kernel"),
    deny(libc::SYS_kexec_file_load, "starts another kernel"),
    deny(libc::SYS_reboot, "stops the node"),
    deny(libc::SYS_swapon, "adds swap to the node"),
    deny(libc::SYS_swapoff, "takes swap from the node"),
    deny(libc::SYS_acct, "accounts for the node's processes"),
    deny(libc::SYS_syslog, "reads and clears the kernel's log"),
    deny(libc::SYS_iopl, "opens I/O ports"),
    deny(libc::SYS_ioperm, "opens I/O ports"),
    deny(libc::SYS_modify_ldt, "sets segments, a source of old kernel bugs"),
    deny(libc::SYS_settimeofday, "sets the node's clock"),
    deny(libc::SYS_clock_settime, "sets the node's clock"),
    deny(libc::SYS_adjtimex, "adjusts the node's clock"),
    deny(libc::SYS_clock_adjtime, "adjusts the node's clock"),
    deny(libc::SYS_sethostname, "names the node"),
    deny(libc::SYS_setdomainname, "names the node's domain"),
    deny(libc::SYS_quotactl, "sets disk quotas"),
    deny(libc::SYS_quotactl_fd, "sets disk quotas"),
    deny(libc::SYS_nfsservctl, "ruled a file server, once"),
    deny(libc::SYS_uselib, "loaded libraries, once"),
    deny(libc::SYS_ustat, "told of file systems, once"),
    deny(libc::SYS_sysfs, "told of file systems, once"),
    deny(libc::SYS__sysctl, "set the kernel's parameters, once"),
    deny(libc::SYS_lookup_dcookie, "names files for profilers"),
    deny(libc::SYS_vhangup, "hangs up a terminal"),
    deny(libc::SYS_personality, "turns off what protects a process's memory"),
    deny(libc::SYS_add_key, "stores keys in the kernel"),
    deny(libc::SYS_request_key, "has the kernel start a program for a key"),
    deny(libc::SYS_keyctl, "rules the kernel's keys"),
    deny(libc::SYS_bpf, "loads programs into the kernel"),
    deny(libc::SYS_perf_event_open, "watches other processes and the kernel"),
    deny(libc::SYS_userfaultfd, "holds the kernel up in a page fault, which exploits like"),
    deny(libc::SYS_process_vm_readv, "reads another process's memory"),
    deny(libc::SYS_process_vm_writev, "writes another process's memory"),
    deny(libc::SYS_process_madvise, "advises on another process's memory"),
    deny(libc::SYS_process_mrelease, "takes a dying process's memory"),
    deny(libc::SYS_kcmp, "tells what processes share"),
    deny(libc::SYS_pidfd_getfd, "takes another process's descriptors"),
    deny(libc::SYS_name_to_handle_at, "names files past a mount"),
    deny(libc::SYS_open_by_handle_at, "opens files past a mount"),
    deny(libc::SYS_fanotify_init, "watches whole file systems"),
    deny(libc::SYS_fanotify_mark, "watches whole file systems"),
    deny(libc::SYS_fsopen, "mounts by a newer way than runsc's"),
    deny(libc::SYS_fsconfig, "mounts by a newer way than runsc's"),
    deny(libc::SYS_fsmount, "mounts by a newer way than runsc's"),
    deny(libc::SYS_fspick, "changes mounts by a newer way than runsc's"),
    deny(libc::SYS_move_pages, "moves another process's memory"),
    deny(libc::SYS_migrate_pages, "moves another process's memory"),
    deny(libc::SYS_mbind, "binds memory to nodes"),
    deny(libc::SYS_set_mempolicy, "binds memory to nodes"),
    deny(libc::SYS_set_mempolicy_home_node, "binds memory to nodes"),
    deny(libc::SYS_remap_file_pages, "maps pages out of order, once"),
    deny(libc::SYS_vmsplice, "gives pages away that are still in use"),
    deny(libc::SYS_memfd_secret, "hides memory from the kernel's own look"),
    deny(libc::SYS_shmget, "shares memory by number"),
    deny(libc::SYS_shmat, "shares memory by number"),
    deny(libc::SYS_shmdt, "shares memory by number"),
    deny(libc::SYS_semget, "shares semaphores by number"),
    deny(libc::SYS_semop, "shares semaphores by number"),
    deny(libc::SYS_semctl, "shares semaphores by number"),
    deny(libc::SYS_semtimedop, "shares semaphores by number"),
    deny(libc::SYS_msgget, "shares queues by number"),
    deny(libc::SYS_msgsnd, "shares queues by number"),
    deny(libc::SYS_msgrcv, "shares queues by number"),
    deny(libc::SYS_msgctl, "shares queues by number"),
    deny(libc::SYS_mq_open, "shares queues by name"),
    deny(libc::SYS_mq_unlink, "shares queues by name"),
    deny(libc::SYS_mq_timedsend, "shares queues by name"),
    deny(libc::SYS_mq_timedreceive, "shares queues by name"),
    deny(libc::SYS_mq_notify, "shares queues by name"),
    deny(libc::SYS_mq_getsetattr, "shares queues by name"),
    deny(libc::SYS_afs_syscall, "never was"),
    deny(libc::SYS_tuxcall, "never was"),
    deny(libc::SYS_security, "never was"),
    deny(libc::SYS_getpmsg, "never was"),
    deny(libc::SYS_putpmsg, "never was"),
    deny(libc::SYS_vserver, "never was"),
    deny(libc::SYS_epoll_ctl_old, "never was"),
    deny(libc::SYS_epoll_wait_old, "never was"),
    deny(libc::SYS_set_thread_area, "is another architecture's"),
    deny(libc::SYS_get_thread_area, "is another architecture's"),
    deny(SYS_LSM_SET_SELF_ATTR, "changes a process's own label"),
];

/// Those that a newer runsc uses to be quicker on some platforms, and does without where it must.
#[rustfmt::skip]
pub(super) const IO_URING: &[Denied] = &[
    deny(libc::SYS_io_uring_setup, "is a second way to most system calls"),
    deny(libc::SYS_io_uring_enter, "is a second way to most system calls"),
    deny(libc::SYS_io_uring_register, "is a second way to most system calls"),
];

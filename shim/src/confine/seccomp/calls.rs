//! The system calls of the node's own profile, by what they are for.

use caps::Capability;

/// What programs without a privilege need.
#[rustfmt::skip]
pub(super) const ALLOWED: &[(&str, &str)] = &[
    ("opening and closing files", "open openat openat2 creat close close_range dup dup2 dup3 fcntl flock"),
    ("reading and writing", "read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 lseek sendfile splice \
        tee vmsplice copy_file_range pipe pipe2 ioctl"),
    ("a file's size and content", "truncate ftruncate fallocate fadvise64 readahead sync syncfs fsync fdatasync \
        sync_file_range memfd_create"),
    ("what a file is", "stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat"),
    ("whose a file is", "chmod fchmod fchmodat chown fchown lchown fchownat umask utime utimes futimesat utimensat"),
    ("a file's attributes", "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr \
        removexattr lremovexattr fremovexattr"),
    ("directories", "getdents getdents64 getcwd chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir link linkat unlink \
        unlinkat symlink symlinkat mknod mknodat inotify_init inotify_init1 inotify_add_watch inotify_rm_watch"),
    ("memory", "mmap munmap mremap mprotect pkey_mprotect pkey_alloc pkey_free brk msync mincore madvise mlock mlock2 \
        munlock mlockall munlockall remap_file_pages membarrier"),
    ("starting programs and ending", "fork vfork execve execveat exit exit_group wait4 waitid"),
    ("threads", "futex set_robust_list get_robust_list set_tid_address rseq arch_prctl restart_syscall getcpu sched_yield"),
    ("scheduling", "sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam \
        sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval \
        getpriority setpriority ioprio_get ioprio_set"),
    ("who a program is", "getpid getppid gettid getpgid getpgrp setpgid getsid setsid getuid geteuid getgid getegid getgroups \
        getresuid getresgid setuid setgid setgroups setreuid setregid setresuid setresgid setfsuid setfsgid capget capset"),
    ("what a program has and may", "getrlimit setrlimit prlimit64 getrusage times sysinfo uname prctl seccomp getrandom"),
    ("signals", "kill tkill tgkill pidfd_open pidfd_send_signal rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending \
        rt_sigsuspend rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo sigaltstack signalfd signalfd4 pause"),
    ("time", "time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep alarm getitimer setitimer timer_create \
        timer_delete timer_gettime timer_settime timer_getoverrun timerfd_create timerfd_gettime timerfd_settime"),
    ("waiting for files", "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 \
        eventfd eventfd2 io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents"),
    ("networks", "socket socketpair bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt \
        sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg"),
    ("talking to other programs", "shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl mq_open \
        mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"),
];

/// What only who has one of these capabilities may even try.
#[rustfmt::skip]
pub(super) const PRIVILEGED: &[(&[Capability], &str)] = &[
    (&[Capability::CAP_SYS_ADMIN], "mount umount2 fsopen fsconfig fsmount fspick open_tree move_mount setns unshare \
        sethostname setdomainname quotactl fanotify_init fanotify_mark lookup_dcookie"),
    (&[Capability::CAP_SYS_ADMIN, Capability::CAP_BPF], "bpf"),
    (&[Capability::CAP_SYS_ADMIN, Capability::CAP_PERFMON], "perf_event_open"),
    (&[Capability::CAP_SYS_CHROOT], "chroot"),
    (&[Capability::CAP_SYS_PTRACE], "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp"),
    (&[Capability::CAP_SYS_NICE], "get_mempolicy set_mempolicy mbind migrate_pages move_pages"),
    (&[Capability::CAP_DAC_READ_SEARCH], "name_to_handle_at open_by_handle_at"),
    (&[Capability::CAP_SYSLOG], "syslog"),
    (&[Capability::CAP_SYS_TIME], "settimeofday clock_settime adjtimex clock_adjtime"),
    (&[Capability::CAP_SYS_TTY_CONFIG], "vhangup"),
    (&[Capability::CAP_SYS_BOOT], "reboot"),
    (&[Capability::CAP_SYS_MODULE], "init_module finit_module delete_module"),
    (&[Capability::CAP_SYS_PACCT], "acct"),
    (&[Capability::CAP_SYS_RAWIO], "iopl ioperm"),
];

/// What nobody with a profile may do, and what would be told of as missing if it weren't here: keys are shared between
/// containers, and the rest is the node's.
pub(super) const DENIED: &str =
    "add_key request_key keyctl kexec_load kexec_file_load swapon swapoff pivot_root userfaultfd";

//! The shim started by `start`, as a process of its own.
//!
//! Its listener comes as standard input and its lock as standard output, as a super-server hands a socket to a
//! service: nothing has to be named, and nothing else is inherited.

#![allow(clippy::disallowed_methods, reason = "the shim starts itself here; runsc is started in the bridge")]
#![allow(unsafe_code, reason = "descriptors that nobody here owns are closed by number")]

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::{sandbox_dir::SandboxDir, serve::Inherited};

/// What the shim is started with.
pub(super) struct Daemon<'a> {
    pub(super) namespace: &'a str,
    pub(super) id: &'a str,
    pub(super) dir: &'a SandboxDir,
    pub(super) listener: OwnedFd,
    pub(super) lock: OwnedFd,
}

impl Daemon<'_> {
    /// Starts the shim.
    ///
    /// # Errors
    /// This binary cannot be executed again.
    pub(super) fn start(self) -> io::Result<Child> {
        Command::new("/proc/self/exe")
            // The name by which people look for it.
            .arg0(std::env::current_exe()?)
            .args(["-namespace", self.namespace, "-id", self.id, "-sandbox-dir"])
            .arg(self.dir.path())
            .arg("serve")
            // containerd's environment may hold what is nobody's business here.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(self.listener))
            .stdout(Stdio::from(self.lock))
            .stderr(Stdio::null())
            .spawn()
    }
}

/// Takes what `start` handed over and lets go of everything else that ties the shim to it.
pub(crate) fn inherited(sandbox_dir: &Path) -> io::Result<Inherited> {
    close_strays();
    // Fails for a process that leads its group, which containerd's child does and this one doesn't.
    setsid()?;
    let lock = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let listener = take_standard_input()?;
    Ok(Inherited { listener, lock, dir: SandboxDir::at(sandbox_dir.to_owned()) })
}

/// Takes the socket that a shim hands to its watchdog, and lets go of everything else.
pub(crate) fn standard_input_alone() -> io::Result<OwnedFd> {
    close_strays();
    setsid()?;
    take_standard_input()
}

/// What standard input was; like both outputs it leads nowhere from then on.
fn take_standard_input() -> io::Result<OwnedFd> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(input)
}

/// Closes what containerd, or whoever started it, left open across two executions.
fn close_strays() {
    // SAFETY: nothing in this process has opened a descriptor yet, so none of these has an owner.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// containerd's own score plus one: of the two the OOM killer should take the shim, and before both a sandbox.
pub(super) fn oom_score_of_parent() -> Option<i32> {
    let parent = nix::unistd::getppid();
    let score = fs::read_to_string(format!("/proc/{parent}/oom_score_adj")).ok()?;
    Some((score.trim().parse::<i32>().ok()? + 1).min(1000))
}

/// Best effort: lowering a score needs a capability that not every node gives.
pub(super) fn set_oom_score(pid: u32, score: i32) {
    use std::io::Write;
    let file: io::Result<File> = OpenOptions::new().write(true).open(format!("/proc/{pid}/oom_score_adj"));
    let _ = file.and_then(|mut file| write!(file, "{score}"));
}

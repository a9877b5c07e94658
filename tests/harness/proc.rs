//! The machine's processes, and which of them belong to a test.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process at one moment. Pids are reused, so a process is its pid and its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// In clock ticks since boot.
    pub start: u64,
    pub parent: i32,
    /// As `ps` has it; `Z` is a zombie.
    pub state: char,
    pub name: String,
    /// Words separated by blanks; empty for zombies and kernel threads.
    pub command: String,
    /// The lines of `/proc/PID/cgroup`.
    pub cgroups: String,
}

/// Everything that runs now. What ends while this looks is left out.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read).collect()
}

impl Process {
    /// The process with that pid, if there is one.
    pub fn read(pid: i32) -> Option<Self> {
        let dir = format!("/proc/{pid}");
        let stat = fs::read_to_string(format!("{dir}/stat")).ok()?;
        // The name stands in parentheses and may contain any of them.
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let command = fs::read(format!("{dir}/cmdline")).unwrap_or_default();
        let words = command.split(|byte| *byte == 0);
        let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
        Some(Self {
            pid,
            name: name.into(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
            command: words.join(" ").trim_end().into(),
            cgroups: fs::read_to_string(format!("{dir}/cgroup")).unwrap_or_default(),
        })
    }

    pub fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }

    /// Whether it is still there: the same process, not another of that pid.
    pub fn is_alive(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.start == self.start && !now.is_zombie())
    }

    /// Sends a signal, unless the process has gone.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may end in between, and that is what a signal is for here.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Whether its command line, cgroup or environment speaks of the test's directory or namespace.
    fn speaks_of(&self, namespace: &str) -> bool {
        let environment = || fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        self.command.contains(namespace)
            || self.cgroups.contains(namespace)
            || contains(&environment(), namespace.as_bytes())
    }
}

/// The processes that belong to a test: those that speak of its namespace, which is its
/// directory's name too, those that this process started or adopted, and all their
/// descendants. Never the caller, nor `containerd` itself.
pub fn of_test(namespace: &str, containerd: Option<i32>) -> Vec<Process> {
    let everything = all();
    let own_pid = Pid::this().as_raw();
    let named = everything.iter().filter(|p| p.speaks_of(namespace)).map(|p| p.pid);
    let mut found: Vec<i32> = named.chain([own_pid]).chain(containerd).collect();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        let children = everything.iter().filter(|p| p.parent == parent);
        let new: Vec<i32> = children.map(|p| p.pid).filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
        next += 1;
    }
    found.retain(|pid| *pid != own_pid && Some(*pid) != containerd);
    let mut found: Vec<Process> = everything.into_iter().filter(|p| found.contains(&p.pid)).collect();
    found.sort_by_key(|p| p.start);
    found
}

/// The processes of which a file is the program, by the program's path.
pub fn running(program: &Path) -> Vec<Process> {
    let is_it = |p: &Process| fs::read_link(format!("/proc/{}/exe", p.pid)).is_ok_and(|exe| exe == program);
    all().into_iter().filter(is_it).collect()
}

fn contains(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

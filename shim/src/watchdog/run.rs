//! The watchdog itself: one thread without a runtime, which waits for a time and for the shim's end.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, Signal},
};

use super::{
    confine,
    end::SandboxEnd,
    message::{ENDED, MARGIN, Message, Numbered, acknowledge},
};
use crate::{
    boot,
    cgroup::Cgroup,
    deadline::{clock::Boottime, timer},
    process::PidFd,
    sandbox_dir::SandboxDir,
};

/// Between two looks at what has just been killed.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Then it is killed once more, this often.
const AGAIN: Duration = Duration::from_secs(1);
/// How often to look whether the cgroup of a sandbox that has ended is empty.
const LAST_LOOKS: u32 = 100;
/// How often to look before whatever survives is left to the timer, and after how many looks to kill again.
const LOOKS: u32 = 1000;
const KILL_EVERY: u32 = 20;
/// How long a shim may take to say that it is there after its sandbox was ended for it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// What is to be killed, and when.
#[derive(Default)]
struct Charge {
    cgroup: Cgroup,
    processes: Vec<PidFd>,
    over: Option<Boottime>,
    hold: bool,
}

impl Charge {
    /// Has nothing to do with the sandbox that it was about.
    fn clear(&mut self) {
        *self = Self { hold: self.hold, ..Self::default() };
    }

    /// Whether there is nothing to be killed, nor will be.
    fn is_nothing(&self) -> bool {
        self.processes.is_empty() && self.cgroup == Cgroup::default()
    }

    fn is_gone(&self) -> bool {
        self.processes.iter().all(PidFd::has_ended) && !self.cgroup.is_populated()
    }
}

/// Watches over one pod until that has ended.
struct Watch {
    /// `None` once the shim is gone.
    shim: Option<OwnedFd>,
    shim_process: Option<PidFd>,
    timer: OwnedFd,
    charge: Charge,
    dir: WatchedDir,
    /// Whether it has begun to kill.
    kills: bool,
    /// Whether the shim has to say that it lives.
    asked: bool,
}

/// The sandbox's directory. Another of its name is another pod's, whose cgroup may have this one's name too.
struct WatchedDir {
    named: SandboxDir,
    /// The directory itself, whatever its name leads to by now.
    itself: SandboxDir,
    identity: Option<(u64, u64)>,
    _open: File,
}

impl WatchedDir {
    fn open(named: SandboxDir) -> io::Result<Self> {
        let open = File::open(named.path())?;
        let itself = SandboxDir::at(format!("/proc/self/fd/{}", open.as_raw_fd()).into());
        Ok(Self { named, identity: itself.identity(), itself, _open: open })
    }

    fn is_there(&self) -> bool {
        self.named.identity() == self.identity
    }
}

/// Is the watchdog whose shim is at the other end of standard input.
///
/// # Errors
/// It could not be set up. The shim sees it end.
pub(crate) fn run(dir: SandboxDir) -> anyhow::Result<()> {
    let shim = boot::standard_input_alone().context("taking over the socket")?;
    // Whoever stops containerd's whole group must not stop this.
    let stray = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    stray.thread_block().context("blocking signals")?;
    let timer = timer::timer().context("making a timer")?;
    confine::confine().context("giving up privileges")?;
    let dir = WatchedDir::open(dir).context("opening the sandbox's directory")?;
    let charge = Charge::default();
    let shim = Some(shim);
    let mut watch = Watch { shim, shim_process: None, timer, charge, dir, kills: false, asked: false };
    while !watch.step()? {}
    Ok(())
}

impl Watch {
    /// Waits for the next event and acts on it. Says whether there is nothing left to do.
    fn step(&mut self) -> anyhow::Result<bool> {
        let shim = self.shim.as_ref().map(AsFd::as_fd);
        let held = self.charge.processes.iter().filter(|process| !process.has_ended());
        let sources = [Some(self.timer.as_fd()), shim].into_iter().flatten().chain(held.map(AsFd::as_fd));
        let mut watched: Vec<PollFd<'_>> = sources.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        if let Err(error) = poll(&mut watched, PollTimeout::NONE)
            && error != Errno::EINTR
        {
            // Blind it cannot watch, and must not leave the sandbox alone.
            drop(watched);
            self.end();
            return Err(error.into());
        }
        let ready: Vec<bool> = watched.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let is_time = ready.first() == Some(&true);
        let shim_is_ready = shim.is_some() && ready.get(1) == Some(&true);
        if shim_is_ready && self.hear()? {
            return Ok(true);
        }
        if is_time && timer::has_fired(&self.timer) {
            self.time_is_up()?;
        }
        self.rest_if_ended();
        Ok(self.shim.is_none() && self.charge.is_gone())
    }

    /// Lets go of a sandbox that has ended: its cgroup's name may become somebody else's.
    fn rest_if_ended(&mut self) {
        let has_ended =
            |charge: &Charge| !charge.processes.is_empty() && charge.processes.iter().all(PidFd::has_ended);
        if self.asked || !has_ended(&self.charge) {
            return;
        }
        for _ in 0..LAST_LOOKS {
            if self.charge.is_gone() {
                self.charge.clear();
                // Unsetting a valid timer cannot fail.
                let _ = timer::set(&self.timer, None);
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Takes what the shim says. Says whether the pod has ended in order.
    fn hear(&mut self) -> anyhow::Result<bool> {
        let Some(shim) = &self.shim else { return Ok(false) };
        let told = match Numbered::receive(shim) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // Who doesn't make sense is as good as dead.
            Ok(None) | Err(_) => None,
            Ok(Some(told)) => Some(told),
        };
        let Some((Numbered { number, message }, process)) = told else {
            self.shim_is_lost();
            return Ok(false);
        };
        if std::mem::take(&mut self.asked) {
            timer::set(&self.timer, None)?;
        }
        match message {
            Message::Shim => self.shim_process = process.map(PidFd::from),
            Message::Ping => {}
            Message::Hold(hold) => self.charge.hold = hold,
            Message::Cgroup(cgroup) => self.charge.cgroup = cgroup,
            Message::Process => {
                self.charge.processes.retain(|process| !process.has_ended());
                self.charge.processes.extend(process.map(PidFd::from));
            }
            Message::Over(over) => {
                self.charge.over = over;
                timer::set(&self.timer, over.map(|over| over.after(MARGIN)))?;
            }
            Message::Forget => {
                self.charge.clear();
                if std::mem::take(&mut self.kills) {
                    SandboxEnd::remove(&self.dir.itself);
                }
                timer::set(&self.timer, None)?;
            }
            Message::Release => return Ok(true),
        }
        // A shim that has died meanwhile is seen at the next step.
        let _ = acknowledge(shim, number);
        Ok(false)
    }

    fn shim_is_lost(&mut self) {
        self.shim = None;
        match self.charge.over {
            // The shim's part is done here, and without its margin.
            Some(over) if self.charge.hold && timer::set(&self.timer, Some(over)).is_ok() => {}
            _ => self.end(),
        }
    }

    /// The shim should have ended the sandbox by now, or should have said that it lives.
    fn time_is_up(&mut self) -> io::Result<()> {
        if self.charge.is_nothing() {
            return Ok(());
        }
        let shim_may_be_well = !std::mem::take(&mut self.asked);
        if shim_may_be_well {
            self.end();
        } else if let Some(shim) = &self.shim_process {
            shim.kill();
        }
        if let Some(shim) = self.shim.as_ref().filter(|_| shim_may_be_well && self.charge.is_gone()) {
            // It cannot be told where it doesn't read at all, which comes to the same.
            let _ = acknowledge(shim, ENDED);
            self.asked = true;
            timer::set(&self.timer, Some(Boottime::now().after(SIGN_OF_LIFE)))?;
        }
        Ok(())
    }

    /// Ends the sandbox, and comes back to it as long as anything of it is left.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.kills, true) && !self.charge.is_gone() {
            let end = SandboxEnd::now(self.charge.over.is_some_and(|over| over <= Boottime::now()));
            self.kill();
            // `delete` may have removed the directory by now.
            let _ = end.write(&self.dir.itself);
        }
        if !self.is_killed() {
            // Whatever survives that, in uninterruptible sleep perhaps, takes its time.
            let _ = timer::set(&self.timer, Some(Boottime::now().after(AGAIN)));
        }
    }

    fn kill(&mut self) {
        if !self.dir.is_there() {
            // Somebody has cleaned up already.
            self.charge.cgroup = Cgroup::default();
        }
        self.charge.processes.iter().for_each(PidFd::kill);
        self.charge.cgroup.kill();
    }

    /// Kills, and says whether nothing is left within a second or so. Whatever is made meanwhile is killed too.
    fn is_killed(&mut self) -> bool {
        // A runsc in the middle of making the sandbox may outlive its shim for a moment.
        let is_being_made = self.charge.processes.is_empty() && self.charge.cgroup != Cgroup::default();
        for look in 0..LOOKS {
            if look % KILL_EVERY == 0 {
                self.kill();
            }
            if !is_being_made && self.charge.is_gone() {
                return true;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.charge.is_gone()
    }
}

//! The shim's claim to processors, next to everybody else's.
//!
//! Where many sandboxes end in the same moment, the kernel takes down their memory, while the shims of those that are gone
//! already have reports to make. The reports can wait for a moment, the ends can't.

use std::{
    fs, io,
    io::Write,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::process::{
    Pid, Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit,
};

/// The least that there is.
const LEAST: i32 = 19;
/// What stands for it where sessions compete with each other, and the programs of one among themselves alone (sched(7)).
const AUTOGROUP: &str = "/proc/self/autogroup";
/// RLIMIT_NICE counts the other way round (getrlimit(2)).
const LIMIT_OF_NICE_0: i32 = 20;

/// As this process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Original {
    nice: i32,
    /// `None` where the kernel has no such groups.
    autogroup: Option<i32>,
}

static ORIGINAL: OnceLock<Original> = OnceLock::new();
/// Whether it is given away no more.
static KEPT: AtomicBool = AtomicBool::new(false);

impl Original {
    fn read() -> Self {
        let text = fs::read_to_string(AUTOGROUP).unwrap_or_default();
        let autogroup = text.trim().rsplit(' ').next().and_then(|nice| nice.parse().ok());
        Self { nice: getpriority_process(None).unwrap_or(0), autogroup }
    }
}

/// Between two tries to take it back.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// Lets others go first for so long: those in the same session's group or the same cgroup, whichever the kernel shares
/// processors among.
pub(crate) fn give_way_for(time: Duration) -> impl Future<Output = ()> {
    if !KEPT.load(Relaxed) {
        give_way();
    }
    async move {
        tokio::time::sleep(time).await;
        while !take_back() {
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }
}

/// Until [`take_back`], as far as that can be taken back: to lower a priority is free, and to raise it a privilege.
fn give_way() {
    let original = *ORIGINAL.get_or_init(Original::read);
    // Of this thread, and of those that it starts from now on.
    let nice = allow(original.nice).and_then(|()| Ok(setpriority_process(None, LEAST)?));
    if let Err(error) = nice {
        log::debug!("keeping the nice value: {error}");
    }
    // Anybody may raise it up to 0 again.
    if original.autogroup.is_some_and(|nice| nice >= 0)
        && let Err(error) = set_autogroup(LEAST)
    {
        log::debug!("keeping the nice value of the session: {error}");
    }
}

/// Makes this process able to go back to `nice`, if it isn't.
fn allow(nice: i32) -> io::Result<()> {
    let least = u64::try_from(LIMIT_OF_NICE_0 - nice).unwrap_or(0);
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= least);
    let Rlimit { current, maximum } = getrlimit(Resource::Nice);
    if !is_enough(current) {
        let maximum = if is_enough(maximum) { maximum } else { Some(least) };
        setrlimit(Resource::Nice, Rlimit { current: Some(least), maximum })?;
    }
    Ok(())
}

/// Takes it back, and keeps it: what is started from now on would have it for life.
pub(crate) fn keep() {
    KEPT.store(true, Relaxed);
    take_back();
}

/// Goes back to the priority that this process was started with. Says whether it has.
fn take_back() -> bool {
    let Some(original) = ORIGINAL.get() else { return true };
    let threads = restore_threads(original.nice);
    // From others than root the kernel takes one change in a tenth of a second, whoever made the last.
    let session = original.autogroup.filter(|nice| *nice >= 0).map_or(Ok(()), set_autogroup);
    for error in [threads, session].into_iter().filter_map(Result::err) {
        log::warn!("cannot take back the priority: {error}");
        if error.kind() == io::ErrorKind::WouldBlock {
            return false;
        }
    }
    true
}

fn restore_threads(nice: i32) -> io::Result<()> {
    let mut result = Ok(());
    for entry in fs::read_dir("/proc/self/task")? {
        let thread = entry?.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
        match setpriority_process(thread, nice) {
            // It has ended meanwhile.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => result = Err(error.into()),
        }
    }
    result
}

fn set_autogroup(nice: i32) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(AUTOGROUP)?.write_all(nice.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use caps::{CapSet, Capability};

    use super::*;

    /// Whatever the test comes to.
    struct TakenBack;

    impl Drop for TakenBack {
        fn drop(&mut self) {
            take_back();
        }
    }

    #[test]
    fn what_was_given_away_is_taken_back_from_every_thread() {
        if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap() {
            println!(
                "skipped: without CAP_SYS_ADMIN the kernel takes a change of a session's nice value now and then only"
            );
            return;
        }
        let before = Original::read();
        let taken_back = TakenBack;
        give_way();
        give_way();
        let given = Original::read();
        let may = allow(before.nice).is_ok();
        assert_eq!(given.nice, if may { LEAST } else { before.nice });
        assert_eq!(given.autogroup, before.autogroup.map(|_| LEAST));
        let (tell, told) = mpsc::channel::<()>();
        let started_meanwhile = thread::spawn(move || {
            told.recv().unwrap();
            getpriority_process(None).unwrap()
        });
        drop(taken_back);
        tell.send(()).unwrap();
        assert_eq!(started_meanwhile.join().unwrap(), before.nice);
        assert_eq!(Original::read(), before);
    }
}

//! The series that are measured: each gives its numbers in milliseconds.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Harness, Signal, proc};

use super::Result;
use super::pod::{Pod, Work, next_number, uid};
use super::watch::{Watch, boottime};

/// How long a sandbox may outlive its deadline before the measurement gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// A deadline at which everything that is to be watched is under watch for long.
const LIMIT: &str = "1s";
/// As long as that.
const LIKE_LIMIT: Duration = Duration::from_secs(1);

#[allow(clippy::cast_precision_loss, reason = "a time in three digits")]
fn millis(from: u64, to: u64) -> f64 {
    (to as f64 - from as f64) / 1e6
}

/// From the deadline of one pod to its end, so many times.
pub(crate) fn alone(h: &Harness, count: usize) -> Result<Vec<f64>> {
    (0..count).map(|_| expired(h)).collect()
}

fn expired(h: &Harness) -> Result<f64> {
    let pod = Pod::start(h, LIMIT, Work::Endless)?;
    let mut watch = Watch::new()?;
    pod.watch(&proc::all(), &mut watch)?;
    let late = lateness(pod.due, watch)?;
    pod.expired()?;
    Ok(late[0])
}

/// As [`alone`], and in turns with it how long a sandbox is there that is killed from outside with its shim stopped: what
/// the kernel takes for it on this machine.
pub(crate) fn alone_and_by_hand(h: &Harness, count: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    (0..count).map(|_| Ok((expired(h)?, killed_by_hand(h)?))).collect()
}

fn killed_by_hand(h: &Harness) -> Result<f64> {
    let pod = Pod::start(h, "1h", Work::Endless)?;
    std::thread::sleep(LIKE_LIMIT);
    let mut watch = Watch::new()?;
    pod.watch(&proc::all(), &mut watch)?;
    let shim = pod.shim()?;
    shim.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(5));
    let killed = watch.kill();
    let ends = watch.ends(PATIENCE);
    shim.signal(Signal::SIGCONT);
    pod.ended(137)?;
    Ok(millis(killed, ends?[0]))
}

/// As [`alone`], where as many programs as given want each processor at the same time.
pub(crate) fn busy(h: &Harness, count: usize, on_each: usize) -> Result<Vec<f64>> {
    let processors = std::thread::available_parallelism()?.get();
    let hogs: io::Result<Vec<Hog>> = (0..processors * on_each).map(|_| Hog::start()).collect();
    let late = alone(h, count);
    drop(hogs?);
    late
}

/// A program that uses a processor, in a session of its own as a daemon would be.
struct Hog(Child);

impl Hog {
    fn start() -> io::Result<Self> {
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", "while :; do :; done"]).stdin(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // Whoever has ended needs no end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From the deadline that all of so many pods have to the end of each. Says how much memory they took, in MiB.
pub(crate) fn at_once(h: &Harness, count: usize, per_pod: Duration) -> Result<(Vec<f64>, u64)> {
    let before = available()?;
    // All but the first are further attempts at pods whose clock began with the first's.
    let limit = per_pod * u32::try_from(count)? + Duration::from_secs(5);
    let began = Instant::now();
    let mut pods = vec![Pod::start(h, &format!("{}s", limit.as_secs()), Work::Idle)?];
    let first = uid(pods[0].number);
    let entry = final_entry(h, &first)?;
    for _ in 1..count {
        let number = next_number();
        fs::write(ledger_file(h, &uid(number)), entry.replace(&first, &uid(number)))?;
        pods.push(Pod::start_as(h, number, "1h", Work::Idle)?);
    }
    let due = pods[0].due;
    if let Some(other) = pods.iter().find(|pod| pod.due != due) {
        return Err(format!("a deadline is {} ms off", millis(due, other.due)).into());
    }
    let took = before.saturating_sub(available()?);
    let mut watch = Watch::new()?;
    let all = proc::all();
    for pod in &pods {
        pod.watch(&all, &mut watch)?;
    }
    say(&format!("{count} pods after {:.1?} of {limit:?}, {took} MiB", began.elapsed()));
    let late = lateness(due, watch)?;
    for pod in pods {
        pod.expired()?;
    }
    Ok((late, took))
}

fn ledger_file(h: &Harness, uid: &str) -> PathBuf {
    h.containerd.dir().join("ledger").join(format!("{uid}.json"))
}

/// A pod's entry, once it says when its workload has started.
fn final_entry(h: &Harness, uid: &str) -> Result<String> {
    let read =
        || fs::read_to_string(ledger_file(h, uid)).ok().filter(|text| text.contains("\"is_final\":true"));
    Ok(harness::rpc::poll(Duration::from_secs(5), read).ok_or("the ledger doesn't say when the pod began")?)
}

/// From the kill of the shim to the end of its sandbox.
pub(crate) fn shim_killed(h: &Harness, count: usize) -> Result<Vec<f64>> {
    let one = |_| {
        let pod = Pod::start(h, "1h", Work::Endless)?;
        let mut watch = Watch::new()?;
        pod.watch(&proc::all(), &mut watch)?;
        let shim = pod.shim()?;
        let killed = boottime();
        shim.signal(Signal::SIGKILL);
        let late = millis(killed, watch.ends(PATIENCE)?[0]);
        pod.forgotten()?;
        Ok(late)
    };
    (0..count).map(one).collect()
}

fn lateness(due: u64, watch: Watch) -> Result<Vec<f64>> {
    let now = boottime();
    if now >= due {
        return Err(format!("the deadline came {} ms before all was under watch", millis(due, now)).into());
    }
    let left = Duration::from_nanos(due - now);
    Ok(watch.ends(left + PATIENCE)?.into_iter().map(|end| millis(due, end)).collect())
}

/// Memory that the machine has left, in MiB.
fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.ok_or("/proc/meminfo doesn't say MemAvailable")? / 1024)
}

fn say(line: &str) {
    let _ = writeln!(io::stderr(), "lateness: {line}");
}

//! The daemon's process: how it starts, and when it is up.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use containerd_client::Client;

use crate::rpc::{Wire, poll};
use crate::{janitor, version};

use super::Options;

const START_LIMIT: Duration = Duration::from_secs(20);

/// containerd as a child that dies with the test, also if the test is killed. To the
/// kernel "the parent has died" means the thread, so it is the one that lives longest.
pub(super) fn spawn(wire: &Wire, dir: &Path, options: &Options) -> io::Result<Child> {
    let mut command = command(dir, options)?;
    let spawned = wire.spawn(async move { command.spawn() });
    wire.block_on(spawned).map_err(io::Error::other)?
}

fn command(dir: &Path, options: &Options) -> io::Result<Command> {
    let programs = version::containerd(&options.version);
    let log = OpenOptions::new().create(true).append(true).open(dir.join("containerd.log"))?;
    let mut path = options.path.clone();
    path.push(dir.join("bin"));
    for program in [version::shim(), version::runsc(), programs.join("containerd")] {
        path.extend(program.parent().map(Path::to_owned));
    }
    path.extend(["/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    let mut command = if options.node.is_empty() { Command::new("setpriv") } else { on_node(dir, options)? };
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(programs.join("containerd"))
        .arg("--config")
        .arg(dir.join("containerd.toml"))
        .env_clear()
        .env("PATH", std::env::join_paths(path).map_err(io::Error::other)?)
        .env(janitor::MARK, dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

/// `setpriv` where `/etc/curfew` has the test's base file: the machine's own must not change under other tests.
fn on_node(dir: &Path, options: &Options) -> io::Result<Command> {
    let (upper, work) = (dir.join("etc"), dir.join("etc-work"));
    fs::create_dir_all(upper.join("curfew"))?;
    fs::create_dir_all(&work)?;
    fs::write(upper.join("curfew/config.toml"), &options.node)?;
    let script =
        r#"mount -t overlay overlay -o "lowerdir=/etc,upperdir=$0,workdir=$1" /etc && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "slave", "--", "sh", "-c", script]);
    command.arg(upper).arg(work).arg("setpriv");
    Ok(command)
}

/// A client, once containerd answers; or its log, if it ends before that.
pub(super) fn connect(wire: &Wire, dir: &Path, mut process: Child) -> io::Result<(Client, Child)> {
    let socket = dir.join("c.sock");
    let answered = poll(START_LIMIT, || {
        if let Ok(Some(status)) = process.try_wait() {
            return Some(Err(io::Error::other(format!("it ended with {status}"))));
        }
        let client = wire.block_on(Client::from_path(&socket)).ok()?;
        let version = wire.call(Duration::from_secs(2), client.version().version(()));
        version.is_ok().then_some(Ok(client))
    });
    match answered.unwrap_or_else(|| Err(io::Error::other("it does not answer"))) {
        Ok(client) => Ok((client, process)),
        Err(error) => {
            let _ = process.kill();
            let _ = process.wait();
            let log = fs::read(dir.join("containerd.log")).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            Err(io::Error::other(format!("{error}; its log:\n{log}")))
        }
    }
}

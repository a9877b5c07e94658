//! runsc by its command line, with the flags that Curfew gives it and no containerd.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::proc::Process;
use harness::{Spec, version};
use serde_json::{Value, json};

use super::meter::Meter;
use super::notes::{Measure, Notes};
use super::{Plan, Result, rootfs, sentry, writer};

/// As in `runsc-bridge/src/cli/args.rs`, for the policy that is built in.
const FLAGS: [&str; 9] = [
    "--log-format=json",
    "--platform=systrap",
    "--network=sandbox",
    "--overlay2=root:memory",
    "--directfs=true",
    "--control-rpc-stop-timeout=0",
    "--in-sandbox-cgroup=v2",
    "--oci-seccomp=true",
    "--allow-suid=true",
];
const EXIT_LIMIT: Duration = Duration::from_secs(20);

/// A place for bare sandboxes.
#[derive(Debug)]
pub(crate) struct Bare {
    dir: PathBuf,
    rootfs: PathBuf,
    cgroup: String,
    count: u32,
}

impl Bare {
    /// Everything below that directory and in that cgroup, which the harness cleans up.
    pub(crate) fn new(dir: &Path, namespace: &str) -> Result<Self> {
        let dir = dir.join("bare");
        let rootfs = rootfs::unpack("busybox", &dir)?;
        Ok(Self { dir, rootfs, cgroup: format!("/curfew-test/{namespace}"), count: 0 })
    }

    /// A sandbox from create to delete.
    pub(crate) fn lifecycle(&mut self, notes: &mut Notes<'_>, plan: &Plan) -> Result<()> {
        let bundle = self.bundle(Spec::sleeper())?;
        let id = bundle.id.clone();
        let create = ["create", "--bundle", &bundle.dir, &id];
        let (_, created) = notes.time(Measure::Create, || self.call(&create, None))?;
        let (_, started) = notes.time(Measure::Start, || self.call(&["start", &id], None))?;
        notes.add_time(Measure::CreateAndStart, created + started);
        for _ in 0..plan.calls.div_ceil(5) {
            notes.time(Measure::State, || self.call(&["state", &id], None))?;
            notes.time(Measure::Kill, || self.call(&["kill", &id, "URG"], None))?;
            notes.time(Measure::Exec, || self.call(&["exec", &id, "true"], None))?;
            let socket = self.dir.join(format!("root/runsc-{id}.sock"));
            notes.time(Measure::SentryExec, || sentry::exec_of_true(&socket, &id))?;
        }
        self.kill(&id, notes)?;
        notes.time(Measure::Delete, || self.delete(&id))?;
        Ok(bundle.remove()?)
    }

    fn kill(&self, id: &str, notes: &mut Notes<'_>) -> Result<()> {
        let sandbox = self.sandbox(id)?;
        let start = Instant::now();
        self.call(&["kill", id, "KILL"], None)?;
        wait_for_end(&sandbox)?;
        notes.add_time(Measure::KillToExit, start.elapsed());
        Ok(())
    }

    /// The output of a container, and of an exec in another.
    pub(crate) fn output(&mut self, notes: &mut Notes<'_>, plan: &Plan) -> Result<()> {
        let bundle = self.bundle(Spec::new(writer(plan.output_mib)))?;
        let meter = Meter::start(self.dir.join("out"), plan.output_mib)?;
        self.call(&["create", "--bundle", &bundle.dir, &bundle.id], Some(meter.writer()?))?;
        let sandbox = self.sandbox(&bundle.id)?;
        self.call(&["start", &bundle.id], None)?;
        notes.add(Measure::Output, meter.rate()?);
        wait_for_end(&sandbox)?;
        self.delete(&bundle.id)?;
        bundle.remove()?;
        self.exec_output(notes, plan)
    }

    fn exec_output(&mut self, notes: &mut Notes<'_>, plan: &Plan) -> Result<()> {
        let bundle = self.bundle(Spec::sleeper())?;
        let meter = Meter::start(self.dir.join("out"), plan.output_mib)?;
        self.call(&["create", "--bundle", &bundle.dir, &bundle.id], None)?;
        self.call(&["start", &bundle.id], None)?;
        let program = writer(plan.output_mib);
        let mut args = vec!["exec", &bundle.id];
        args.extend(program.iter().map(String::as_str));
        let mut exec = self.spawn(&args, Some(meter.writer()?))?;
        notes.add(Measure::ExecOutput, meter.rate()?);
        exec.wait()?;
        let sandbox = self.sandbox(&bundle.id)?;
        self.call(&["kill", &bundle.id, "KILL"], None)?;
        wait_for_end(&sandbox)?;
        self.delete(&bundle.id)?;
        Ok(bundle.remove()?)
    }

    fn delete(&self, id: &str) -> Result<()> {
        self.call(&["delete", "--force", id], None)
    }

    /// A bundle of its own for each sandbox, as containerd makes one.
    fn bundle(&mut self, spec: Spec) -> Result<Bundle> {
        self.count += 1;
        let id = format!("bare{}", self.count);
        let dir = self.dir.join(&id);
        fs::create_dir(&dir)?;
        let mut config = Value::Null;
        let _ = spec.edit(|json| config = json.clone());
        config["root"]["path"] = json!(self.rootfs);
        config["linux"]["cgroupsPath"] = json!(format!("{}/{id}", self.cgroup));
        fs::write(dir.join("config.json"), config.to_string())?;
        Ok(Bundle { id, dir: dir.display().to_string() })
    }

    /// The sandbox's process.
    fn sandbox(&self, id: &str) -> Result<Process> {
        let said = self.command(&["state", id]).stderr(Stdio::inherit()).output()?;
        let state: Value = serde_json::from_slice(&said.stdout)?;
        let pid = state["pid"].as_i64().ok_or("runsc state says no pid")?;
        Ok(Process::read(i32::try_from(pid)?).ok_or("the sandbox has ended")?)
    }

    fn call(&self, args: &[&str], stdout: Option<File>) -> Result<()> {
        let status = self.spawn(args, stdout)?.wait()?;
        if status.success() {
            return Ok(());
        }
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        Err(format!("runsc {} failed ({status}): {}", args.join(" "), log.lines().last().unwrap_or(""))
            .into())
    }

    fn spawn(&self, args: &[&str], stdout: Option<File>) -> Result<Child> {
        Ok(self.command(args).stdout(stdout.map_or_else(Stdio::null, Stdio::from)).spawn()?)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(version::runsc());
        command
            .arg(format!("--root={}/root", self.dir.display()))
            .arg(format!("--shared-root={}/shared", self.dir.display()))
            .arg(format!("--log={}/log", self.dir.display()))
            .args(FLAGS)
            .args(args)
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

#[derive(Debug)]
struct Bundle {
    id: String,
    dir: String,
}

impl Bundle {
    fn remove(self) -> std::io::Result<()> {
        fs::remove_dir_all(self.dir)
    }
}

/// Looks every fifth of a millisecond: a `runsc wait` would be another process to pay for.
fn wait_for_end(sandbox: &Process) -> Result<()> {
    let end = Instant::now() + EXIT_LIMIT;
    while sandbox.is_alive() {
        if Instant::now() >= end {
            return Err(format!("the sandbox {} doesn't end", sandbox.pid).into());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

//! A shim, by way of containerd's client: what a node's user waits for.

use std::time::{Duration, Instant};

use harness::{Code, ExecSpec, Harness, RpcError, Signal, Spec, Stdio, Task};

use super::meter::Meter;
use super::notes::{Measure, Notes, Subject};
use super::{Plan, Result, footprint, writer};

/// A shim and the containerd that starts it.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) subject: Subject,
    pub(crate) harness: Harness,
}

impl Shim {
    /// A task from Create to Delete.
    pub(crate) fn lifecycle(&self, notes: &mut Notes<'_>, plan: &Plan) -> Result<()> {
        let container =
            self.harness.containerd.container(self.harness.runtime, &self.spec(Spec::sleeper()))?;
        let (task, created) = notes.time(Measure::Create, || container.create())?;
        let (_, started) = notes.time(Measure::Start, || task.start())?;
        notes.add_time(Measure::CreateAndStart, created + started);
        for _ in 0..plan.calls {
            notes.time(Measure::State, || task.state())?;
            notes.time(Measure::Pids, || task.pids())?;
            notes.time(Measure::Kill, || task.kill(Signal::SIGURG))?;
            served(notes.time(Measure::Stats, || task.metrics()))?;
        }
        for _ in 0..plan.calls.div_ceil(5) {
            self.exec(&task, notes)?;
        }
        footprint::note(&self.harness.containerd, notes)?;
        kill(&task, notes)?;
        notes.time(Measure::Delete, || task.delete_task())?;
        Ok(container.delete()?)
    }

    /// The output of a container, and of an exec in another.
    pub(crate) fn output(&self, notes: &mut Notes<'_>, plan: &Plan) -> Result<()> {
        let (meter, stdio) = self.meter(plan)?;
        let task = self.harness.try_create(self.spec(Spec::new(writer(plan.output_mib)).stdio(stdio)))?;
        task.start()?;
        notes.add(Measure::Output, meter.rate()?);
        task.wait()?;
        task.delete()?;

        let (meter, stdio) = self.meter(plan)?;
        let task = self.harness.try_create(self.spec(Spec::sleeper()))?;
        task.start()?;
        let spec = ExecSpec::new(writer(plan.output_mib)).stdio(stdio);
        match served(task.exec(&spec))? {
            Some(exec) => {
                exec.start()?;
                notes.add(Measure::ExecOutput, meter.rate()?);
                exec.wait()?;
                exec.delete()?;
            }
            None => std::fs::remove_file(meter.path())?,
        }
        task.kill(Signal::SIGKILL)?;
        task.wait()?;
        task.delete()?;
        Ok(())
    }

    fn exec(&self, task: &Task, notes: &mut Notes<'_>) -> Result<()> {
        let start = Instant::now();
        let Some(exec) = served(task.exec(&ExecSpec::new(["true"])))? else { return Ok(()) };
        exec.start()?;
        let exit = exec.wait()?;
        notes.add_time(Measure::Exec, start.elapsed());
        exec.delete()?;
        match exit.status {
            0 => Ok(()),
            status => Err(format!("{}: an exec of true ended with {status}", self.subject.name()).into()),
        }
    }

    fn meter(&self, plan: &Plan) -> Result<(Meter, Stdio)> {
        let meter = Meter::start(self.harness.containerd.dir().join("io/meter"), plan.output_mib)?;
        let path = meter.path().display().to_string();
        Ok((meter, Stdio::Path(path)))
    }

    fn spec(&self, spec: Spec) -> Spec {
        match self.subject {
            // It takes a container that says nothing of its kind for one of a pod, and waits for the pod.
            Subject::Peer => spec.annotation("io.kubernetes.cri.container-type", "sandbox"),
            Subject::Bare | Subject::Runc | Subject::Curfew => spec,
        }
    }
}

fn kill(task: &Task, notes: &mut Notes<'_>) -> Result<()> {
    let waiting = task.wait_in_background();
    // It should be under way; that it isn't would only cost a little time.
    std::thread::sleep(Duration::from_millis(20));
    let start = Instant::now();
    task.kill(Signal::SIGKILL)?;
    waiting.join().map_err(|_| "the waiting thread panicked")??;
    notes.add_time(Measure::KillToExit, start.elapsed());
    Ok(())
}

/// `None` for what the shim doesn't serve. containerd answers for metrics that it could not get with none.
fn served<T>(answer: std::result::Result<T, RpcError>) -> std::result::Result<Option<T>, RpcError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(error.code, Code::Unimplemented | Code::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

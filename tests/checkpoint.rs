//! Checkpoint, and Create from one.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use containerd_client::types::Descriptor;
use containerd_shim_protos::api::CheckpointTaskRequest;
use harness::{
    Code, Harness, RpcError, Spec, Status, Task,
    shim::{Shim, limit},
    version,
};

harness::on_curfew_alone![
    a_checkpointed_container_runs_on,
    a_restored_container_goes_on_where_it_was,
    a_checkpoint_that_asks_to_exit_ends_the_container,
    a_checkpoint_to_a_place_that_is_taken_or_cannot_be_written_is_refused,
    a_container_with_siblings_that_run_is_not_checkpointed,
    a_checkpoint_of_another_runsc_is_refused,
    a_checkpoint_of_another_spec_is_refused,
];

/// Counts up for ever, in memory alone.
const COUNTING: &str = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done";

fn counting(h: &Harness) -> Task {
    let task = h.start(Spec::new(["sh", "-c", COUNTING]));
    task.wait_for_output("10\n");
    task
}

fn a_checkpointed_container_runs_on(h: &Harness) {
    let events = h.events();
    let task = counting(h);
    task.checkpoint(false).unwrap();
    events.wait_until("checkpointed", |all| all.iter().any(|event| event.topic == "/tasks/checkpointed"));
    assert_eq!(task.state().unwrap().status, Status::Running);
    let before = task.stdout_so_far().len();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(task.stdout_so_far().len() > before);
    task.end().unwrap();
}

fn a_restored_container_goes_on_where_it_was(h: &Harness) {
    let task = counting(h);
    let checkpoint = task.checkpoint(true).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
    let restored = h.container(&Spec::new(["sh", "-c", COUNTING])).create_from(checkpoint).unwrap();
    restored.start().unwrap();
    restored.wait_for_output("\n");
    let first: u32 = restored.stdout_so_far().lines().next().unwrap().parse().unwrap();
    assert!(first >= 10, "it counts from {first}");
    restored.end().unwrap();
}

fn a_checkpoint_that_asks_to_exit_ends_the_container(h: &Harness) {
    let task = counting(h);
    task.checkpoint(true).unwrap();
    task.wait().unwrap();
    assert_eq!(task.state().unwrap().status, Status::Stopped);
    task.delete().unwrap();
}

fn refused(shim: &Shim, id: &str, path: &Path) -> Code {
    let path = path.display().to_string();
    let request = CheckpointTaskRequest { id: id.into(), path, ..CheckpointTaskRequest::default() };
    RpcError::from(shim.tasks().checkpoint(limit(), &request).unwrap_err()).code
}

fn a_checkpoint_to_a_place_that_is_taken_or_cannot_be_written_is_refused(h: &Harness) {
    let task = counting(h);
    let shim = Shim::of(&h.containerd, task.id()).unwrap();
    let taken = h.containerd.dir().join("temp/taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("file"), "somebody's").unwrap();
    assert_eq!(refused(&shim, task.id(), &taken), Code::AlreadyExists);
    assert_eq!(fs::read_to_string(taken.join("file")).unwrap(), "somebody's");
    assert_eq!(refused(&shim, task.id(), Path::new("/proc/checkpoint")), Code::InvalidArgument);
    assert_eq!(refused(&shim, task.id(), Path::new("relative")), Code::InvalidArgument);
    assert_eq!(refused(&shim, "unknown", &taken), Code::NotFound);
    drop(shim);
    task.end().unwrap();
}

fn a_container_with_siblings_that_run_is_not_checkpointed(h: &Harness) {
    let pod = h.pod_of_two();
    assert_eq!(pod.workload.checkpoint(false).unwrap_err().code, Code::FailedPrecondition);
    pod.delete();
}

/// A runsc that is the pinned one but for the release that it says it is.
fn of_another_release(h: &Harness) -> PathBuf {
    let release = format!("release-{}", version::pin("RUNSC_VERSION")).into_bytes();
    let other: Vec<u8> = [&release[..release.len() - 1], b"9"].concat();
    assert_ne!(release, other);
    let mut program = fs::read(version::runsc()).unwrap();
    let places: Vec<usize> =
        program.windows(release.len()).enumerate().filter(|(_, w)| *w == release).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        program[at..at + other.len()].copy_from_slice(&other);
    }
    let path = h.containerd.dir().join("temp/runsc");
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The code of a restore that must fail and leave nothing, at Create or at Start.
fn failed_restore(h: &Harness, spec: &Spec, checkpoint: Descriptor) -> RpcError {
    let container = h.container(spec);
    let restored = container.create_from(checkpoint).and_then(|task| {
        let started = task.start();
        task.delete_task().unwrap();
        started
    });
    container.delete().unwrap();
    restored.unwrap_err()
}

fn a_checkpoint_of_another_runsc_is_refused(h: &Harness) {
    let task = counting(h);
    let checkpoint = task.checkpoint(true).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
    let class = fs::read_to_string(h.containerd.class_file()).unwrap();
    let other = of_another_release(h).display().to_string();
    fs::write(h.containerd.class_file(), class.replace(&version::runsc().display().to_string(), &other))
        .unwrap();
    let error = failed_restore(h, &Spec::new(["sh", "-c", COUNTING]), checkpoint);
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    assert!(error.message.contains("runsc version does not match"), "{error}");
}

fn a_checkpoint_of_another_spec_is_refused(h: &Harness) {
    let task = counting(h);
    let checkpoint = task.checkpoint(true).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
    let error = failed_restore(h, &Spec::new(["sleep", "1000"]).env("OTHER", "1"), checkpoint);
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
    // What differs is named, and not shown: an environment holds secrets.
    assert!(error.message.contains("does not match"), "{error}");
    assert!(!error.message.contains("sleep"), "{error}");
}

//! Bad input of every kind: a clear error with its code, and nothing left behind.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "a test's own files")]

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{CreateTaskRequest, ShutdownRequest, StateRequest},
    protobuf::{Message, well_known_types::any::Any},
};
use harness::{
    Code, Harness, RpcError, Spec, Stdio,
    proc::Process,
    shim::{Said, Shim, Verb, limit},
};
use serde_json::json;

harness::on_curfew_alone![
    a_class_file_that_is_bad_in_any_way_is_refused_at_start_in_one_line,
    an_id_that_could_be_a_path_is_refused_at_start_and_at_the_shim,
    a_spec_that_is_missing_cut_or_huge_is_refused_at_start,
    a_spec_that_goes_bad_before_create_is_refused_and_the_shim_goes_on,
    a_stream_that_is_no_fifo_is_refused,
    a_checkpoint_that_is_none_is_refused,
    a_start_that_meets_a_dead_shims_sandbox_cleans_it_and_keeps_its_lock,
    a_start_that_nobody_waits_for_leaves_no_shim,
];

const LIMIT: Duration = Duration::from_secs(10);
/// containerd gives State so long.
const STATE_LIMIT: Duration = Duration::from_secs(2);

/// The failed verb's one line.
#[track_caller]
fn one_line(said: &Said) -> String {
    assert_eq!(said.status.unwrap().code(), Some(1));
    let text = String::from_utf8([&said.stdout[..], &said.stderr].concat()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text:?}");
    text
}

fn class_options(h: &Harness) -> Vec<u8> {
    let path = h.containerd.class_file().display().to_string();
    let mut value = vec![0x12, u8::try_from(path.len()).unwrap()];
    value.extend(path.bytes());
    let any = Any { type_url: "runtimeoptions.v1.Options".into(), value, ..Any::default() };
    any.write_to_bytes().unwrap()
}

/// A bundle without containerd, with a spec that would do.
fn bundle(h: &Harness, name: &str) -> PathBuf {
    let bundle = h.containerd.dir().join("temp").join(name);
    fs::create_dir_all(bundle.join("rootfs")).unwrap();
    let spec = json!({
        "ociVersion": "1.1.0",
        "process": { "args": ["/bin/true"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        "root": { "path": "rootfs" },
        "linux": { "cgroupsPath": format!("/curfew-test/{}/{name}", h.containerd.namespace()) },
    });
    fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    bundle
}

fn start(h: &Harness, id: &str, bundle: &Path) -> Said {
    Verb::of(&h.containerd, id, bundle, "start").stdin(class_options(h)).run(LIMIT).unwrap()
}

#[track_caller]
fn assert_unknown(shim: &Shim, id: &str) {
    let asked = Instant::now();
    let request = StateRequest { id: id.into(), ..StateRequest::default() };
    let error = RpcError::from(shim.tasks().state(limit(), &request).unwrap_err());
    assert_eq!(error.code, Code::NotFound);
    assert!(asked.elapsed() < STATE_LIMIT);
}

/// What can be wrong with a class file's text, and a word of what is said about it.
fn bad_classes() -> Vec<(String, &'static str)> {
    let timeout = |line: &str| format!("[timeout]\n{line}\n");
    vec![
        ("this is = = no toml".to_owned(), "line 1"),
        ("x".repeat(10 << 20), "longer than"),
        (timeout("defualt = \"1m\""), "defualt"),
        ("[sandbox]\n".to_owned(), "sandbox"),
        (timeout("default = \"-1s\""), "never negative"),
        (timeout("default = \"99999999999999999999h\""), "too long"),
        (timeout("default = \"10 minutes\""), "10 minutes"),
        (timeout("default = \"1e9\""), "1e9"),
        (timeout("max = \"240h\""), "timeout.max"),
        ("[limits]\nshm = \"2Gi\"\n".to_owned(), "limits.shm"),
    ]
}

fn a_class_file_that_is_bad_in_any_way_is_refused_at_start_in_one_line(h: &Harness) {
    let class = h.containerd.class_file();
    let good = fs::read(&class).unwrap();
    let bundle = bundle(h, "bad-class");
    let refused = |words: &str| {
        let line = one_line(&start(h, "bad-class", &bundle));
        assert!(line.contains("curfew.toml") && line.contains(words), "{words}: {line}");
        // And as containerd passes it on, to whoever asked it.
        let error = h.try_create(Spec::sleeper()).unwrap_err();
        assert!(error.message.contains(words), "{words}: {error}");
        no_shim_is_left(h);
    };
    for (text, words) in bad_classes() {
        fs::write(&class, text).unwrap();
        refused(words);
    }
    fs::remove_file(&class).unwrap();
    refused("No such file");
    symlink("nowhere", &class).unwrap();
    refused("No such file");
    fs::remove_file(&class).unwrap();
    fs::create_dir(&class).unwrap();
    refused("not a regular file");
    fs::remove_dir(&class).unwrap();
    fs::write(&class, good).unwrap();
}

fn an_id_that_could_be_a_path_is_refused_at_start_and_at_the_shim(h: &Harness) {
    let bundle = bundle(h, "good");
    let long = "a".repeat(200);
    let bad = ["..", "../x", "a/b", "a..b", &long];
    for id in bad {
        let line = one_line(&start(h, id, &bundle));
        assert!(line.contains("container id"), "{line}");
    }
    let task = h.start(Spec::sleeper());
    let shim = Shim::of(&h.containerd, task.id()).unwrap();
    for id in bad {
        let request = CreateTaskRequest {
            id: id.into(),
            bundle: bundle.display().to_string(),
            ..CreateTaskRequest::default()
        };
        let error = RpcError::from(shim.tasks().create(limit(), &request).unwrap_err());
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
    }
    drop(shim);
    task.kill(harness::Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
}

/// What can be wrong with a spec, and a word of what is said about it.
fn bad_specs() -> [(Option<String>, &'static str); 4] {
    [
        (None, "config.json"),
        (Some(r#"{"process":{"args":["/bin/tr"#.into()), "config.json"),
        (Some(" ".repeat(2 << 20)), "larger than"),
        (Some("[]".into()), "config.json"),
    ]
}

fn write_spec(bundle: &Path, text: Option<&String>) {
    let path = bundle.join("config.json");
    match text {
        Some(text) => fs::write(path, text).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
}

fn a_spec_that_is_missing_cut_or_huge_is_refused_at_start(h: &Harness) {
    for (text, words) in bad_specs() {
        let bundle = bundle(h, "bad");
        write_spec(&bundle, text.as_ref());
        let line = one_line(&start(h, "bad", &bundle));
        assert!(line.contains(words), "{words}: {line}");
    }
}

fn a_spec_that_goes_bad_before_create_is_refused_and_the_shim_goes_on(h: &Harness) {
    let bundle = bundle(h, "later");
    let said = start(h, "later", &bundle);
    assert!(said.status.unwrap().success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.stderr, b"");
    let reply: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(reply["version"], 2);
    let shim = Shim::connect(reply["address"].as_str().unwrap()).unwrap();
    for (text, _) in bad_specs() {
        write_spec(&bundle, text.as_ref());
        let request = CreateTaskRequest {
            id: "later".into(),
            bundle: bundle.display().to_string(),
            ..CreateTaskRequest::default()
        };
        let error = RpcError::from(shim.tasks().create(limit(), &request).unwrap_err());
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
        assert_unknown(&shim, "later");
        write_spec(&bundle, Some(&"{}".to_owned()));
    }
    shim.tasks()
        .shutdown(limit(), &ShutdownRequest { id: "later".into(), ..ShutdownRequest::default() })
        .unwrap();
    // As containerd does once the shim is gone.
    let said = Verb::of(&h.containerd, "later", &bundle, "delete").run(LIMIT).unwrap();
    assert!(said.status.unwrap().success());
}

fn a_stream_that_is_no_fifo_is_refused(h: &Harness) {
    let dir = h.containerd.dir().join("temp");
    fs::write(dir.join("file"), "").unwrap();
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink(dir.join("fifo"), dir.join("link")).unwrap();
    for name in ["", "link", "file", "missing"] {
        let path = dir.join(name).display().to_string();
        let error = h.try_create(Spec::sleeper().stdio(Stdio::Path(path))).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{name}: {error}");
    }
}

fn a_checkpoint_that_is_none_is_refused(h: &Harness) {
    let bundle = bundle(h, "restored");
    let said = start(h, "restored", &bundle);
    let reply: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let shim = Shim::connect(reply["address"].as_str().unwrap()).unwrap();
    let empty = h.containerd.dir().join("temp/empty");
    fs::create_dir(&empty).unwrap();
    for image in [empty.as_path(), Path::new("/nonexistent"), Path::new("relative")] {
        let request = CreateTaskRequest {
            id: "restored".into(),
            bundle: bundle.display().to_string(),
            checkpoint: image.display().to_string(),
            ..CreateTaskRequest::default()
        };
        let error = RpcError::from(shim.tasks().create(limit(), &request).unwrap_err());
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
        assert!(error.message.contains("is no checkpoint"), "{error}");
        assert_unknown(&shim, "restored");
    }
    let shutdown = ShutdownRequest { id: "restored".into(), ..ShutdownRequest::default() };
    shim.tasks().shutdown(limit(), &shutdown).unwrap();
    let said = Verb::of(&h.containerd, "restored", &bundle, "delete").run(LIMIT).unwrap();
    assert!(said.status.unwrap().success());
}

fn a_start_that_meets_a_dead_shims_sandbox_cleans_it_and_keeps_its_lock(h: &Harness) {
    let bundle = bundle(h, "twice");
    let address = |said: &Said| {
        assert!(said.status.unwrap().success(), "{}", String::from_utf8_lossy(&said.stderr));
        let reply: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        reply["address"].as_str().unwrap().to_owned()
    };
    let shims = || shims(h);
    let first = address(&start(h, "twice", &bundle));
    // A second start for the same sandbox joins.
    assert_eq!(address(&start(h, "twice", &bundle)), first);
    assert_eq!(shims().len(), 1);
    shims()[0].signal(harness::Signal::SIGKILL);
    harness::rpc::poll(LIMIT, || shims().is_empty().then_some(())).unwrap();
    let again = address(&start(h, "twice", &bundle));
    // A living shim's sandbox is not touched.
    assert!(
        Verb::of(&h.containerd, "twice", &bundle, "delete").run(LIMIT).unwrap().status.unwrap().success()
    );
    let shim = Shim::connect(&again).unwrap();
    assert_unknown(&shim, "twice");
    shim.tasks()
        .shutdown(limit(), &ShutdownRequest { id: "twice".into(), ..ShutdownRequest::default() })
        .unwrap();
}

fn shims(h: &Harness) -> Vec<Process> {
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid()).into_iter();
    all.filter(|p| p.command.ends_with(" serve")).collect()
}

#[track_caller]
fn no_shim_is_left(h: &Harness) {
    assert!(shims(h).is_empty(), "{:#?}", shims(h));
    let sandboxes = fs::read_dir(h.containerd.state_dir().join("s")).map_or(0, Iterator::count);
    assert_eq!(sandboxes, 0);
}

fn a_start_that_nobody_waits_for_leaves_no_shim(h: &Harness) {
    let bundle = bundle(h, "unheard");
    let start = || Verb::of(&h.containerd, "unheard", &bundle, "start").stdin(class_options(h));
    // A containerd that died before it has said what it wanted.
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    assert_eq!(start().stdout(writer).run(LIMIT).unwrap().status.unwrap().code(), Some(1));
    no_shim_is_left(h);
    // One that dies while the shim starts: the reply waits for room.
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&vec![0; 64 << 10]).unwrap();
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| start().stdout(writer).run(LIMIT).unwrap());
        harness::rpc::poll(LIMIT, || (!shims(h).is_empty()).then_some(())).unwrap();
        drop(reader);
        assert_eq!(starting.join().unwrap().status.unwrap().code(), Some(1));
    });
    no_shim_is_left(h);
}

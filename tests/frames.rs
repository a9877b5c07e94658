//! Bytes that are no requests: the shim drops them or says so, and goes on.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use containerd_shim_protos::{api::StateRequest, protobuf::Message};
use harness::{Harness, Signal, Spec, Status, Task, shim::Shim};
use ttrpc::proto::Request;

harness::on_curfew_alone![
    a_request_cut_at_any_byte_disturbs_nobody,
    random_bytes_disturb_nobody,
    a_frame_of_5_mib_is_refused,
];

/// ttrpc's header: length, stream, type 1 for a request, flags.
fn frame(length: u32, stream: u32, kind: u8) -> Vec<u8> {
    [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0]].concat()
}

/// A State request as containerd sends it.
fn state_request(id: &str) -> Vec<u8> {
    let payload = StateRequest { id: id.into(), ..StateRequest::default() }.write_to_bytes().unwrap();
    let request = Request {
        service: "containerd.task.v2.Task".into(),
        method: "State".into(),
        payload,
        ..Request::default()
    };
    let body = request.write_to_bytes().unwrap();
    [frame(u32::try_from(body.len()).unwrap(), 1, 1), body].concat()
}

fn send(address: &str, bytes: &[u8]) {
    let mut stream = UnixStream::connect(address.trim_start_matches("unix://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    // The shim may hang up on it.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 1024]);
}

fn with_shim(h: &Harness, check: impl FnOnce(&str, &str)) {
    let task = h.start(Spec::sleeper());
    let address = Shim::of(&h.containerd, task.id()).unwrap().address().to_owned();
    check(&address, task.id());
    assert_goes_on(&task);
    task.kill(Signal::SIGKILL).unwrap();
    task.wait().unwrap();
    task.delete().unwrap();
}

#[track_caller]
fn assert_goes_on(task: &Task) {
    let asked = Instant::now();
    assert_eq!(task.state().unwrap().status, Status::Running);
    assert!(asked.elapsed() < Duration::from_secs(2));
}

fn a_request_cut_at_any_byte_disturbs_nobody(h: &Harness) {
    with_shim(h, |address, id| {
        let whole = state_request(id);
        for cut in 0..=whole.len() {
            send(address, &whole[..cut]);
        }
    });
}

fn random_bytes_disturb_nobody(h: &Harness) {
    with_shim(h, |address, id| {
        let whole = state_request(id);
        // A fixed seed: a case that fails fails again.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for case in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..=(random() % 8) {
                let at = usize::try_from(random()).unwrap() % bytes.len();
                bytes[at] = u8::try_from(random() & 0xff).unwrap();
            }
            if case % 3 == 0 {
                bytes.iter_mut().for_each(|byte| *byte = u8::try_from(random() & 0xff).unwrap());
            }
            send(address, &bytes);
        }
    });
}

/// What the only shim has of memory, in KiB.
fn resident(h: &Harness) -> u64 {
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let shim = all.into_iter().find(|process| process.command.ends_with(" serve")).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.pid)).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn a_frame_of_5_mib_is_refused(h: &Harness) {
    with_shim(h, |address, _| {
        let length = 5 << 20;
        let whole = [frame(length, 1, 1), vec![0; usize::try_from(length).unwrap()]].concat();
        let mut stream = UnixStream::connect(address.trim_start_matches("unix://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let written = stream.write_all(&whole);
        // Refused or hung up on, and not kept.
        let answer = stream.read(&mut [0; 1024]);
        let timed_out = answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(written.is_err() || !timed_out, "{written:?}, {answer:?}");
        // Announced, and never sent: nothing is set aside for it.
        let before = resident(h);
        let waiting: Vec<UnixStream> = (0..20)
            .map(|_| {
                let mut stream = UnixStream::connect(address.trim_start_matches("unix://")).unwrap();
                stream.write_all(&frame(u32::MAX, 1, 1)).unwrap();
                stream
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        assert!(resident(h) < before + 1024, "{before} KiB, and then {}", resident(h));
        drop(waiting);
    });
}

//! The host's network: for a pod that asks for it where the node allows it, and for nobody else.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

use harness::{Code, ExecSpec, Harness, Options, Runtime, Signal, Spec, with_options};
use serde_json::{Value, json};

/// Says what the listener at a port of 127.0.0.1 says, or why there is none.
const CONNECT: &str = "
import socket, sys
try:
    print(socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5).makefile().read())
except OSError as e:
    print(e.errno)
";
/// Listens at a port of 127.0.0.1 and greets who comes.
const LISTEN: &str = "
import socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
print('listening', flush=True)
while True:
    listener.accept()[0].sendall(b'from inside')
";

/// Greets who connects, as long as the process lives.
fn greeter() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut peer in listener.incoming().flatten() {
            let _ = peer.write_all(b"from outside");
        }
    });
    port.to_string()
}

/// A port that nobody listens at, which not everybody may.
fn free_low_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (600..1000).find(is_free).unwrap()
}

fn python(script: &str, argument: &str) -> Spec {
    Spec::new(["python3", "-c", script, argument]).image("python")
}

/// As CRI has it for a container of a pod on the host's network.
fn of_pod(spec: Spec, pause: u32) -> Spec {
    spec.container_of("pause", pause).without_network_namespace()
}

fn with_node(permission: &str, test: impl FnOnce(&Harness)) {
    let node = format!("version = 1\n[pod]\nhost_network = {permission:?}\n");
    with_options(Runtime::Curfew, Options { node, ..Options::default() }, test);
}

#[test]
fn a_pod_that_may_have_the_hosts_network_has_it_and_its_neighbour_has_not() {
    let port = greeter();
    with_node("allow", |h| {
        let pause = h.start(Spec::sleeper().sandbox("pause").without_network_namespace());
        let output = h.run(of_pod(python(CONNECT, &port), pause.pid()));
        assert_eq!(output.stdout, "from outside\n", "{}", output.stderr);
        let low = free_low_port();
        let server = h.start(of_pod(python(LISTEN, &low.to_string()), pause.pid()));
        server.wait_for_output("listening");
        let mut peer = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, low)).unwrap();
        assert_eq!(std::io::read_to_string(&mut peer).unwrap_or_default(), "from inside");
        let exec = server.exec(&ExecSpec::new(["python3", "-c", CONNECT, &port])).unwrap();
        exec.start().unwrap();
        exec.wait().unwrap();
        assert_eq!(exec.stdout(), "from outside\n", "{}", exec.stderr());
        exec.delete().unwrap();
        server.kill(Signal::SIGKILL).unwrap();
        server.wait().unwrap();
        server.delete().unwrap();
        // For low ports and interfaces, and to trace the guest; none over files.
        assert_eq!(capabilities_of_sandbox(h) & !(1 << 10 | 1 << 12 | 1 << 13 | 1 << 19), 0);
        // A sandbox beside it, which asks for nothing.
        let output = h.run(python(CONNECT, &port));
        assert_ne!(output.stdout, "from outside\n");
        pause.end().unwrap();
        // One without a pod, and one that names the host's own.
        let output = h.run(python(CONNECT, &port).without_network_namespace());
        assert_eq!(output.stdout, "from outside\n", "{}", output.stderr);
        let output = h.run(python(CONNECT, &port).edit(name_the_hosts));
        assert_eq!(output.stdout, "from outside\n", "{}", output.stderr);
    });
}

/// The effective set of the only sandbox, which is in the host's user namespace.
fn capabilities_of_sandbox(h: &Harness) -> u64 {
    let all = harness::proc::of_test(h.containerd.namespace(), h.containerd.pid());
    let sandbox = all.iter().find(|process| process.command.starts_with("runsc-sandbox")).unwrap();
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_eq!(namespace(&sandbox.pid.to_string()), namespace("self"));
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.pid)).unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap()
}

fn name_the_hosts(json: &mut Value) {
    let namespaces = json["linux"]["namespaces"].as_array_mut().unwrap();
    let network = namespaces.iter_mut().find(|namespace| namespace["type"] == "network").unwrap();
    network["path"] = json!("/proc/self/ns/net");
}

#[test]
fn the_hosts_network_is_refused_by_name_and_by_leaving_it_out() {
    let routes = || fs::read_to_string("/proc/net/route").unwrap();
    let before = routes();
    with_node("refuse", |h| {
        for spec in [Spec::sleeper().without_network_namespace(), Spec::sleeper().edit(name_the_hosts)] {
            let error = h.try_create(spec).unwrap_err();
            assert_eq!(error.code, Code::FailedPrecondition, "{error}");
            assert!(error.message.contains("pod.host_network"), "{error}");
        }
    });
    assert_eq!(routes(), before);
}

#[test]
fn no_class_allows_what_the_node_refuses() {
    let options = Options { class: "[pod]\nhost_network = \"allow\"\n".into(), ..Options::default() };
    with_options(Runtime::Curfew, options, |h| {
        let error = h.try_create(Spec::sleeper().without_network_namespace()).unwrap_err();
        assert!(error.message.contains("pod.host_network"), "{error}");
    });
}

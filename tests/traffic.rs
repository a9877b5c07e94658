//! Network traffic in Stats, with an interface as a pod's: one end of a pair, the other with a kernel of its own behind it.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(clippy::disallowed_methods, reason = "the network of the test's own")]

use std::{process::Command, time::Duration};

use containerd_shim_protos::{cgroups::metrics as v1, cgroups_v2::metrics as v2, protobuf::Message};
use harness::{ExecSpec, Harness, Options, Runtime, Spec, Task, rpc::poll, with_options};
use serde_json::{Value, json};

harness::on_curfew_alone![stats_count_the_bytes_of_the_pods_interface];

const UID: &str = "0f5c2c7e-1111-4222-8333-94f5d8c1a003";
/// Nobody listens there; that a kernel answers is enough. Twenty SYNs and twenty RSTs, of 54 bytes at least.
const TALK: &str = "i=0; while [ $i -lt 20 ]; do nc -w 2 10.91.7.1 9; i=$((i+1)); done";

/// Two network namespaces with a wire between them, gone at the end.
struct Wire {
    names: [String; 2],
}

impl Wire {
    fn new(of: &str) -> Self {
        let wire = Self { names: [format!("{of}-near"), format!("{of}-far")] };
        let [near, far] = &wire.names;
        ip(&["netns", "add", near]);
        ip(&["netns", "add", far]);
        ip(&["link", "add", "eth0", "netns", near, "type", "veth", "peer", "name", "eth1", "netns", far]);
        for (name, interface, address) in [(near, "eth0", "10.91.7.2/24"), (far, "eth1", "10.91.7.1/24")] {
            // No IPv6, which talks by itself.
            ip(&["-n", name, "link", "set", "dev", interface, "addrgenmode", "none"]);
            ip(&["-n", name, "address", "add", address, "dev", interface]);
            ip(&["-n", name, "link", "set", interface, "up"]);
        }
        wire
    }

    /// Has a sandbox get the near end.
    fn network_of(&self, sandbox: Spec) -> Spec {
        let path = format!("/run/netns/{}", self.names[0]);
        sandbox.edit(|spec| {
            for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
                if namespace["type"] == "network" {
                    *namespace = json!({ "type": "network", "path": path });
                }
            }
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

/// Name and bytes, received and sent, of each interface.
fn traffic(task: &Task) -> Vec<(String, u64, u64)> {
    let stats = task.metrics().unwrap();
    if stats.type_url.contains("v1") {
        let metrics = v1::Metrics::parse_from_bytes(&stats.value).unwrap();
        metrics.network.into_iter().map(|one| (one.name, one.rx_bytes, one.tx_bytes)).collect()
    } else {
        let metrics = v2::Metrics::parse_from_bytes(&stats.value).unwrap();
        metrics.network.into_iter().map(|one| (one.name, one.rx_bytes, one.tx_bytes)).collect()
    }
}

fn stats_count_the_bytes_of_the_pods_interface(h: &Harness) {
    let wire = Wire::new(h.containerd.namespace());
    let task = h.start(wire.network_of(Spec::sleeper()));
    let before = traffic(&task);
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(before[0].0, "eth0");
    let exec = task.exec(&ExecSpec::new(["sh", "-c", TALK])).unwrap();
    exec.start().unwrap();
    exec.wait().unwrap();
    exec.delete().unwrap();
    poll(Duration::from_secs(2), || {
        let after = traffic(&task);
        let grew = |after: u64, before: u64| (1000..100_000).contains(&(after - before));
        (grew(after[0].1, before[0].1) && grew(after[0].2, before[0].2)).then_some(())
    })
    .unwrap();
    task.end().unwrap();
}

/// The processes that the figures are read of are gone by the time that the message is written.
#[test]
fn the_message_of_a_pod_whose_time_is_up_counts_the_bytes_of_its_interface() {
    let node = "version = 1\n[pod]\nhost_path = \"allow\"\n".into();
    with_options(Runtime::Curfew, Options { node, ..Options::default() }, |h| {
        let wire = Wire::new(h.containerd.namespace());
        let pause = Spec::sleeper()
            .sandbox("pause")
            .annotation("io.kubernetes.cri.sandbox-uid", UID)
            .annotation("curfew.dev/timeout", "8s")
            .annotation("curfew.dev/grace", "0s");
        let pause = h.start(wire.network_of(pause));
        let log = h.termination_log(UID, "workload");
        let talker = Spec::new(["sh", "-c", &format!("{TALK}; sleep 1000")]);
        let talker = talker.id("workload").bind(&log, "/dev/termination-log", &["rw"]);
        let workload = h.start(talker.container_of("pause", pause.pid()));
        assert_eq!(workload.wait_for(Duration::from_secs(60)).unwrap().status, 124);
        let message: Value = serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
        for direction in ["rx_bytes", "tx_bytes"] {
            let bytes = message[direction].as_u64();
            assert!(bytes.is_some_and(|bytes| (300..100_000).contains(&bytes)), "{message}");
        }
        pause.wait_for(Duration::from_secs(20)).unwrap();
        for task in [workload, pause] {
            task.delete().unwrap();
        }
    });
}

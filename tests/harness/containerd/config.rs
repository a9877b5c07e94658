//! The two files of a private containerd: its own and the class's.

use std::fmt::Write;
use std::path::Path;

use toml::{Table, Value};

use crate::version;

use super::Options;

/// Plugins that no test uses and whose start costs time or needs the machine's own files.
const UNUSED: [&str; 19] = [
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.differ.v1.erofs",
    "io.containerd.grpc.v1.cri",
    "io.containerd.image-verifier.v1.bindir",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.monitor.container.v1.restart",
    "io.containerd.mount-handler.v1.erofs",
    "io.containerd.nri.v1.nri",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.sandbox.controller.v1.podsandbox",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

/// containerd's configuration: everything below `dir`, nothing of the machine's. It hears events at the socket of
/// that name.
pub(super) fn containerd(dir: &Path, options: &Options, events: &str) -> String {
    let dir = dir.display();
    let new = !options.version.starts_with("1.");
    let file_version = if new { 3 } else { 2 };
    let unused = UNUSED.map(|plugin| format!("{plugin:?}")).join(", ");
    let mut text = format!(
        "version = {file_version}\n\
         root = \"{dir}/root\"\nstate = \"{dir}/state\"\ntemp = \"{dir}/temp\"\n\
         disabled_plugins = [{unused}]\n\
         [grpc]\naddress = \"{dir}/c.sock\"\n\
         [ttrpc]\naddress = \"{dir}/{events}\"\n\
         [debug]\nlevel = {:?}\n",
        if options.debug { "debug" } else { "info" },
    );
    if new {
        // Nothing here must survive a loss of power.
        text.push_str("[plugins.\"io.containerd.metadata.v1.bolt\"]\nno_sync = true\n");
    }
    if knows_socket_dir(&options.version) {
        let manager = "[plugins.\"io.containerd.shim.v1.manager\"]";
        let _ = writeln!(text, "{manager}\nsocket_dir = \"{dir}/s\"");
    }
    text.push_str(&options.config);
    text
}

/// From 2.3 on, containerd tells shims where their sockets go.
fn knows_socket_dir(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse().ok());
    (parts.next(), parts.next()) >= (Some(2_u32), Some(3_u32))
}

/// The class file: state below `dir`, the pinned runsc, and the test's own keys merged over that.
pub(super) fn class(dir: &Path, options: &Options) -> String {
    let dir = dir.display();
    let base = format!(
        "version = 1\n\
         [state]\ndir = \"{dir}/run\"\nledger = \"{dir}/ledger\"\n\
         [runsc]\npath = {:?}\n",
        version::runsc(),
    );
    let mut table = parse(&base);
    merge(&mut table, parse(&options.class));
    table.to_string()
}

fn parse(text: &str) -> Table {
    text.parse().unwrap_or_else(|error| panic!("the test's class file is no TOML: {error}\n{text}"))
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

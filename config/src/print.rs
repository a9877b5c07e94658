//! A policy as the file that makes it.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use crate::policy::{
    Annotations, Calls, Capabilities, Checkpoint, CpuBudget, Exec, Idle, Limits, Mounts, NodePolicy, Pod,
    Protocol, Runsc, Seccomp, State, Termination, Timeout,
};
use crate::units::{
    format_duration,
    quantity::{format_cpu, format_size},
};
use crate::value::OFF;

/// The version of the format that is written.
const VERSION: &str = "version = 1\n";

impl NodePolicy {
    /// Writes the policy as a configuration file with every key; loaded as the only file, it makes this policy again.
    ///
    /// A key without a value of its own (`runsc.path`, `limits.log_size`, `checkpoint.dir`) is left out where it has none.
    pub fn to_toml(&self) -> String {
        // Taken apart by name here and below: a key that is added and not written doesn't compile.
        let Self {
            runsc,
            state,
            protocol,
            timeout,
            checkpoint,
            idle,
            cpu_budget,
            exec,
            termination,
            limits,
            pod,
            capabilities,
            annotations,
            mounts,
            seccomp,
            calls,
        } = self;
        let mut out = Printer(VERSION.to_owned());
        runsc.print(&mut out);
        state.print(&mut out);
        protocol.print(&mut out);
        timeout.print(&mut out);
        checkpoint.print(&mut out);
        idle.print(&mut out);
        cpu_budget.print(&mut out);
        exec.print(&mut out);
        termination.print(&mut out);
        limits.print(&mut out);
        pod.print(&mut out);
        capabilities.print(&mut out);
        annotations.print(&mut out);
        mounts.print(&mut out);
        seccomp.print(&mut out);
        calls.print(&mut out);
        out.0
    }
}

/// What has been written so far.
struct Printer(String);

impl Printer {
    fn section(&mut self, name: &str) {
        self.0.push_str(&format!("\n[{name}]\n"));
    }

    fn value(&mut self, key: &str, value: impl Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn text(&mut self, key: &str, text: impl Into<String>) {
        self.value(key, Value::String(text.into()));
    }

    fn duration(&mut self, key: &str, duration: Duration) {
        self.text(key, format_duration(duration));
    }

    fn off_or_duration(&mut self, key: &str, limit: Option<Duration>) {
        self.text(key, limit.map_or_else(|| OFF.to_owned(), format_duration));
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.value(key, shown(path));
    }

    fn list(&mut self, key: &str, values: impl Iterator<Item = Value>) {
        self.value(key, Value::Array(values.collect()));
    }
}

/// Paths of a policy come from TOML, which is UTF-8.
fn shown(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

trait Print {
    fn print(&self, out: &mut Printer);
}

impl Print for Runsc {
    fn print(&self, out: &mut Printer) {
        let Self { path, platform, network, overlay2, directfs, flags, debug, debug_dir } = self;
        out.section("runsc");
        if let Some(path) = path {
            out.path("path", path);
        }
        out.text("platform", platform.as_str());
        out.text("network", network.as_str());
        out.text("overlay2", overlay2);
        out.value("directfs", directfs);
        let flags = flags.iter().map(|(name, value)| (name.clone(), Value::String(value.clone())));
        out.value("flags", Value::Table(flags.collect::<Table>()));
        out.value("debug", debug);
        out.path("debug_dir", debug_dir);
    }
}

impl Print for State {
    fn print(&self, out: &mut Printer) {
        let Self { dir, ledger, retention } = self;
        out.section("state");
        out.path("dir", dir);
        out.path("ledger", ledger);
        out.duration("retention", *retention);
    }
}

impl Print for Protocol {
    fn print(&self, out: &mut Printer) {
        let Self { version } = self;
        out.section("protocol");
        out.value("version", version);
    }
}

impl Print for Timeout {
    fn print(&self, out: &mut Printer) {
        let Self { default, max, raise, grace, max_grace, startup, on_shim_loss, on_timeout, expose } = self;
        out.section("timeout");
        out.duration("default", *default);
        out.duration("max", *max);
        out.value("raise", raise);
        out.duration("grace", *grace);
        out.duration("max_grace", *max_grace);
        out.duration("startup", *startup);
        out.text("on_shim_loss", on_shim_loss.as_str());
        out.text("on_timeout", on_timeout.as_str());
        out.value("expose", expose);
    }
}

impl Print for Checkpoint {
    fn print(&self, out: &mut Printer) {
        let Self { dir, max_size } = self;
        out.section("checkpoint");
        if let Some(dir) = dir {
            out.path("dir", dir);
        }
        out.text("max_size", format_size(*max_size));
    }
}

impl Print for Idle {
    fn print(&self, out: &mut Printer) {
        let Self { timeout, max, cpu, execs, stdin, network } = self;
        out.section("idle");
        out.off_or_duration("timeout", *timeout);
        out.duration("max", *max);
        out.text("cpu", format_cpu(*cpu));
        out.value("execs", execs);
        out.value("stdin", stdin);
        out.value("network", network);
    }
}

impl Print for CpuBudget {
    fn print(&self, out: &mut Printer) {
        let Self { default, max } = self;
        out.section("cpu_budget");
        out.off_or_duration("default", *default);
        out.duration("max", *max);
    }
}

impl Print for Exec {
    fn print(&self, out: &mut Printer) {
        let Self { timeout, max } = self;
        out.section("exec");
        out.off_or_duration("timeout", *timeout);
        out.duration("max", *max);
    }
}

impl Print for Termination {
    fn print(&self, out: &mut Printer) {
        let Self { receipts } = self;
        out.section("termination");
        out.value("receipts", receipts);
    }
}

impl Print for Limits {
    fn print(&self, out: &mut Printer) {
        let Self { memory, cpu, pids, shm, shm_default, log_size } = self;
        out.section("limits");
        out.text("memory", format_size(*memory));
        out.text("cpu", format_cpu(*cpu));
        out.value("pids", pids);
        out.text("shm", format_size(*shm));
        out.text("shm_default", format_size(*shm_default));
        if let Some(log_size) = log_size {
            out.text("log_size", format_size(*log_size));
        }
    }
}

impl Print for Pod {
    fn print(&self, out: &mut Printer) {
        let Self { host_network, host_namespaces, privileged, host_path, hooks, no_new_privs, binary_logger } =
            self;
        out.section("pod");
        out.text("host_network", host_network.as_str());
        out.text("host_namespaces", host_namespaces.as_str());
        out.text("privileged", privileged.as_str());
        out.text("host_path", host_path.as_str());
        out.text("hooks", hooks.as_str());
        out.text("no_new_privs", no_new_privs.as_str());
        out.value("binary_logger", binary_logger);
    }
}

impl Print for Capabilities {
    fn print(&self, out: &mut Printer) {
        let Self { ceiling } = self;
        out.section("capabilities");
        out.list("ceiling", ceiling.iter().cloned().map(Value::String));
    }
}

impl Print for Annotations {
    fn print(&self, out: &mut Printer) {
        let Self { allow } = self;
        out.section("annotations");
        out.list("allow", allow.iter().cloned().map(Value::String));
    }
}

impl Print for Mounts {
    fn print(&self, out: &mut Printer) {
        let Self { kubelet, containerd } = self;
        out.section("mounts");
        out.path("kubelet", kubelet);
        out.list("containerd", containerd.iter().map(|dir| shown(dir)));
    }
}

impl Print for Seccomp {
    fn print(&self, out: &mut Printer) {
        let Self { outer, io_uring, guest } = self;
        out.section("seccomp");
        out.text("outer", outer.as_str());
        out.value("io_uring", io_uring);
        out.text("guest", guest.as_str());
    }
}

impl Print for Calls {
    fn print(&self, out: &mut Printer) {
        let Self { create, start, signal, delete, probe, checkpoint, state } = self;
        out.section("calls");
        out.duration("create", *create);
        out.duration("start", *start);
        out.duration("signal", *signal);
        out.duration("delete", *delete);
        out.duration("probe", *probe);
        out.duration("checkpoint", *checkpoint);
        out.duration("state", *state);
    }
}

//! The sections about limits that are off unless somebody sets them: `[idle]`, `[cpu_budget]` and `[exec]`.

use std::time::Duration;

use super::{Reader, confinement::cpu, period};
use crate::{
    error::{ConfigError, Fault},
    file,
    policy::{CpuBudget, Exec, Idle},
};

/// How a limit that isn't there is written. A duration of zero would read as "at once".
pub(crate) const OFF: &str = "off";

impl Reader<'_> {
    pub(super) fn idle(&self, file: file::Idle) -> Result<Idle, ConfigError> {
        let built_in = Idle::default();
        Ok(Idle {
            timeout: self.take("idle.timeout", file.timeout, built_in.timeout, off_or_period)?,
            max: self.take("idle.max", file.max, built_in.max, period)?,
            cpu: self.take("idle.cpu", file.cpu, built_in.cpu, cpu)?,
            execs: file.execs.unwrap_or(built_in.execs),
            stdin: file.stdin.unwrap_or(built_in.stdin),
            network: file.network.unwrap_or(built_in.network),
        })
    }

    pub(super) fn cpu_budget(&self, file: file::CpuBudget) -> Result<CpuBudget, ConfigError> {
        let built_in = CpuBudget::default();
        Ok(CpuBudget {
            default: self.take("cpu_budget.default", file.default, built_in.default, off_or_period)?,
            max: self.take("cpu_budget.max", file.max, built_in.max, period)?,
        })
    }

    pub(super) fn exec(&self, file: file::Exec) -> Result<Exec, ConfigError> {
        let built_in = Exec::default();
        Ok(Exec {
            timeout: self.take("exec.timeout", file.timeout, built_in.timeout, off_or_period)?,
            max: self.take("exec.max", file.max, built_in.max, period)?,
        })
    }
}

fn off_or_period(text: &str) -> Result<Option<Duration>, Fault> {
    match text {
        OFF => Ok(None),
        _ => period(text).map(Some),
    }
}

//! The operator's tool as a program; the library has all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    curfew_shim::ctl::main()
}

//! The short-lived actions: `start`, `delete`, `-info`, `-v`.

mod daemon;
mod delete;
mod info;
mod start;

pub(crate) use daemon::{inherited, standard_input_alone};
pub(crate) use delete::{clean_pod, delete};
pub(crate) use info::{info, version};
pub(crate) use start::start;

use std::io::{self, Read};

/// The largest standard input containerd could send: its own messages are bounded at this.
const LARGEST_STDIN: u64 = 4 << 20;

fn read_stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(LARGEST_STDIN).read_to_end(&mut bytes)?;
    Ok(bytes)
}

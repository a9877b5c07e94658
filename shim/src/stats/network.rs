//! Network traffic, as the interfaces of a process's network namespace count it.

use std::fs;

use crate::process::{PidFd, ProcessName};

/// What went through one interface since it was made. A packet counts as received where the pod receives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
}

/// One direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

/// The interfaces where the process `name` is, without the loopback; none once `process`, which is the same, has ended.
pub(crate) fn read(name: ProcessName, process: &PidFd) -> Vec<Interface> {
    let text = fs::read_to_string(format!("/proc/{}/net/dev", name.pid)).unwrap_or_default();
    // The number may be another process's by now, with another network.
    if process.has_ended() { Vec::new() } else { text.lines().filter_map(parse).collect() }
}

/// A line of net/dev (proc_net(5)): the name, then eight numbers for each direction. The two of the heading have no colon
/// or no numbers.
fn parse(line: &str) -> Option<Interface> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers.split_ascii_whitespace().map_while(|text| text.parse().ok()).collect();
    let of = |direction: &[u64]| match direction {
        [bytes, packets, errors, dropped, ..] => {
            Some(Traffic { bytes: *bytes, packets: *packets, errors: *errors, dropped: *dropped })
        }
        _ => None,
    };
    let name = name.trim();
    if name == "lo" {
        return None;
    }
    Some(Interface { name: name.to_owned(), received: of(&numbers)?, sent: of(numbers.get(8..)?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_without_its_heading_and_the_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0\n  \
                    eth0: 1 2 3 4 5 6 7 8 11 12 13 14 15 16 17 18\n  \
                    bad: 1 2 3\n";
        let found: Vec<_> = text.lines().filter_map(parse).collect();
        let received = Traffic { bytes: 1, packets: 2, errors: 3, dropped: 4 };
        let sent = Traffic { bytes: 11, packets: 12, errors: 13, dropped: 14 };
        assert_eq!(found, [Interface { name: "eth0".to_owned(), received, sent }]);
    }
}

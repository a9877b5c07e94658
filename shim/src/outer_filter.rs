//! The outer filter: system calls that nothing of ours and nothing of runsc makes, denied to the shim and to all that it
//! starts.
//!
//! It protects what runs before and beside runsc's own filters, which are much tighter: the shim, the runsc commands, a
//! sentry and a gofer while they start, and a sandbox whose own filters were turned off. It denies by number alone and with
//! an error. A KILL would outrank the traps by which the sandbox runs its guest's system calls, in processes that inherit
//! this filter, so a guest that only tried one of them would die.

mod denied;

#[cfg(test)]
mod tests;

use curfew_config::{OuterFilter, Seccomp};
use seccompiler::{BpfProgram, apply_filter, sock_filter};
use thiserror::Error;

use self::denied::{DENIED, IO_URING};

/// Loads of `struct seccomp_data`: the call's number and the architecture it was made for.
const LOAD: u16 = 0x20;
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

const X86_64: u32 = 0xc000_003e;
/// Calls of the x32 kind have this bit: other numbers for the same calls.
const X32: u32 = 0x4000_0000;

const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const ERRNO: u32 = 0x0005_0000;

/// The filter cannot be installed.
#[derive(Debug, Error)]
#[error("installing the outer seccomp filter: {0}")]
pub(crate) struct FilterError(String);

/// Installs the filter that `policy` asks for on this thread, and so on all that it starts. To be called while there is no
/// other.
///
/// # Errors
/// The kernel refuses it.
pub(crate) fn install(policy: &Seccomp) -> Result<(), FilterError> {
    let Some(program) = program(policy) else { return Ok(()) };
    apply_filter(&program).map_err(|error| FilterError(error.to_string()))
}

/// The filter's program; `None` for no filter.
fn program(policy: &Seccomp) -> Option<BpfProgram> {
    let action = match policy.outer {
        OuterFilter::Enforce => ERRNO | libc::EPERM.unsigned_abs(),
        OuterFilter::Log => LOG,
        OuterFilter::Off => return None,
    };
    let rings = if policy.io_uring { &[][..] } else { IO_URING };
    let numbers: Vec<u32> =
        DENIED.iter().chain(rings).filter_map(|call| u32::try_from(call.number).ok()).collect();
    Some(denying(&numbers, action))
}

/// A program that finds a number by halves: a guest's every system call traps in a process that has this filter, and where
/// another filter traps, the kernel runs all of them.
fn denying(numbers: &[u32], action: u32) -> BpfProgram {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    // Where allowed turns to denied, and back, and so on: denied above an odd count of them.
    let mut turns: Vec<u32> = Vec::new();
    for number in numbers {
        if turns.last() == Some(&number) {
            turns.pop();
        } else {
            turns.push(number);
        }
        turns.push(number + 1);
    }
    turns.push(X32);
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        // Another architecture's numbers mean other calls.
        jump(JUMP_IF_EQUAL, X86_64, 0, 0),
        statement(LOAD, NUMBER),
    ];
    // The returns are the last two: allow, then deny.
    let (allow, deny) = (program.len() + turns.len(), program.len() + turns.len() + 1);
    program[1].jf = distance(1, deny);
    search(&mut program, &turns, 0, [allow, deny]);
    program.push(statement(RETURN, ALLOW));
    program.push(statement(RETURN, action));
    program
}

/// Appends one comparison for each of `turns`, of which `below` are less than any of these: the middle one first, then what
/// is below it, then what is above it.
fn search(program: &mut BpfProgram, turns: &[u32], below: usize, returns: [usize; 2]) {
    let middle = turns.len() / 2;
    let Some(turn) = turns.get(middle) else { return };
    let at = program.len();
    let (lower, upper) = (&turns[..middle], &turns[middle + 1..]);
    // Without anything left to compare with, the count says it.
    let next = |turns: &[u32], below: usize, place: usize| match turns {
        [] => returns[below % 2],
        _ => place,
    };
    let to_lower = next(lower, below, at + 1);
    let to_upper = next(upper, below + middle + 1, at + 1 + lower.len());
    program.push(jump(JUMP_IF_AT_LEAST, *turn, distance(at, to_upper), distance(at, to_lower)));
    search(program, lower, below, returns);
    search(program, upper, below + middle + 1, returns);
}

/// From the instruction after `from` to `to`. A test says that every one of them fits.
fn distance(from: usize, to: usize) -> u8 {
    u8::try_from(to - from - 1).unwrap_or(u8::MAX)
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

use std::collections::BTreeSet;

use super::*;

const I386: u32 = 0x4000_0003;

/// What the kernel does with a program, for the instructions that ours has.
fn run(program: &[sock_filter], number: u32, architecture: u32) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let step = &program[at];
        at += 1;
        match step.code {
            LOAD => accumulator = if step.k == NUMBER { number } else { architecture },
            JUMP_IF_EQUAL => at += usize::from(if accumulator == step.k { step.jt } else { step.jf }),
            JUMP_IF_AT_LEAST => at += usize::from(if accumulator >= step.k { step.jt } else { step.jf }),
            RETURN => return step.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn numbers(rings: bool) -> BTreeSet<u32> {
    let rings = if rings { IO_URING } else { &[] };
    DENIED.iter().chain(rings).map(|call| u32::try_from(call.number).unwrap()).collect()
}

#[test]
fn every_call_is_denied_or_allowed_as_the_list_says() {
    for (outer, action) in [(OuterFilter::Enforce, ERRNO | 1), (OuterFilter::Log, LOG)] {
        for io_uring in [false, true] {
            let program = program(&Seccomp { outer, io_uring, ..Seccomp::default() }).unwrap();
            let denied = numbers(!io_uring);
            for number in 0..1024 {
                let expected = if denied.contains(&number) { action } else { ALLOW };
                assert_eq!(run(&program, number, X86_64), expected, "{number}");
                assert_eq!(run(&program, number | X32, X86_64), action, "x32 {number}");
                assert_eq!(run(&program, number, I386), action, "i386 {number}");
            }
        }
    }
    assert!(program(&Seccomp { outer: OuterFilter::Off, ..Seccomp::default() }).is_none());
}

#[test]
fn the_list_has_each_call_once_with_a_reason_and_none_that_a_sandbox_needs() {
    assert_eq!(numbers(true).len(), DENIED.len() + IO_URING.len());
    assert!(DENIED.iter().chain(IO_URING).all(|call| !call.does.is_empty()));
    for needed in [
        libc::SYS_ptrace,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_setns,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_seccomp,
        libc::SYS_capset,
        libc::SYS_prctl,
        libc::SYS_memfd_create,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        libc::SYS_membarrier,
        libc::SYS_mincore,
        libc::SYS_setpriority,
        libc::SYS_splice,
    ] {
        assert!(!numbers(true).contains(&u32::try_from(needed).unwrap()), "{needed}");
    }
}

#[test]
fn it_is_short_enough_for_one_jump() {
    let program = program(&Seccomp::default()).unwrap();
    assert!(program.len() < 110, "{}", program.len());
}

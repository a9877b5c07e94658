use std::{
    collections::BTreeSet,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use super::*;

const I386: u32 = 0x4000_0003;

/// What the kernel does with a program, for the instructions that ours has.
fn run(program: &[sock_filter], number: u32, architecture: u32) -> u32 {
    run_counting(program, number, architecture, &mut 0)
}

/// The same; adds the instructions that it takes to `taken`.
fn run_counting(program: &[sock_filter], number: u32, architecture: u32, taken: &mut usize) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let step = &program[at];
        at += 1;
        *taken += 1;
        match step.code {
            LOAD => accumulator = if step.k == NUMBER { number } else { architecture },
            JUMP_IF_EQUAL => at += usize::from(if accumulator == step.k { step.jt } else { step.jf }),
            JUMP_IF_AT_LEAST => at += usize::from(if accumulator >= step.k { step.jt } else { step.jf }),
            RETURN => return step.k,
            // An unconditional jump, which the library's have.
            0x05 => at += usize::try_from(step.k).unwrap(),
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
fn it_is_short_enough_for_one_jump_and_a_call_is_looked_up_in_a_few_steps() {
    let program = program(&Seccomp::default()).unwrap();
    // Distances have eight bits.
    assert!(program.len() < 250, "{}", program.len());
    let steps = |number| {
        let mut taken = 0;
        run_counting(&program, number, X86_64, &mut taken);
        taken
    };
    let most = (0..1024).map(steps).max().unwrap();
    assert!(most <= 12, "{most} of {}", program.len());
}

/// The same list as the library compiles it, one comparison after the other.
#[test]
fn it_decides_as_the_library_does() {
    use seccompiler::{SeccompAction, SeccompFilter, TargetArch};
    let rules = numbers(true).into_iter().map(|number| (i64::from(number), Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, TargetArch::x86_64).unwrap();
    let theirs = BpfProgram::try_from(filter).unwrap();
    let ours = program(&Seccomp::default()).unwrap();
    for number in 0..1024 {
        assert_eq!(run(&ours, number, X86_64), run(&theirs, number, X86_64), "{number}");
    }
}

/// The least time of so many system calls, in a thread that has these filters; batches of all take turns.
const CALLS: usize = 200;
const ROUNDS: usize = 10_000;

fn times<const N: usize>(filters: [Vec<BpfProgram>; N]) -> [Duration; N] {
    let turn = Mutex::new(());
    thread::scope(|scope| {
        let threads = filters.map(|filters| {
            let turn = &turn;
            scope.spawn(move || {
                filters.iter().for_each(|filter| apply_filter(filter).unwrap());
                let mut best = Duration::MAX;
                for _ in 0..ROUNDS {
                    let mine = turn.lock().unwrap();
                    let start = Instant::now();
                    for _ in 0..CALLS {
                        std::hint::black_box(rustix::process::getppid());
                    }
                    best = best.min(start.elapsed());
                    drop(mine);
                    thread::yield_now();
                }
                best
            })
        });
        threads.map(|thread| thread.join().unwrap())
    })
}

/// A guest's call costs the host one that runs every filter, where it traps: what a sandbox's threads do then is allowed by
/// all of them, which the kernel remembers (Linux 5.11). Twelve hundredths of a plain call of the host are at most two of
/// the guest's, which takes more than six times as long (`tests/filter_cost.rs`).
#[test]
fn it_costs_a_call_that_another_filter_denies_next_to_nothing() {
    let number = u32::try_from(libc::SYS_getppid).unwrap();
    // Not the program's, so never remembered. It answers 0.
    let denied = || {
        vec![
            statement(LOAD, NUMBER),
            jump(JUMP_IF_EQUAL, number, 0, 1),
            statement(RETURN, ERRNO),
            statement(RETURN, ALLOW),
        ]
    };
    let ours = program(&Seccomp::default()).unwrap();
    let measured: Vec<[Duration; 3]> =
        (0..3).map(|_| times([vec![], vec![denied()], vec![ours.clone(), denied()]])).collect();
    // A processor that somebody else uses too makes one thread slower than the others, for as long as it takes.
    let is_cheap =
        |[plain, without, with]: &[Duration; 3]| with.saturating_sub(*without) <= *plain * 12 / 100;
    assert!(measured.iter().any(is_cheap), "without any filter, with one, with ours too: {measured:?}");
}

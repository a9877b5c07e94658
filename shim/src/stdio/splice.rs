//! From an exec's pipe to containerd's FIFO without a copy: the pages themselves move.

use std::{io, os::fd::AsFd};

use nix::poll::PollFlags;
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};
use tokio::{io::Interest, sync::watch};

use super::drain::Drain;
use crate::{readiness::readiness, watched::Watched};

/// What a pipe holds while its output is on its way: writer and reader then change turns less often. The kernel takes
/// memory for what is in it only. This is the most that it gives without asking for more.
const CAPACITY: usize = 1 << 20;

/// How far one step came.
#[derive(Clone, Copy)]
enum Step {
    Moved(usize),
    SinkFull,
    SourceEmpty,
    Ended,
}

/// Lets a pipe hold more. Best effort: it is a matter of speed.
pub(super) fn widen(pipe: impl AsFd) {
    let _ = fcntl_setpipe_size(pipe, CAPACITY);
}

/// Moves what is in `source` to `sink`, both of them pipes, until the source ends, or `ended` says true and what the
/// source held then has been moved.
pub(super) async fn splice_all(source: &Watched, sink: &Watched, ended: watch::Receiver<bool>) {
    let mut drain = Drain::new(ended);
    loop {
        let rest = drain.rest(source);
        let step = match rest {
            Some(0) => return,
            Some(rest) => step(source.get_ref(), sink.get_ref(), rest),
            None => watched_step(source, sink),
        };
        let go_on = match step {
            Step::SinkFull if !has_room(sink) => drain.writable(sink).await.is_ok(),
            // A fast writer with a fast reader must not keep the pod's requests waiting.
            Step::Moved(_) | Step::SinkFull => {
                tokio::task::yield_now().await;
                true
            }
            Step::SourceEmpty if rest.is_some() => false,
            Step::SourceEmpty => drain.readable(source).await,
            Step::Ended => false,
        };
        if let Step::Moved(count) = step {
            drain.took(count);
        }
        if !go_on {
            return;
        }
    }
}

/// Moves what is there at this moment, `most` bytes of it.
fn step(source: impl AsFd, sink: impl AsFd, most: usize) -> Step {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    match splice(&source, None, sink, None, most.min(CAPACITY), flags) {
        Ok(count @ 1..) => Step::Moved(count),
        // A full sink is looked at first, so this says nothing of the source.
        Err(rustix::io::Errno::AGAIN) => match readiness(source) {
            events if events.contains(PollFlags::POLLIN) => Step::SinkFull,
            events if events.contains(PollFlags::POLLHUP) => Step::Ended,
            _ => Step::SourceEmpty,
        },
        Ok(0) | Err(_) => Step::Ended,
    }
}

/// A step that tells the runtime if there was nothing, so that it says when there is.
fn watched_step(source: &Watched, sink: &Watched) -> Step {
    let step = source.try_io(Interest::READABLE, |source| match step(source, sink.get_ref(), CAPACITY) {
        Step::SourceEmpty => Err(io::ErrorKind::WouldBlock.into()),
        step @ (Step::Moved(_) | Step::SinkFull | Step::Ended) => Ok(step),
    });
    step.unwrap_or(Step::SourceEmpty)
}

/// Whether a full pipe has been read from by now; if it hasn't, the runtime will say when it is.
fn has_room(sink: &Watched) -> bool {
    let room = sink.try_io(Interest::WRITABLE, |sink| {
        let has_room = readiness(sink).contains(PollFlags::POLLOUT);
        if has_room { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    });
    room.is_ok()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
        os::fd::OwnedFd,
        time::Duration,
    };

    use nix::{fcntl::OFlag, unistd::pipe2};

    use super::*;
    use crate::watched::watch as watched;

    fn pipes() -> (Watched, File, Watched, File) {
        let ours = |fd: OwnedFd| {
            rustix::io::ioctl_fionbio(&fd, true).unwrap();
            watched(fd).unwrap()
        };
        let (source, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (reader, sink) = pipe2(OFlag::O_CLOEXEC).unwrap();
        (ours(source), writer.into(), ours(sink), reader.into())
    }

    #[tokio::test]
    async fn everything_arrives_in_order_whatever_its_pieces() {
        let (source, mut writer, sink, mut reader) = pipes();
        let (_keep, ended) = watch::channel(false);
        let expected: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
        let data = expected.clone();
        let writing = std::thread::spawn(move || {
            let mut rest = &data[..];
            for size in (1..5000).cycle() {
                let piece = size.min(rest.len());
                writer.write_all(&rest[..piece]).unwrap();
                rest = &rest[piece..];
                if rest.is_empty() {
                    return;
                }
            }
        });
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            let mut buffer = [0; 777];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                all.extend_from_slice(&buffer[..count]);
                if all.len() % 64 == 0 {
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
            all
        });
        splice_all(&source, &sink, ended).await;
        drop(sink);
        writing.join().unwrap();
        assert!(reading.join().unwrap() == expected);
    }

    #[tokio::test]
    async fn what_is_there_at_the_end_is_moved_though_a_writer_stays() {
        let (source, mut writer, sink, mut reader) = pipes();
        let (end, ended) = watch::channel(false);
        writer.write_all(b"last words").unwrap();
        let moving = tokio::spawn(async move { splice_all(&source, &sink, ended).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        writer.write_all(b", and more").unwrap();
        end.send_replace(true);
        tokio::time::timeout(Duration::from_secs(5), moving).await.unwrap().unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words, and more");
    }

    #[tokio::test]
    async fn other_work_goes_on_beside_a_fast_writer_and_a_full_pipe() {
        let (source, mut writer, sink, reader) = pipes();
        let (_keep, ended) = watch::channel(false);
        std::thread::spawn(move || while writer.write_all(&[0; 4096]).is_ok() {});
        let moving = tokio::spawn(async move { splice_all(&source, &sink, ended).await });
        // Nobody reads: the pipe is full, and the task waits without turning round and round.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!moving.is_finished());
        drop(reader);
        tokio::time::timeout(Duration::from_secs(5), moving).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_source_that_has_ended_is_seen_though_the_sink_is_full() {
        let (source, writer, sink, _reader) = pipes();
        while rustix::io::write(sink.get_ref(), &[0; 4096]).is_ok() {}
        drop(writer);
        let (_keep, ended) = watch::channel(false);
        let moving = tokio::spawn(async move { splice_all(&source, &sink, ended).await });
        tokio::time::timeout(Duration::from_secs(5), moving).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_child_that_writes_on_does_not_keep_it_going() {
        let (source, mut writer, sink, mut reader) = pipes();
        let (end, ended) = watch::channel(false);
        let writing = std::thread::spawn(move || while writer.write_all(&[b'y'; 512]).is_ok() {});
        let reading = std::thread::spawn(move || while reader.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {});
        end.send_replace(true);
        let moving = tokio::spawn(async move { splice_all(&source, &sink, ended).await });
        tokio::time::timeout(Duration::from_secs(5), moving).await.unwrap().unwrap();
        writing.join().unwrap();
        reading.join().unwrap();
    }
}

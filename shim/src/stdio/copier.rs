//! Copies between an exec's pipes and containerd's FIFOs.
//!
//! An exec gets pipes of its own: a child that it leaves behind may hold them, the sentry cannot be told to let go, and
//! containerd waits for the end of the FIFO. So after the exit the copier takes what is in the pipe, for a bounded
//! time, and closes.

use std::{
    fs::File,
    io::{self, Write},
    sync::Arc,
};

use nix::poll::PollFlags;
use tokio::{io::Interest, sync::watch};

use super::{
    drain::Drain,
    release::release,
    splice::{splice_all, widen},
};
use crate::{readiness::readiness, watched::Watched};

/// One read. A pipe holds no more by default.
const BUFFER: usize = 64 << 10;

/// Where a copy goes.
#[derive(Debug, Clone)]
pub(crate) enum Sink {
    /// A pipe or a terminal, which tells when it takes more.
    Watched(Arc<Watched>),
    /// containerd's FIFO, opened both ways. Nobody else has the descriptor.
    Fifo(Arc<Watched>),
    /// A regular file, opened to append. Its disk may take its time, so it is written to on another thread.
    File(Arc<File>),
}

/// Copies from `source` to `sink` until the source ends, or `ended` says true and the source has nothing more. What has
/// been read is shown to `gate`, which says how much of it passes.
pub(crate) async fn copy(
    source: Arc<Watched>,
    sink: Sink,
    ended: watch::Receiver<bool>,
    gate: impl FnMut(&[u8]) -> usize,
) {
    copy_all(source, &sink, ended, gate).await;
    if let Sink::Fifo(sink) = sink {
        release_watched(sink);
    }
}

/// As [`copy`], for a source that is a pipe, to containerd's FIFO: nothing is copied.
pub(crate) async fn forward(source: Arc<Watched>, sink: Arc<Watched>, ended: watch::Receiver<bool>) {
    widen(source.get_ref());
    widen(sink.get_ref());
    splice_all(&source, &sink, ended).await;
    release_watched(sink);
}

fn release_watched(fifo: Arc<Watched>) {
    if let Some(fifo) = Arc::into_inner(fifo) {
        release(fifo.into_inner());
    }
}

async fn copy_all(
    source: Arc<Watched>,
    sink: &Sink,
    ended: watch::Receiver<bool>,
    mut gate: impl FnMut(&[u8]) -> usize,
) {
    let mut drain = Drain::new(ended);
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match drain.rest(&source) {
            Some(0) => return,
            Some(rest) => read_rest(&source, &mut buffer[..rest.min(BUFFER)]),
            None => read_ready(&source, &mut buffer),
        };
        match read {
            Ok(0) => return,
            Ok(count) => {
                drain.took(count);
                let passes = gate(&buffer[..count]);
                if sink.write_all(&buffer[..passes], &mut drain).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !drain.readable(&source).await {
                    return;
                }
            }
            // A terminal whose other side has closed, or a reader that has.
            Err(_) => return,
        }
    }
}

/// Reads once the runtime has seen something to read. A FIFO that no writer has opened yet reads as ended otherwise.
fn read_ready(source: &Watched, buffer: &mut [u8]) -> io::Result<usize> {
    source.try_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut *buffer)?))
}

/// Reads what is there at this moment, whether the runtime has seen it or not; nothing is the end.
fn read_rest(source: &Watched, buffer: &mut [u8]) -> io::Result<usize> {
    let fd = source.get_ref();
    match readiness(fd).contains(PollFlags::POLLIN) {
        true => Ok(rustix::io::read(fd, buffer)?),
        false => Ok(0),
    }
}

impl Sink {
    async fn write_all(&self, bytes: &[u8], drain: &mut Drain) -> io::Result<()> {
        match self {
            Self::Watched(sink) | Self::Fifo(sink) => write_all(sink, bytes, drain).await,
            Self::File(file) => {
                let (file, bytes) = (file.clone(), bytes.to_vec());
                let written = tokio::task::spawn_blocking(move || (&*file).write_all(&bytes)).await;
                written.unwrap_or(Err(io::ErrorKind::BrokenPipe.into()))
            }
        }
    }
}

async fn write_all(sink: &Watched, mut bytes: &[u8], drain: &mut Drain) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.try_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?)) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => drain.writable(sink).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Read, time::Duration};

    use nix::{fcntl::OFlag, unistd::pipe2};

    use super::*;
    use crate::watched::watch as watched;

    /// A pipe of which one end is ours, non-blocking, and the other a plain file.
    fn pipe(ours_reads: bool) -> (Arc<Watched>, std::fs::File) {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (ours, theirs) = if ours_reads { (read, write) } else { (write, read) };
        rustix::io::ioctl_fionbio(&ours, true).unwrap();
        (Arc::new(watched(ours).unwrap()), std::fs::File::from(theirs))
    }

    #[tokio::test]
    async fn everything_is_copied_until_the_writers_have_gone() {
        let (source, mut writer) = pipe(true);
        let (sink, mut reader) = pipe(false);
        let (_keep, ended) = watch::channel(false);
        let copying = tokio::spawn(copy(source, Sink::Watched(sink), ended, <[u8]>::len));
        let data = vec![b'x'; 1 << 20];
        let expected = data.clone();
        let writing = std::thread::spawn(move || writer.write_all(&data).unwrap());
        let reading = tokio::task::spawn_blocking(move || {
            let mut copied = Vec::new();
            reader.read_to_end(&mut copied).unwrap();
            copied
        });
        copying.await.unwrap();
        writing.join().unwrap();
        assert!(reading.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn what_is_in_the_pipe_at_the_end_is_copied_though_a_writer_stays() {
        let (source, mut writer) = pipe(true);
        let (sink, mut reader) = pipe(false);
        let (end, ended) = watch::channel(false);
        writer.write_all(b"last words").unwrap();
        end.send_replace(true);
        tokio::time::timeout(Duration::from_secs(5), copy(source, Sink::Watched(sink), ended, <[u8]>::len))
            .await
            .unwrap();
        let mut copied = String::new();
        reader.read_to_string(&mut copied).unwrap();
        assert_eq!(copied, "last words");
        drop(writer);
    }

    #[tokio::test]
    async fn a_child_that_writes_on_does_not_keep_the_copy_going() {
        let (source, mut writer) = pipe(true);
        let (sink, mut reader) = pipe(false);
        let (end, ended) = watch::channel(false);
        let writing = std::thread::spawn(move || while writer.write_all(&[b'y'; 512]).is_ok() {});
        let reading = std::thread::spawn(move || while reader.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {});
        end.send_replace(true);
        let copying = copy(source, Sink::Watched(sink), ended, <[u8]>::len);
        tokio::time::timeout(Duration::from_secs(5), copying).await.unwrap();
        writing.join().unwrap();
        reading.join().unwrap();
    }
}

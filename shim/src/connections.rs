//! Connections to the Task service: from root alone, and counted.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixListener as StdListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::watch,
};

/// How many connections are open.
#[derive(Debug, Clone)]
pub(crate) struct Connections(Arc<watch::Sender<usize>>);

impl Connections {
    /// Returns once no connection has been open for `long` without a break.
    pub(crate) async fn none_for(&self, long: Duration) {
        let mut open = self.0.subscribe();
        loop {
            // The sender lives as long as `self`.
            let _ = open.wait_for(|open| *open == 0).await;
            if tokio::time::timeout(long, open.changed()).await.is_err() {
                return;
            }
        }
    }

    fn opened(&self) -> Open {
        self.0.send_modify(|open| *open += 1);
        Open(self.clone())
    }
}

/// One open connection.
struct Open(Connections);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

/// Accepts connections from root. The socket's mode says the same; this holds whatever becomes of the mode.
pub(crate) struct Listener {
    listener: UnixListener,
    connections: Connections,
}

impl Listener {
    /// Accepts on a socket that listens already.
    ///
    /// # Errors
    /// It is no such socket.
    pub(crate) fn new(listener: OwnedFd) -> io::Result<Self> {
        let listener = StdListener::from(listener);
        listener.set_nonblocking(true)?;
        let connections = Connections(Arc::new(watch::Sender::new(0)));
        Ok(Self { listener: UnixListener::from_std(listener)?, connections })
    }

    /// The count of what is accepted here.
    pub(crate) fn connections(&self) -> Connections {
        self.connections.clone()
    }
}

impl Stream for Listener {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Poll::Ready(accepted) = self.listener.poll_accept(context) else { return Poll::Pending };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                // The peer was gone before it was accepted, or descriptors ran out for a moment.
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == nix::unistd::geteuid().as_raw() => {
                    let connection = Connection { stream, _open: self.connections.opened() };
                    return Poll::Ready(Some(Ok(connection)));
                }
                _ => log::warn!("refused a connection that isn't root's"),
            }
        }
    }
}

/// An accepted connection, counted until it is closed.
pub(crate) struct Connection {
    stream: UnixStream,
    _open: Open,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_puts_off_being_forgotten_and_its_end_does_not_count_at_once() {
        let connections = Connections(Arc::new(watch::Sender::new(0)));
        let (short, long) = (Duration::from_millis(30), Duration::from_secs(5));
        let open = connections.opened();
        assert!(tokio::time::timeout(short * 3, connections.none_for(short)).await.is_err());
        drop(open);
        assert!(tokio::time::timeout(short, connections.none_for(long)).await.is_err());
        tokio::time::timeout(long, connections.none_for(short)).await.unwrap();
    }
}

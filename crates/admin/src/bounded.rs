//! A listener that serves so many connections at a time; others wait in the kernel's queue. Who has a connection and does
//! nothing with it loses it, so that nobody can keep the operator out by keeping connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Admin connections at a time, per socket.
const CONNECTIONS: usize = 64;
/// How long a connection may be silent between requests.
const IDLE: Duration = Duration::from_secs(75);
/// And while a request is read or worked on: longer than any call takes, and than our own client waits.
const BUSY: Duration = Duration::from_secs(150);
/// Rest after an accept that failed (out of descriptors, most likely).
const PAUSE: Duration = Duration::from_millis(200);

/// A bounded listener.
pub(crate) struct Bounded<L> {
    listener: L,
    free: Arc<Semaphore>,
}

impl<L> Bounded<L> {
    pub(crate) fn new(listener: L) -> Self {
        Self {
            listener,
            free: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(permit) => permit,
            // We never close it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// A connection that gives its place back when it closes.
pub(crate) struct Held<S> {
    stream: S,
    patience: Patience,
    _permit: OwnedSemaphorePermit,
}

/// Until when the other side must have done something.
struct Patience {
    over: Pin<Box<Sleep>>,
    idle: Duration,
    busy: Duration,
}

impl Patience {
    fn new(idle: Duration, busy: Duration) -> Self {
        Self {
            over: Box::pin(tokio::time::sleep(idle)),
            idle,
            busy,
        }
    }

    /// Something was read or written, or is waited for.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: bool,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            let longest = if read { self.busy } else { self.idle };
            self.over.as_mut().reset(Instant::now() + longest);
            return done;
        }
        self.over
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S> Held<S> {
    /// The connection itself.
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

macro_rules! bounded {
    ($listener:ty, $stream:ty, $address:ty) => {
        impl Listener for Bounded<$listener> {
            type Io = Held<$stream>;
            type Addr = $address;

            async fn accept(&mut self) -> (Self::Io, Self::Addr) {
                let permit = self.permit().await;
                loop {
                    match self.listener.accept().await {
                        Ok((stream, address)) => {
                            let patience = Patience::new(IDLE, BUSY);
                            return (Held { stream, patience, _permit: permit }, address);
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the admin socket cannot accept");
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                }
            }

            fn local_addr(&self) -> io::Result<Self::Addr> {
                self.listener.local_addr()
            }
        }
    };
}

bounded!(TcpListener, tokio::net::TcpStream, std::net::SocketAddr);
bounded!(
    UnixListener,
    tokio::net::UnixStream,
    tokio::net::unix::SocketAddr
);

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.patience.watch(cx, true, done)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.patience.watch(cx, false, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Long enough to see that it is not waited for.
    const LONG: Duration = Duration::from_hours(1);
    const SHORT: Duration = Duration::from_millis(5);

    async fn held(idle: Duration, busy: Duration) -> (Held<DuplexStream>, DuplexStream) {
        let (stream, client) = duplex(4);
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let patience = Patience::new(idle, busy);
        let held = Held {
            stream,
            patience,
            _permit: permit,
        };
        (held, client)
    }

    #[tokio::test]
    async fn who_does_nothing_loses_the_connection() {
        let (mut held, _client) = held(SHORT, LONG).await;
        let error = held.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_request_has_its_own_time() {
        let (mut held, mut client) = held(LONG, SHORT).await;
        client.write_all(b"G").await.unwrap();
        assert_eq!(held.read_u8().await.unwrap(), b'G');
        let error = held.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn so_does_who_does_not_take_the_answer() {
        let (mut held, _client) = held(SHORT, LONG).await;
        let error = held.write_all(b"more than fits").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

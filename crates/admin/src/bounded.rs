//! A listener that serves so many connections at a time; others wait in the kernel's queue.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Admin connections at a time, per socket.
const CONNECTIONS: usize = 64;
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
    _permit: OwnedSemaphorePermit,
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
                        Ok((stream, address)) => return (Held { stream, _permit: permit }, address),
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
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

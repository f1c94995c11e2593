//! The life of a client connection: its limits, the PROXY header, waiting for requests, and how it is closed.
//!
//! The task of an idle connection is small: everything that a request needs is borrowed when its first byte arrives.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use narthex_mux::MuxStream;
use narthex_net::accept::{Accepted, Peer};
use narthex_net::client_count;
use narthex_net::proxy_header::{self, Addresses, Parsed};
use narthex_net::rt;
use narthex_net::scratch;
use narthex_net::stream::Stream;

use crate::core::CoreProxy;
use crate::h2;
use crate::handle;
use crate::identity::peer_ip;
use crate::runtime::millis;
use crate::tls::{self, Session};

/// Longest PROXY header: version 2 with 4 KiB of options.
const PROXY_HEADER_MAX: usize = 16 + 4096;

/// Pipelined requests served before other connections of the core get their turn.
const PIPELINE_SHARE: u32 = 32;

/// A client connection between requests.
pub(crate) struct Client {
    pub(crate) stream: Stream,
    pub(crate) peer: Peer,
    pub(crate) listener: u32,
    pub(crate) requests: u32,
    pub(crate) opened_ms: u64,
    /// What has been read of the next request; no memory while there is nothing.
    pub(crate) input: Vec<u8>,
    /// It is one stream of an HTTP/2 connection.
    pub(crate) h2: Option<Rc<MuxStream>>,
    /// What is known of it, if it is encrypted.
    pub(crate) tls: Option<Rc<Session>>,
}

impl Client {
    /// Did it come over TLS?
    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }
}

/// What becomes of a connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another request may come.
    Keep,
    /// Close at once.
    Close,
    /// Our answer must arrive although the client may still be sending.
    Linger,
    /// Close so that a message cannot look complete.
    Reset,
    /// The client speaks HTTP/2: nothing was asked yet.
    Http2,
}

/// Counts an open connection for as long as it lives.
struct Open(Rc<CoreProxy>);

impl Open {
    fn new(proxy: &Rc<CoreProxy>) -> Self {
        proxy.open.set(proxy.open.get() + 1);
        proxy.shared.balance().on_open(proxy.core);
        proxy.shared.metrics.connections.add(proxy.core, 1);
        Self(Rc::clone(proxy))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.shared.balance().on_close(self.0.core);
        self.0.shared.metrics.connections.add(self.0.core, -1);
    }
}

/// What a connection counts against, for as long as it lives.
struct Guards {
    _client: Option<client_count::Guard>,
    _place: Option<Place>,
}

/// One of a listener's bounded number of connections.
struct Place(Option<Arc<AtomicUsize>>);

impl Place {
    /// `None` if all are taken. A `max` of 0 is no bound, and counts nothing.
    fn take(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        if max == 0 {
            return Some(Self(None));
        }
        let place = Self(Some(Arc::clone(open)));
        (open.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(open) = &self.0 {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Serves a connection to its end. What is needed only for a while (admission, an exchange, the end) is boxed while it runs:
/// this future is all the memory that an idle connection has, beside its places in the core's tables.
pub(crate) async fn serve(proxy: Rc<CoreProxy>, listener: u32, accepted: Accepted) {
    let _open = Open::new(&proxy);
    let Some((mut client, _guards)) = Box::pin(admit(&proxy, listener, accepted)).await else {
        return;
    };
    if client.tls.as_ref().is_some_and(|tls| tls.h2) {
        return Box::pin(h2::serve(proxy, client)).await;
    }
    loop {
        if client.input.is_empty() {
            let deadline = idle_deadline(&proxy, &client);
            let readable = std::future::poll_fn(|_| {
                if client.stream.poll_readable().is_ready() {
                    return Poll::Ready(true);
                }
                // Over the memory cap, connections that carry nothing go first.
                if proxy.closes_idle() {
                    return Poll::Ready(false);
                }
                rt::poll_deadline(deadline).map(|()| false)
            });
            if !readable.await {
                return;
            }
        }
        match rt::Recycled::new(|| handle::exchange(&proxy, &mut client)).await {
            // Answers of our own wait for nothing: others have their turn between pipelined requests.
            Next::Keep if client.requests % PIPELINE_SHARE == 0 && !client.input.is_empty() => {
                rt::yield_now().await;
            }
            Next::Keep => {}
            Next::Close => return,
            Next::Linger => return Box::pin(linger(&proxy, &client)).await,
            Next::Reset => return client.stream.reset_on_close(),
            Next::Http2 => return Box::pin(h2::serve(proxy, client)).await,
        }
    }
}

/// When a connection that says nothing has had its time.
fn idle_deadline(proxy: &CoreProxy, client: &Client) -> u64 {
    let allowed = proxy.idle_ms(client.listener, client.requests == 0);
    rt::now_ms().saturating_add(allowed.unwrap_or(0)).max(1)
}

/// Applies the limits and reads the PROXY header.
async fn admit(
    proxy: &Rc<CoreProxy>,
    listener: u32,
    accepted: Accepted,
) -> Option<(Client, Guards)> {
    let (rt_, index, _) = proxy.runtime_for(listener)?;
    let config = rt_.runtime.config.listeners.get(index)?;
    let plan = rt_.runtime.listeners.get(index)?;
    plan.metrics.accepted.inc(proxy.core);
    let place = Place::take(&plan.door.open, config.connections.max);
    let max = rt_.runtime.config.connections_max;
    let over = place.is_none() || (max > 0 && proxy.shared.balance().total() > max);
    if over || proxy.refuses_new() {
        plan.metrics.refused.inc(proxy.core);
        return None;
    }
    let stream = Stream::new(accepted.fd).ok()?;
    let mut client = Client {
        stream,
        peer: accepted.peer,
        listener,
        requests: 0,
        opened_ms: rt::now_ms(),
        input: Vec::new(),
        h2: None,
        tls: None,
    };
    if let Some(rule) = &config.proxy_protocol {
        let trusted = match accepted.peer {
            Peer::Tcp(a) => rule.from.contains(a.ip()),
            Peer::Unix => true,
        };
        let header = if trusted {
            rt::timeout_at(
                rt::now_ms() + millis(rule.timeout),
                proxy_header(&mut client),
            )
            .await
            .ok()
            .flatten()
        } else if rule.optional {
            Some(None)
        } else {
            None
        };
        match header {
            Some(Some(source)) => client.peer = Peer::Tcp(source),
            Some(None) => {}
            None => {
                plan.metrics.refused.inc(proxy.core);
                proxy.failed("proxy-header", "client");
                return None;
            }
        }
    }
    // A listener's own limit is about its own connections; the process's, about those of all other listeners together.
    let (counts, per_client) = match config.connections.per_client {
        0 => (
            &proxy.shared.clients,
            rt_.runtime.config.connections_per_client,
        ),
        n => (&plan.door.clients, n),
    };
    let guard = match peer_ip(client.peer) {
        Some(ip) if per_client > 0 => match counts.try_open(ip, per_client) {
            Some(guard) => Some(guard),
            None => {
                plan.metrics.refused.inc(proxy.core);
                proxy.failed("client-connections", "client");
                return None;
            }
        },
        _ => None,
    };
    if let Some(listener_tls) = rt_.runtime.tls.listener(index) {
        let already_read = std::mem::take(&mut client.input);
        let ip = peer_ip(client.peer);
        let (stream, session) =
            tls::accept(listener_tls, proxy.core, client.stream, &already_read, ip).await?;
        client.stream = stream;
        client.tls = Some(Rc::new(session));
        // The time for the first head begins now.
        client.opened_ms = rt::now_ms();
    }
    Some((
        client,
        Guards {
            _client: guard,
            _place: place,
        },
    ))
}

/// Reads a PROXY header. `None`: there is no valid one. `Some(None)`: it keeps the socket's address.
async fn proxy_header(client: &mut Client) -> Option<Option<SocketAddr>> {
    loop {
        match proxy_header::parse(&client.input) {
            Parsed::Header { header, len } => {
                client.input.drain(..len);
                return Some(match header.addresses {
                    Addresses::Tcp { source, .. } => Some(source),
                    Addresses::Socket | Addresses::Unix => None,
                });
            }
            Parsed::Invalid(_) => return None,
            Parsed::Incomplete if client.input.len() > PROXY_HEADER_MAX => return None,
            Parsed::Incomplete => {}
        }
        client.stream.readable().await;
        let got = scratch::with(|buffer| {
            let area = buffer.get_mut(..4096)?;
            match client.stream.try_recv(area) {
                Ok(0) => None,
                Ok(n) => {
                    client.input.extend_from_slice(area.get(..n)?);
                    Some(())
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Some(()),
                Err(_) => None,
            }
        });
        got?;
    }
}

/// Ends our direction and drops what still comes, for a bounded time and amount: closing with unread bytes would reset the
/// connection and could take our answer with it (RFC 9112 9.6).
pub(crate) async fn linger(proxy: &CoreProxy, client: &Client) {
    let (time, mut left) = {
        let Some((rt_, index, _)) = proxy.runtime_for(client.listener) else {
            return;
        };
        let Some(plan) = rt_.runtime.listeners.get(index) else {
            return;
        };
        (plan.linger_ms, plan.linger_bytes)
    };
    client.stream.shutdown_write();
    let deadline = rt::now_ms().saturating_add(time);
    while left > 0 {
        if rt::timeout_at(deadline, client.stream.readable())
            .await
            .is_err()
        {
            return;
        }
        let got = scratch::with(|buffer| client.stream.try_recv(buffer));
        match got {
            Ok(0) => return,
            Ok(n) => left = left.saturating_sub(n as u64),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
        std::mem::size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        // The task's future; the core's tables add 68 bytes (see `net`).
        assert!(size(serve) <= 256, "{} bytes", size(serve));
    }

    fn size_of_exchange<'a, F: Future>(
        _: impl FnOnce(&'a Rc<CoreProxy>, &'a mut Client) -> F,
    ) -> usize {
        std::mem::size_of::<F>()
    }

    #[test]
    fn a_usual_request_carries_no_rare_state() {
        // What is awaited seldom is boxed where it is awaited.
        let size = size_of_exchange(handle::exchange);
        assert!(size <= 2560, "{size} bytes");
    }
}

//! One connection: reads, hands out what came to its streams, and writes once per turn what they have put together.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use narthex_message::Reject;
use narthex_net::accept::Peer;
use narthex_net::rt::{self, TaskKey};
use narthex_net::scratch::{self, BULK};
use narthex_net::stream::Stream;
use narthex_wire::h2::{Bounds, Connection, ErrorCode, Event, Fatal, Role, StreamId};

use super::stream::ClientStream;
use crate::connection::{Client, Next};
use crate::core::CoreProxy;
use crate::handle;
use crate::work::Work;

/// Bytes taken from one connection before others of the core get their turn.
const FAIR_SHARE: usize = 512 * 1024;
/// Memory of the outgoing buffer that is kept while nothing waits in it.
const KEEP: usize = 64 * 1024;
/// It is looked at the clock so often at least. Milliseconds.
const LOOK: u64 = 600_000;
/// A connection that is to end says so, and takes what is on its way already for so long (RFC 9113 6.8). Milliseconds.
const LAST_ROUND: u64 = 1_000;

/// What the session's task and its streams share.
pub(crate) struct Session {
    connection: RefCell<Connection>,
    streams: RefCell<HashMap<StreamId, Rc<ClientStream>>>,
    /// The session's task.
    task: Cell<TaskKey>,
    /// It has been told that there is something to write.
    told: Cell<bool>,
}

impl Session {
    /// There is something in `out`, or there may be: the session writes it at the end of this turn, with what others have.
    fn tell(&self) {
        if !self.told.replace(true) {
            rt::current_core().wake(self.task.get());
        }
    }

    pub(super) fn head(&self, stream: StreamId, block: &[u8], end: bool) {
        let now = rt::now_ms();
        self.connection.borrow_mut().head(stream, block, end, now);
        self.tell();
    }

    pub(super) fn data(&self, stream: StreamId, bytes: &[u8], end: bool) -> usize {
        let now = rt::now_ms();
        let n = self.connection.borrow_mut().data(stream, bytes, end, now);
        self.tell();
        n
    }

    pub(super) fn end(&self, stream: StreamId) {
        self.connection.borrow_mut().end(stream, rt::now_ms());
        self.tell();
    }

    pub(super) fn reset(&self, stream: StreamId, code: ErrorCode) {
        self.connection.borrow_mut().reset(stream, code);
        self.tell();
    }

    pub(super) fn consumed(&self, stream: StreamId, n: usize) {
        let mut connection = self.connection.borrow_mut();
        connection.consumed(stream, n);
        let credit = !connection.out.is_empty();
        drop(connection);
        if credit {
            self.tell();
        }
    }

    pub(super) fn writable(&self, stream: StreamId) -> bool {
        self.connection.borrow().writable(stream) > 0
    }

    /// A stream's exchange is over.
    fn release(&self, stream: StreamId) {
        self.streams.borrow_mut().remove(&stream);
        self.connection.borrow_mut().release(stream);
        self.tell();
    }
}

/// Serves a connection to its end; `client.input` has what came of it.
pub(crate) async fn serve(proxy: Rc<CoreProxy>, mut client: Client) {
    let Some(bounds) = bounds(&proxy, &client) else {
        return;
    };
    let now = rt::now_ms();
    let session = Rc::new(Session {
        connection: RefCell::new(Connection::new(Role::Server, bounds, now)),
        streams: RefCell::default(),
        task: Cell::new(rt::current_core().current_task()),
        told: Cell::new(false),
    });
    let input = std::mem::take(&mut client.input);
    let mut server = Server {
        proxy,
        session: Rc::clone(&session),
        socket: &client.stream,
        peer: client.peer,
        listener: client.listener,
        opened_ms: client.opened_ms,
        sent: 0,
        idle_since: now,
        going: None,
        ended: false,
        broken: false,
    };
    let _listed = server.proxy.list_session(rt::current_core().current_task());
    server.begin(&input);
    drop(input);
    std::future::poll_fn(|cx| server.poll(cx)).await;
    for stream in session.streams.borrow().values() {
        stream.kill();
    }
}

fn bounds(proxy: &CoreProxy, client: &Client) -> Option<Bounds> {
    let (rt_, index, _) = proxy.runtime_for(client.listener)?;
    let plan = rt_.runtime.listeners.get(index)?;
    Some(Bounds {
        head: plan.head_limits,
        secure: Some(client.is_secure()),
        ..Bounds::default()
    })
}

/// The session's task.
struct Server<'s> {
    proxy: Rc<CoreProxy>,
    session: Rc<Session>,
    socket: &'s Stream,
    peer: Peer,
    listener: u32,
    opened_ms: u64,
    /// Bytes of `out` that the socket has taken.
    sent: usize,
    /// Since when there is no stream.
    idle_since: u64,
    /// The first GOAWAY has been sent; the second is due then.
    going: Option<u64>,
    /// Nothing more is read.
    ended: bool,
    /// What is in `out` is the last word.
    broken: bool,
}

impl Server<'_> {
    fn begin(&mut self, input: &[u8]) {
        self.take(input);
        self.session.told.set(false);
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        self.session.told.set(false);
        let mut moved = 0;
        while !self.ended {
            match self.receive() {
                Ok(0) => break,
                Ok(n) => moved += n,
                Err(_) => return Poll::Ready(()),
            }
            if moved > FAIR_SHARE {
                cx.waker().wake_by_ref();
                break;
            }
        }
        let now = rt::now_ms();
        self.look_at_time(now);
        self.wake_writers();
        if self.flush().is_err() {
            return Poll::Ready(());
        }
        let waiting = self.has_output();
        if !waiting && (self.broken || self.is_over(now)) {
            return Poll::Ready(());
        }
        if waiting {
            let _ = self.socket.poll_writable();
        } else {
            // There is room again for those that waited for this.
            self.wake_writers();
        }
        if !self.ended {
            let _ = self.socket.poll_readable();
        }
        if self.socket.poll_dead().is_ready() && !self.socket.is_readable() {
            return Poll::Ready(());
        }
        let _ = rt::poll_deadline(self.next_time(now));
        Poll::Pending
    }

    /// Takes what has arrived; 0 if nothing has.
    fn receive(&mut self) -> io::Result<usize> {
        let session = Rc::clone(&self.session);
        scratch::with(|buffer| {
            let area = buffer.get_mut(..BULK).unwrap_or_default();
            match self.socket.try_recv(area) {
                Ok(0) => {
                    self.ended = true;
                    if session.streams.borrow().is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    // The peer has ended its direction; it may still want its answers.
                    Ok(0)
                }
                Ok(n) => {
                    self.take(area.get(..n).unwrap_or_default());
                    Ok(n)
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
                Err(e) => Err(e),
            }
        })
    }

    /// Gives bytes to the connection and what comes of them to the streams.
    fn take(&mut self, mut bytes: &[u8]) {
        let session = Rc::clone(&self.session);
        let now = rt::now_ms();
        loop {
            let mut connection = session.connection.borrow_mut();
            let received = match connection.receive(bytes, now) {
                Ok(received) => received,
                Err(fatal) => {
                    drop(connection);
                    return self.fatal(fatal);
                }
            };
            bytes = bytes.get(received.taken..).unwrap_or_default();
            let Some(event) = received.event else {
                if received.taken == 0 || bytes.is_empty() {
                    return;
                }
                continue;
            };
            match event {
                Event::Head {
                    stream,
                    end,
                    oversize,
                } => {
                    let mut work = self.proxy.take_work();
                    connection.take_head(&mut work.input, &mut work.index);
                    drop(connection);
                    self.start(stream, end, work, oversize.map(Reject::from));
                }
                Event::Data { stream, bytes, end } => {
                    drop(connection);
                    match session.streams.borrow().get(&stream) {
                        Some(known) => known.push(bytes, end),
                        // Nobody waits for it any more.
                        None => session
                            .connection
                            .borrow_mut()
                            .consumed(stream, bytes.len()),
                    }
                }
                Event::Trailers { stream, .. } => {
                    // A request's trailers are dropped, as those of HTTP/1: an origin has not said that it wants them.
                    let mut work = self.proxy.take_work();
                    connection.take_head(&mut work.input, &mut work.index);
                    drop(connection);
                    self.proxy.give_work(work);
                    if let Some(known) = session.streams.borrow().get(&stream) {
                        known.push(b"", true);
                    }
                }
                Event::Reset { stream, .. } => {
                    drop(connection);
                    if let Some(known) = session.streams.borrow().get(&stream) {
                        known.kill();
                    }
                }
                Event::GoAway { .. } | Event::Settings | Event::Pong { .. } => {}
            }
        }
    }

    /// The peer has broken the rules: what is under way ends, and the last word is in `out`.
    fn fatal(&mut self, fatal: Fatal) {
        tracing::debug!(
            code = fatal.code.word(),
            why = fatal.why,
            "an HTTP/2 connection is ended"
        );
        self.proxy.failed(fatal.code.word(), "client");
        self.ended = true;
        self.broken = true;
        for stream in self.session.streams.borrow().values() {
            stream.kill();
        }
    }

    /// A request: its exchange begins, as a task of its own.
    fn start(&mut self, id: StreamId, ended: bool, work: Box<Work>, refused: Option<Reject>) {
        let session = Rc::clone(&self.session);
        let stream = ClientStream::new(&session, id, ended);
        session.streams.borrow_mut().insert(id, Rc::clone(&stream));
        let client = Client {
            stream: Stream::of_many(Rc::clone(&stream) as Rc<dyn narthex_net::stream::Virtual>),
            peer: self.peer,
            listener: self.listener,
            requests: 0,
            opened_ms: self.opened_ms,
            input: Vec::new(),
            h2: Some(stream),
        };
        let proxy = Rc::clone(&self.proxy);
        rt::spawn(exchange(proxy, session, client, work, refused));
    }

    /// Tells those that wait for room, the most urgent first.
    fn wake_writers(&self) {
        loop {
            let next = self.session.connection.borrow_mut().next_writable();
            let Some(id) = next else { return };
            if let Some(stream) = self.session.streams.borrow().get(&id) {
                stream.writable();
            }
        }
    }

    fn has_output(&self) -> bool {
        !self.session.connection.borrow().out.is_empty()
    }

    /// Writes what there is.
    fn flush(&mut self) -> io::Result<()> {
        let mut connection = self.session.connection.borrow_mut();
        while self.sent < connection.out.len() {
            match self
                .socket
                .try_send(connection.out.get(self.sent..).unwrap_or_default())
            {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // What is left moves to the front, or the bound would count what is gone.
                    connection.out.drain(..self.sent);
                    self.sent = 0;
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        self.sent = 0;
        if connection.out.capacity() > KEEP && connection.streams() == 0 {
            connection.out = Vec::new();
        } else {
            connection.out.clear();
        }
        Ok(())
    }

    /// What stands still, and what ends.
    fn look_at_time(&mut self, now: u64) {
        loop {
            let event = {
                let mut connection = self.session.connection.borrow_mut();
                if connection.next_tick().is_none_or(|due| due > now) {
                    break;
                }
                connection.tick(now)
            };
            match event {
                Some(Event::Reset { stream, .. }) => {
                    if let Some(known) = self.session.streams.borrow().get(&stream) {
                        known.kill();
                    }
                }
                Some(_) => {}
                None => break,
            }
        }
        let streams = self.session.connection.borrow().streams();
        if streams > 0 {
            self.idle_since = now;
        }
        match self.going {
            None if self.must_go(now) => {
                self.session.connection.borrow_mut().drain();
                self.going = Some(now.saturating_add(LAST_ROUND));
            }
            Some(due) if due != u64::MAX && now >= due => {
                self.session
                    .connection
                    .borrow_mut()
                    .goaway(ErrorCode::NO_ERROR);
                self.going = Some(u64::MAX);
            }
            _ => {}
        }
    }

    /// Is this connection to take no more requests?
    fn must_go(&self, now: u64) -> bool {
        let Some((rt_, index, live)) = self.proxy.runtime_for(self.listener) else {
            return true;
        };
        let (Some(plan), Some(config)) = (
            rt_.runtime.listeners.get(index),
            rt_.runtime.config.listeners.get(index),
        ) else {
            return true;
        };
        let connection = self.session.connection.borrow();
        let idle = connection.streams() == 0
            && (now.saturating_sub(self.idle_since) >= plan.keep_alive_ms
                || self.proxy.closes_idle());
        !live
            || idle
            || self.proxy.is_draining()
            || self.proxy.ends_keep_alive()
            || connection.requests() >= u64::from(config.connections.requests)
            || (plan.max_age_ms > 0 && now.saturating_sub(self.opened_ms) >= plan.max_age_ms)
    }

    /// Nothing is left to be done.
    fn is_over(&self, now: u64) -> bool {
        let connection = self.session.connection.borrow();
        // With the second GOAWAY no stream can come any more; a client that has none and got the first may still send one.
        connection.streams() == 0
            && (self.ended || self.going.is_some_and(|due| due == u64::MAX || now >= due))
    }

    /// When to look again at the latest.
    fn next_time(&self, now: u64) -> u64 {
        let connection = self.session.connection.borrow();
        let tick = connection.next_tick();
        let going = self.going.filter(|due| *due != u64::MAX);
        let plan = self.proxy.runtime_for(self.listener);
        let plan = plan
            .as_ref()
            .and_then(|(rt_, index, _)| rt_.runtime.listeners.get(*index));
        let idle = plan
            .filter(|_| connection.streams() == 0 && self.going.is_none())
            .map(|plan| self.idle_since.saturating_add(plan.keep_alive_ms));
        let age = plan
            .filter(|plan| plan.max_age_ms > 0 && self.going.is_none())
            .map(|plan| self.opened_ms.saturating_add(plan.max_age_ms));
        let times = [tick, going, idle, age].into_iter().flatten();
        times.fold(now.saturating_add(LOOK), u64::min).max(1)
    }
}

/// A stream's place, given back whatever way its exchange ends.
struct Place {
    session: Rc<Session>,
    id: StreamId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.session.release(self.id);
    }
}

/// One request and its answer.
async fn exchange(
    proxy: Rc<CoreProxy>,
    session: Rc<Session>,
    mut client: Client,
    work: Box<Work>,
    refused: Option<Reject>,
) {
    let Some(stream) = client.h2.clone() else {
        return;
    };
    let _place = Place {
        session,
        id: stream.id(),
    };
    let next = rt::Recycled::new(|| handle::exchange_of(&proxy, &mut client, work, refused)).await;
    if next == Next::Reset {
        stream.abort(ErrorCode::INTERNAL_ERROR);
    }
}

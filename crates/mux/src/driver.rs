//! The task of one connection: reads, hands out what came, and writes once per turn what the streams have put together.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use narthex_message::Index;
use narthex_net::rt;
use narthex_net::scratch::{self, BULK};
use narthex_net::stream::Stream;
use narthex_wire::h2::{ErrorCode, Event, Fatal, Oversize};

use crate::session::Session;
use crate::stream::{Head, MuxStream};

/// Bytes taken from one connection before others of the core get their turn.
const FAIR_SHARE: usize = 512 * 1024;
/// Memory of the outgoing buffer that is kept while nothing waits in it.
const KEEP: usize = 64 * 1024;
/// So long a server's connection that is to end takes what is on its way already. Milliseconds.
const LAST_ROUND: u64 = 1_000;
/// Bytes of ours that wait for the socket, beyond which nothing more is taken from a peer: DATA is bounded by less, but what it asks
/// for might be heads alone.
const CROWDED: usize = 256 * 1024;
/// So long a peer that has broken the rules may stand in the way of our last word. Milliseconds.
const LAST_WORD: u64 = 5_000;
/// It looks at the clock so often at least. Milliseconds.
const LOOK: u64 = 600_000;

/// Whose connection it is.
pub trait Owner {
    /// Memory for a head.
    fn memory(&mut self) -> (Vec<u8>, Index) {
        (Vec::new(), Index::default())
    }
    /// Server: a request has come; its stream is released when the result's work is over.
    fn request(&mut self, stream: Rc<MuxStream>, head: Head);
    /// Is it to take no more streams? `idle_since`: when the last one ended, if there is none.
    fn must_go(&self, session: &Session, idle_since: Option<u64>, now: u64) -> bool;
    /// When to ask that again at the latest, if nothing happens.
    fn next_look(&self, idle_since: Option<u64>) -> Option<u64>;
    /// A connection that is to end says so, and takes what is on its way already for so long (RFC 9113 6.8). Milliseconds.
    fn last_round(&self) -> u64 {
        LAST_ROUND
    }
    /// The peer broke the rules.
    fn broken(&self, fatal: Fatal);
    /// Settings have come, or a stream has ended: there may be room for more.
    fn room(&self) {}
}

/// Drives a connection.
pub struct Driver<'s, O> {
    session: Rc<Session>,
    socket: &'s Stream,
    owner: O,
    /// Bytes of `out` that the socket has taken.
    sent: usize,
    /// Since when there is no stream.
    idle_since: u64,
    going: Going,
    /// Nothing more is read.
    ended: bool,
    /// What is in `out` is the last word.
    broken: bool,
    /// Since when the socket has taken nothing of what waits for it.
    blocked: Option<u64>,
    /// Bytes that the socket has taken, ever; and the peer of them, when that was last asked.
    flushed: u64,
    arrived: u64,
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The peer has gone, or does not read.
    Gone,
    /// We have said our last word. The peer may still be sending: a socket that is closed over what it has not read may take that
    /// word back.
    Said,
}

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Going {
    No,
    /// The first GOAWAY has been sent; the second is due then.
    Said(u64),
    /// No stream can come any more.
    Last,
}

impl<'s, O: Owner> Driver<'s, O> {
    /// On the task that will run it.
    pub fn new(session: &Rc<Session>, socket: &'s Stream, owner: O) -> Self {
        session.task.set(rt::current_core().current_task());
        Self {
            session: Rc::clone(session),
            socket,
            owner,
            sent: 0,
            idle_since: rt::now_ms(),
            going: Going::No,
            ended: false,
            broken: false,
            blocked: None,
            flushed: 0,
            arrived: 0,
        }
    }

    /// Runs to the connection's end. `input`: what has been read of it.
    pub async fn run(mut self, input: Vec<u8>) -> Ended {
        self.take(&input);
        drop(input);
        let ended = std::future::poll_fn(|cx| self.poll(cx)).await;
        self.session.kill(ErrorCode::CANCEL);
        self.owner.room();
        ended
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.session.told.set(false);
        let mut moved = 0;
        let mut crowded = false;
        while !self.ended {
            crowded = self.is_crowded();
            if crowded {
                break;
            }
            match self.receive() {
                Ok(0) => break,
                Ok(n) => moved += n,
                Err(_) => return Poll::Ready(Ended::Gone),
            }
            if moved > FAIR_SHARE {
                cx.waker().wake_by_ref();
                break;
            }
        }
        let now = rt::now_ms();
        if self.session.freed.take() {
            // Its work may have taken long, and without a word.
            self.idle_since = now;
            self.owner.room();
        }
        self.look_at_time(now);
        if self.is_stuck(now) {
            self.socket.reset_on_close();
            return Poll::Ready(Ended::Gone);
        }
        self.wake_writers();
        if self.flush(now).is_err() {
            return Poll::Ready(Ended::Gone);
        }
        let waiting = !self.session.connection().out.is_empty();
        if !waiting && (self.broken || self.is_over(now)) {
            return Poll::Ready(Ended::Said);
        }
        if waiting {
            let _ = self.socket.poll_writable();
        } else {
            // There is room again for those that waited for this.
            self.wake_writers();
        }
        if crowded && !self.is_crowded() {
            // What was not read is still there, and announces itself no more.
            cx.waker().wake_by_ref();
        }
        if !self.ended {
            let _ = self.socket.poll_readable();
        }
        if self.socket.poll_dead().is_ready() && !self.socket.is_readable() {
            return Poll::Ready(Ended::Gone);
        }
        if rt::poll_deadline(self.next_time(now)).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Does too much wait for the peer to read?
    fn is_crowded(&self) -> bool {
        self.session.connection().out.len() > CROWDED
    }

    /// Has the peer read nothing for as long as it may?
    fn is_stuck(&self, now: u64) -> bool {
        self.unblocked_by().is_some_and(|due| now >= due)
    }

    /// When the peer must have read some of what waits.
    fn unblocked_by(&self) -> Option<u64> {
        let (patience, _) = self.session.connection().patience();
        let patience = if self.broken {
            patience.min(LAST_WORD)
        } else {
            patience
        };
        Some(self.blocked?.saturating_add(patience))
    }

    /// Has the peer read much of what the socket has, since that was last asked? A slow reader empties the kernel's buffer long
    /// before the socket is called writable again.
    fn still_reads(&mut self) -> bool {
        let unsent = self.socket.unsent().unwrap_or(0) as u64;
        let arrived = self.flushed.saturating_sub(unsent);
        let (_, progress) = self.session.connection().patience();
        let reads = unsent > 0 && arrived >= self.arrived.saturating_add(progress);
        if reads {
            self.arrived = arrived;
        }
        reads
    }

    /// Takes what has arrived; 0 if nothing has.
    fn receive(&mut self) -> io::Result<usize> {
        scratch::with(|buffer| {
            let area = buffer.get_mut(..BULK).unwrap_or_default();
            match self.socket.try_recv(area) {
                Ok(0) if self.session.streams() == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => {
                    // The peer has ended its direction; it may still want answers to what it has said to the end.
                    self.ended = true;
                    self.session.cut();
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

    /// Gives bytes to the codec and what comes of them to the streams.
    fn take(&mut self, mut bytes: &[u8]) {
        let session = Rc::clone(&self.session);
        let now = rt::now_ms();
        loop {
            let mut connection = session.connection();
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
            let stream = |id| session.streams.borrow().get(&id).map(Rc::clone);
            match event {
                Event::Head {
                    stream: id,
                    end,
                    oversize,
                } => {
                    let head = self.head(&mut connection, oversize);
                    drop(connection);
                    match stream(id) {
                        Some(known) => known.arrived(head, end),
                        None => {
                            let new = MuxStream::arrived_as(&session, id, end);
                            session.streams.borrow_mut().insert(id, Rc::clone(&new));
                            self.owner.request(new, head);
                        }
                    }
                }
                Event::Data {
                    stream: id,
                    bytes,
                    end,
                } => match stream(id) {
                    Some(known) => {
                        drop(connection);
                        known.push(bytes, end);
                    }
                    // Nobody waits for it any more.
                    None => connection.consumed(id, bytes.len()),
                },
                Event::Trailers {
                    stream: id,
                    oversize,
                } => {
                    let head = self.head(&mut connection, oversize);
                    drop(connection);
                    if let Some(known) = stream(id) {
                        known.ended_with(head);
                    }
                }
                Event::Reset {
                    stream: id, code, ..
                } => {
                    drop(connection);
                    if let Some(known) = stream(id) {
                        known.kill(code);
                    }
                }
                Event::Settings | Event::GoAway { .. } => {
                    self.session.settled();
                    drop(connection);
                    self.owner.room();
                }
                Event::Pong { .. } => {}
            }
        }
    }

    fn head(
        &mut self,
        connection: &mut narthex_wire::h2::Connection,
        oversize: Option<Oversize>,
    ) -> Head {
        let (mut bytes, mut index) = self.owner.memory();
        connection.take_head(&mut bytes, &mut index);
        Head {
            bytes,
            index,
            oversize,
        }
    }

    /// The peer has broken the rules: what is under way ends, and the last word is in `out`.
    fn fatal(&mut self, fatal: Fatal) {
        tracing::debug!(
            code = fatal.code.word(),
            why = fatal.why,
            "an HTTP/2 connection is ended"
        );
        self.owner.broken(fatal);
        self.ended = true;
        self.broken = true;
        self.session.kill(fatal.code);
    }

    /// Tells those that wait for room, the most urgent first.
    fn wake_writers(&self) {
        loop {
            let next = self.session.connection().next_writable();
            let Some(id) = next else { return };
            if let Some(stream) = self.session.streams.borrow().get(&id) {
                stream.writable();
            }
        }
    }

    /// Writes what there is.
    fn flush(&mut self, now: u64) -> io::Result<()> {
        let mut connection = self.session.connection();
        while self.sent < connection.out.len() {
            let waiting = connection.out.get(self.sent..).unwrap_or_default();
            match self.socket.try_send(waiting) {
                Ok(n) => {
                    self.sent += n;
                    self.flushed = self.flushed.saturating_add(n as u64);
                    self.blocked = None;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // What is left moves to the front, or the bound would count what is gone.
                    connection.out.drain(..self.sent);
                    self.sent = 0;
                    self.blocked.get_or_insert(now);
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
        let tick = self.session.connection().next_tick();
        let due = tick.is_some_and(|due| due <= now);
        if (due || self.is_stuck(now)) && !self.broken && self.still_reads() {
            self.session.connection().moved(now);
            self.blocked = self.blocked.map(|_| now);
        }
        loop {
            let event = {
                let mut connection = self.session.connection();
                if connection.next_tick().is_none_or(|due| due > now) {
                    break;
                }
                connection.tick(now)
            };
            let Some(event) = event else { break };
            if let Event::Reset { stream, code, .. } = event
                && let Some(known) = self.session.streams.borrow().get(&stream)
            {
                known.kill(code);
            }
        }
        let fatal = self.session.connection().fatal();
        if let Some(fatal) = fatal.filter(|_| !self.broken) {
            self.fatal(fatal);
        }
        if self.session.streams() > 0 {
            self.idle_since = now;
        }
        match self.going {
            Going::No if self.owner.must_go(&self.session, self.idle_since(), now) => {
                self.session.connection().drain();
                self.going = Going::Said(now.saturating_add(self.owner.last_round()));
            }
            Going::Said(due) if now >= due => {
                self.session.connection().goaway(ErrorCode::NO_ERROR);
                self.going = Going::Last;
            }
            _ => {}
        }
    }

    fn idle_since(&self) -> Option<u64> {
        (self.session.streams() == 0).then_some(self.idle_since)
    }

    /// Nothing is left to be done. A peer that has heard the first GOAWAY only may still send a request.
    fn is_over(&self, now: u64) -> bool {
        let over = match self.going {
            Going::No => false,
            Going::Said(due) => now >= due,
            Going::Last => true,
        };
        self.session.streams() == 0 && (self.ended || over)
    }

    /// When to look again at the latest.
    fn next_time(&self, now: u64) -> u64 {
        let tick = self.session.connection().next_tick();
        let due = match self.going {
            Going::No => self.owner.next_look(self.idle_since()),
            Going::Said(due) => Some(due),
            Going::Last => None,
        };
        let times = [tick, due, self.unblocked_by()].into_iter().flatten();
        times.fold(now.saturating_add(LOOK), u64::min).max(1)
    }
}

//! HTTP/2 to one server: this core's connections, each of which carries many requests. A request takes a stream of one that has
//! room; if none has, one more is opened, and those who come meanwhile wait for it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;

use narthex_mux::{Driver, Head, MuxStream, Owner, Session};
use narthex_net::rt::{self, TaskKey};
use narthex_net::stream::{Stream, Virtual};
use narthex_wire::h1::scan::HeadLimits;
use narthex_wire::h2::{Bounds, ErrorCode, Fatal, Role};

use crate::gate::Permit;

/// Of a response's head: what `limits response-head` and `response-fields` are by default.
const HEAD: HeadLimits = HeadLimits {
    line: 64 << 10,
    field: 64 << 10,
    head: 64 << 10,
    fields: 200,
};

/// What the windows of a connection's streams may grow by, together, for bodies that flow. Bytes.
const GROWTH: u32 = 8 << 20;

/// Tasks that are remembered as waiting, those included that have given up; more, and all look again.
const MOST_WAITING: usize = 4_096;

/// A server's connections.
#[derive(Default)]
pub(super) struct Sessions {
    /// With how each is encrypted.
    open: RefCell<Vec<(Rc<Session>, u64)>>,
    /// The server has chosen HTTP/2 when it could.
    agreed: Cell<bool>,
    /// One is being opened.
    opening: Cell<bool>,
    /// Tasks that wait for a stream.
    waiting: RefCell<Vec<TaskKey>>,
    retired: Cell<bool>,
}

/// A request's stream; dropping it gives its place back, and ends it if it has not ended.
pub struct UpstreamStream(Rc<MuxStream>);

impl std::fmt::Debug for UpstreamStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UpstreamStream")
    }
}

impl std::ops::Deref for UpstreamStream {
    type Target = Rc<MuxStream>;

    fn deref(&self) -> &Rc<MuxStream> {
        &self.0
    }
}

impl Drop for UpstreamStream {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Sessions {
    /// A stream of a connection that has room, and whether that has carried requests before. The fullest first, so that the
    /// others become idle.
    pub(super) fn stream(&self, encryption: u64) -> Option<(UpstreamStream, Stream, bool)> {
        let open = self.open.borrow();
        let alike = open.iter().filter(|(_, e)| *e == encryption);
        let with_room = alike.map(|(s, _)| s).filter(|s| s.room() > 0);
        let session = with_room.max_by_key(|s| s.streams())?;
        let stream = session.reserve();
        let bytes = Stream::of_many(Rc::clone(&stream) as Rc<dyn Virtual>);
        Some((UpstreamStream(stream), bytes, session.requests() > 0))
    }

    /// May the caller open a connection? Then it does so as long as the result lives, and others wait.
    pub(super) fn begin_opening(self: &Rc<Self>) -> Option<Opening> {
        (!self.opening.replace(true)).then(|| Opening(Rc::clone(self)))
    }

    /// Completes when there may be room, or somebody has given up opening a connection.
    pub(super) fn poll_news(&self, seen: &mut bool) -> Poll<()> {
        if std::mem::replace(seen, true) {
            return Poll::Ready(());
        }
        if self.waiting.borrow().len() >= MOST_WAITING {
            self.tell();
        }
        self.waiting
            .borrow_mut()
            .push(rt::current_core().current_task());
        Poll::Pending
    }

    /// Has the server chosen HTTP/2 when it could?
    pub(super) fn was_agreed(&self) -> bool {
        self.agreed.get()
    }

    /// It has, or has not.
    pub(super) fn agree(&self, h2: bool) {
        self.agreed.set(h2);
    }

    /// Has one of them room?
    pub(super) fn has_room(&self, encryption: u64) -> bool {
        let open = self.open.borrow();
        open.iter().any(|(s, e)| *e == encryption && s.room() > 0)
    }

    /// Is there any?
    pub(super) fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }

    /// Serves a connection that was just made, as a task of its own. Nobody opens another until the server has said what it allows on this one.
    pub(super) fn start(
        self: &Rc<Self>,
        socket: Stream,
        permits: [Permit; 2],
        idle_ms: u64,
        encryption: u64,
        opening: Option<Opening>,
    ) {
        let most = Bounds::default();
        let all = most.streams.saturating_mul(most.stream_window.0);
        let bounds = Bounds {
            head: HEAD,
            growth: GROWTH,
            // One client that does not read must not keep the answers of others from coming: each stream's own window is what
            // stops it, never that of all.
            connection_window: (all.saturating_add(GROWTH), all.saturating_add(GROWTH)),
            ..most
        };
        let session = Session::new(Role::Client, bounds);
        self.open
            .borrow_mut()
            .push((Rc::clone(&session), encryption));
        let sessions = Rc::clone(self);
        rt::spawn(async move {
            let listed = Listed {
                sessions: Rc::clone(&sessions),
                session: Rc::clone(&session),
            };
            let owner = Ours {
                sessions,
                session: Rc::clone(&session),
                idle_ms,
                opening: Cell::new(opening),
            };
            Driver::new(&session, &socket, owner).run(Vec::new()).await;
            drop(listed);
            // The socket is closed before its place is free.
            drop(socket);
            drop(permits);
        });
    }

    /// Ends a connection that carries nothing; false if there is none.
    pub(super) fn give_up_idle(&self) -> bool {
        let open = self.open.borrow();
        let idle = open
            .iter()
            .map(|(session, _)| session)
            .find(|s| s.streams() == 0 && s.room() > 0 && s.requests() > 0);
        if let Some(session) = idle {
            session.go(ErrorCode::NO_ERROR);
        }
        idle.is_some()
    }

    /// No further requests.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        for (session, _) in self.open.borrow().iter() {
            session.look();
        }
    }

    fn tell(&self) {
        for task in self.waiting.borrow_mut().drain(..) {
            rt::current_core().wake(task);
        }
    }
}

/// Somebody opens a connection.
pub(super) struct Opening(Rc<Sessions>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.tell();
    }
}

/// A connection, among the others as long as it lives.
struct Listed {
    sessions: Rc<Sessions>,
    session: Rc<Session>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let session = &self.session;
        self.sessions
            .open
            .borrow_mut()
            .retain(|(s, _)| !Rc::ptr_eq(s, session));
        self.sessions.tell();
    }
}

/// What a connection has to know of us.
struct Ours {
    sessions: Rc<Sessions>,
    session: Rc<Session>,
    idle_ms: u64,
    /// Until the server's settings have come.
    opening: Cell<Option<Opening>>,
}

impl Owner for Ours {
    fn request(&mut self, stream: Rc<MuxStream>, _: Head) {
        // A server that opens a stream has been refused by the codec: push is off.
        stream.abort(ErrorCode::PROTOCOL_ERROR);
        stream.release();
    }

    fn must_go(&self, session: &Session, idle_since: Option<u64>, now: u64) -> bool {
        self.sessions.retired.get()
            || session.is_going()
            || idle_since.is_some_and(|since| now.saturating_sub(since) >= self.idle_ms)
    }

    fn next_look(&self, idle_since: Option<u64>) -> Option<u64> {
        idle_since.map(|since| since.saturating_add(self.idle_ms))
    }

    fn broken(&self, fatal: Fatal) {
        tracing::warn!(
            code = fatal.code.word(),
            why = fatal.why,
            "a server breaks the rules of HTTP/2; its connection is closed"
        );
    }

    /// A server starts no streams that could be under way.
    fn last_round(&self) -> u64 {
        0
    }

    fn room(&self) {
        if self.session.is_settled() || self.session.is_going() {
            drop(self.opening.take());
        }
        self.sessions.tell();
    }
}

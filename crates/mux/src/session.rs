//! What a connection's task and its streams share.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Poll;

use narthex_net::rt::{self, TaskKey};
use narthex_wire::h2::{Bounds, Connection, ErrorCode, Role, StreamId};

use crate::stream::MuxStream;

/// A connection and its streams.
pub struct Session {
    connection: RefCell<Connection>,
    pub(crate) streams: RefCell<HashMap<StreamId, Rc<MuxStream>>>,
    /// The connection's task.
    pub(crate) task: Cell<TaskKey>,
    /// It has been told that there is something to write.
    pub(crate) told: Cell<bool>,
    /// Streams that are about to be opened.
    reserved: Cell<usize>,
    /// A place has come free, and the owner has not been told.
    pub(crate) freed: Cell<bool>,
    /// Nothing moves any more.
    over: Cell<bool>,
    /// Tasks that wait for the peer's first word. At most one stream is opened before that, so there are few.
    unsettled: RefCell<Vec<TaskKey>>,
}

impl Session {
    /// Of a connection that was just made; its first words wait to be sent.
    pub fn new(role: Role, bounds: Bounds) -> Rc<Self> {
        Rc::new(Self {
            connection: RefCell::new(Connection::new(role, bounds, rt::now_ms())),
            streams: RefCell::default(),
            task: Cell::new(TaskKey::NONE),
            told: Cell::new(false),
            reserved: Cell::new(0),
            freed: Cell::new(false),
            over: Cell::new(false),
            unsettled: RefCell::default(),
        })
    }

    /// The codec's side of it.
    pub(crate) fn connection(&self) -> RefMut<'_, Connection> {
        self.connection.borrow_mut()
    }

    /// There is something in `out`, or there may be: the task writes it at the end of this turn, with what others have.
    pub(crate) fn tell(&self) {
        if !self.told.replace(true) {
            rt::current_core().wake(self.task.get());
        }
    }

    /// Looks at its clock and its orders again.
    pub fn look(&self) {
        self.tell();
    }

    /// How many requests may be sent on it now, those left out that are about to be: none of a connection that ends.
    pub fn room(&self) -> usize {
        let connection = self.connection.borrow();
        if self.over.get() || connection.is_going() {
            return 0;
        }
        let free = connection.may_open().saturating_sub(self.reserved.get());
        if connection.is_settled() {
            return free;
        }
        // What a server allows is not known yet: one, which every server that answers at all must take.
        free.min(1_usize.saturating_sub(connection.streams() + self.reserved.get()))
    }

    /// Streams that are not released.
    pub fn streams(&self) -> usize {
        self.connection.borrow().streams()
    }

    /// Requests taken or sent so far.
    pub fn requests(&self) -> u64 {
        self.connection.borrow().requests()
    }

    /// Is it of no use any more: it has ended, or takes no more streams?
    pub fn is_going(&self) -> bool {
        self.over.get() || self.connection.borrow().is_going()
    }

    /// No further streams (second step of an end, or at once of the side that asks).
    pub fn go(&self, code: ErrorCode) {
        self.connection().goaway(code);
        self.tell();
    }

    /// A stream for a request that is about to be sent.
    pub fn reserve(self: &Rc<Self>) -> Rc<MuxStream> {
        self.reserved.set(self.reserved.get() + 1);
        MuxStream::unopened(self)
    }

    /// There is room for another stream: who waits for it is told at the end of this turn.
    pub(crate) fn free(&self) {
        self.freed.set(true);
        self.tell();
    }

    /// The peer has said what it allows.
    pub fn is_settled(&self) -> bool {
        self.connection.borrow().is_settled()
    }

    /// Does the peer offer extended CONNECT (RFC 8441)? Pending until it has said what it allows; false of a connection that is over.
    pub(crate) fn poll_offers_connect(&self) -> Poll<bool> {
        let connection = self.connection.borrow();
        if self.over.get() || connection.is_settled() {
            return Poll::Ready(!self.over.get() && connection.peer_has_extended_connect());
        }
        let task = rt::current_core().current_task();
        let mut waiting = self.unsettled.borrow_mut();
        if !waiting.contains(&task) {
            waiting.push(task);
        }
        Poll::Pending
    }

    /// The peer has said what it allows, or never will.
    pub(crate) fn settled(&self) {
        for task in self.unsettled.take() {
            rt::current_core().wake(task);
        }
    }

    /// A reserved stream has been opened, or will not be.
    pub(crate) fn unreserve(&self) {
        self.reserved.set(self.reserved.get().saturating_sub(1));
    }

    /// Sends a request's head. `None` if there is no room any more.
    pub(crate) fn open(
        &self,
        stream: &Rc<MuxStream>,
        block: &[u8],
        end: bool,
        head_request: bool,
    ) -> Option<StreamId> {
        if self.over.get() {
            return None;
        }
        let now = rt::now_ms();
        let id = self.connection().open(block, end, head_request, now)?;
        self.streams.borrow_mut().insert(id, Rc::clone(stream));
        self.tell();
        Some(id)
    }

    /// A stream's work is over.
    pub(crate) fn release(&self, stream: StreamId) {
        if self.streams.borrow_mut().remove(&stream).is_some() {
            self.connection().release(stream);
            self.free();
        }
    }

    /// Nothing more comes: what has not come whole never will.
    pub(crate) fn cut(&self) {
        for stream in self.streams.borrow().values() {
            if !stream.has_ended() {
                stream.kill(ErrorCode::CANCEL);
            }
        }
    }

    /// Neither it nor its streams move any more.
    pub(crate) fn kill(&self, code: ErrorCode) {
        self.over.set(true);
        self.settled();
        for stream in self.streams.borrow().values() {
            stream.kill(code);
        }
    }
}

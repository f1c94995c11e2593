//! Streams: a small slab, and their numbers in order.

use super::conn::StreamId;
use super::flow::Receive;
use super::priority::Priority;

/// How a stream was ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// By the peer.
    Remote,
    /// By us.
    Local,
}

/// A stream that has not been released.
#[derive(Debug)]
pub struct Stream {
    pub id: StreamId,
    pub reset: Option<Reset>,
    /// The peer's message has ended.
    pub received: bool,
    /// Ours has.
    pub sent: bool,
    /// We have sent a head (server); the final head has come (client).
    pub answered: bool,
    /// Client: the response has no body, whatever its fields say.
    pub bodyless: bool,
    /// Client: the response to a HEAD.
    pub head_request: bool,
    pub window: Receive,
    /// What we may still send. Negative after the peer made its windows smaller.
    pub send: i64,
    /// Handed out and not yet given back.
    pub held: usize,
    /// What is still to come by `content-length`.
    pub expected: Option<u64>,
    pub priority: Priority,
    /// Its place among streams of one urgency.
    pub turn: u64,
    /// `data` was refused.
    pub wants: bool,
    /// It has been named by `next_writable`: bytes that it may be expected to write.
    pub granted: usize,
    /// Since when it wants without progress, and how much it has progressed since.
    pub stalled: Option<u64>,
    pub progress: u64,
    /// What the connection had sent when it was last asked whether that holds the stream up.
    pub seen_sent: u64,
}

impl Stream {
    /// Both messages have ended, or it was reset.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.reset.is_some() || (self.received && self.sent)
    }

    /// May we send on it?
    #[inline]
    pub fn can_send(&self) -> bool {
        !self.sent && self.reset.is_none()
    }

    /// May the body have `n` more bytes, and end with them? It is as long as its head said (RFC 9113 8.1.1); known before the first
    /// byte of a frame is handed out.
    #[inline]
    pub fn fits(&self, n: usize, end: bool) -> bool {
        let n = n as u64;
        match self.expected {
            Some(expected) => n <= expected && (!end || n == expected),
            None => !self.bodyless || n == 0,
        }
    }

    /// May we receive on it?
    #[inline]
    pub fn can_receive(&self) -> bool {
        !self.received && self.reset.is_none()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    /// Number and slot, by number.
    order: Vec<(StreamId, u32)>,
}

impl Streams {
    /// How many.
    #[inline]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    fn place(&self, id: StreamId) -> Option<(usize, usize)> {
        // The newest is asked for most.
        if let Some(&(last, slot)) = self.order.last()
            && last == id
        {
            return Some((self.order.len() - 1, slot as usize));
        }
        let at = self.order.binary_search_by_key(&id, |o| o.0).ok()?;
        self.order.get(at).map(|o| (at, o.1 as usize))
    }

    #[inline]
    pub fn get(&self, id: StreamId) -> Option<&Stream> {
        self.slots.get(self.place(id)?.1)?.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let slot = self.place(id)?.1;
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Adds one, of a number higher than all others.
    pub fn insert(&mut self, stream: Stream) {
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
        };
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(stream);
            self.order.push((id, slot));
        }
    }

    pub fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let (at, slot) = self.place(id)?;
        self.order.remove(at);
        self.free.push(slot as u32);
        self.slots.get_mut(slot)?.take()
    }

    /// In the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.order
            .iter()
            .filter_map(|o| self.slots.get(o.1 as usize)?.as_ref())
    }

    /// In no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten()
    }
}

//! What we send on streams: heads, DATA as windows and urgency allow, and whose turn it is (RFC 9218).

use super::budget::most;
use super::conn::{Connection, StreamId};
use super::frame::{self, Header, flag, kind};

/// What one of several streams of the same urgency, that share, sends in its turn.
const TURN: usize = 16 << 10;

impl Connection {
    /// Sends an encoded block ([`super::encode`]): a response's head, informational ones too, or trailers (`end`). Client: trailers
    /// only. False if the stream cannot send any more.
    pub fn head(&mut self, stream: StreamId, block: &[u8], end: bool, now: u64) -> bool {
        let _ = now;
        if self.fatal.is_some() {
            return false;
        }
        let Some(s) = self.streams.get_mut(stream).filter(|s| s.can_send()) else {
            return false;
        };
        // A client that gives up between an informational answer and the final one has cost as much as one that had none.
        if self.role == super::Role::Server && !super::encode::is_informational(block) {
            s.answered = true;
        }
        s.sent = end;
        // Our encoder has no table; who allows less than the default is told so, once.
        let first = std::mem::take(&mut self.peer.table_update).then_some(0x20);
        let before = self.out.len();
        frame::block(
            stream,
            first,
            block,
            end,
            self.peer.max_payload,
            &mut self.out,
        );
        self.waiting.wrote(before, self.out.len());
        if end {
            self.unwant(stream);
        }
        true
    }

    /// Sends as many of `bytes` as the windows, `out`'s bound and more urgent streams allow; `end` counts when all were taken.
    /// Fewer than `bytes.len()`: `next_writable` will name the stream when there is room. 0 if the stream is over.
    pub fn data(&mut self, stream: StreamId, bytes: &[u8], end: bool, now: u64) -> usize {
        if bytes.is_empty() {
            if end {
                self.end(stream, now);
            }
            return 0;
        }
        let Some(s) = self.streams.get(stream).filter(|s| s.can_send()) else {
            return 0;
        };
        if self.fatal.is_some() {
            return 0;
        }
        let mut most = self.free(stream);
        if s.granted > 0 {
            // Its turn: nobody holds it up, but what it was given is meant for others too.
            if self.wanting > 1 {
                most = most.min(s.granted);
            }
        } else if self.wanting > usize::from(s.wants) {
            let key = (s.priority.urgency, s.turn);
            let mut others = self.streams.iter().filter(|o| o.wants && o.send > 0);
            if others.any(|o| o.id != stream && (o.priority.urgency, o.turn) < key) {
                most = 0;
            }
        }
        self.ungrant(stream);
        let n = bytes.len().min(most);
        let ends = end && n == bytes.len();
        let written = bytes.get(..n).unwrap_or_default();
        let before = self.budgets.sent;
        self.write_data(stream, written, ends);
        let frames = self.budgets.sent.saturating_sub(before);
        self.budgets
            .pings
            .earn(now, u32::try_from(frames).unwrap_or(u32::MAX));
        self.account(stream, n, n == bytes.len(), ends, now);
        n
    }

    /// DATA frames.
    #[inline]
    fn write_data(&mut self, stream: StreamId, bytes: &[u8], end: bool) {
        let before = self.out.len();
        let max = self.peer.max_payload.clamp(1, frame::MAX_PAYLOAD);
        let mut rest = bytes;
        self.out
            .reserve(bytes.len() + (bytes.len() / max + 1) * frame::HEADER);
        while !rest.is_empty() {
            let (now, after) = rest.split_at(rest.len().min(max));
            rest = after;
            let header = Header {
                len: now.len(),
                kind: kind::DATA,
                flags: if end && rest.is_empty() {
                    flag::END_STREAM
                } else {
                    0
                },
                stream,
            };
            self.out.extend_from_slice(&header.bytes());
            self.out.extend_from_slice(now);
            self.budgets.sent += 1;
        }
        self.waiting.wrote(before, self.out.len());
    }

    /// After `n` bytes were sent, all that was offered or not.
    fn account(&mut self, stream: StreamId, n: usize, all: bool, ends: bool, now: u64) {
        // Never more than a window.
        let sent = i64::try_from(n).unwrap_or(i64::MAX);
        self.send -= sent;
        self.sent += n as u64;
        self.turn += 1;
        let turn = self.turn;
        let stall_bytes = u64::from(self.bounds.stall_bytes);
        let shares = !self.peer.prioritizes;
        let Some(s) = self.streams.get_mut(stream) else {
            return;
        };
        s.send -= sent;
        s.sent = ends;
        if (shares || s.priority.incremental) && n > 0 {
            s.turn = turn;
        }
        let wanted = s.wants;
        s.wants = !all;
        s.progress += n as u64;
        if all || s.send > 0 {
            // What others hold up is not the peer's fault; their progress is the connection's.
            (s.stalled, s.progress) = (None, 0);
        } else if s.stalled.is_none() || s.progress >= stall_bytes {
            (s.stalled, s.progress) = (Some(now), 0);
        }
        self.wanting = self.wanting + usize::from(!all) - usize::from(wanted);
        self.progress += n as u64;
        if self.wanting == 0 {
            self.stalled = None;
        } else if self.stalled.is_none() || self.progress >= stall_bytes {
            (self.stalled, self.progress) = (Some(now), 0);
        }
    }

    /// Ends the message that we send, if it has not ended: an empty DATA.
    pub fn end(&mut self, stream: StreamId, now: u64) {
        let _ = now;
        if self.fatal.is_some() {
            return;
        }
        let Some(s) = self.streams.get_mut(stream).filter(|s| s.can_send()) else {
            return;
        };
        s.sent = true;
        self.unwant(stream);
        let before = self.out.len();
        frame::write(kind::DATA, flag::END_STREAM, stream, &[], &mut self.out);
        self.waiting.wrote(before, self.out.len());
        self.budgets.sent += 1;
    }

    /// How many bytes `data` may be offered now; 0 also if the stream is over. One whose `data` was refused has to be named by
    /// `next_writable` first: whoever tried again at once could be held up by a more urgent one for ever, and keep that from its
    /// turn.
    pub fn writable(&self, stream: StreamId) -> usize {
        match self.streams.get(stream) {
            Some(s) if s.wants && s.granted == 0 => 0,
            _ => self.free(stream),
        }
    }

    /// Is it the connection's other streams that hold up what this one wants to send, not its own window? To be asked once in a
    /// while: the connection must have moved since, by what each of those that wait is to move (or a peer could keep all of them
    /// for the price of one).
    pub fn is_held_up(&mut self, stream: StreamId) -> bool {
        let each = u64::from(self.bounds.stall_bytes);
        let enough = each.saturating_mul(self.wanting as u64);
        let sent = self.sent;
        let Some(s) = self.streams.get_mut(stream) else {
            return false;
        };
        let moved = sent - std::mem::replace(&mut s.seen_sent, sent);
        s.wants && s.send > 0 && moved >= enough
    }

    /// How many bytes `data` would take now, were the stream alone.
    fn free(&self, stream: StreamId) -> usize {
        let Some(s) = self.streams.get(stream).filter(|s| s.can_send()) else {
            return 0;
        };
        let window = usize::try_from(s.send.min(self.send)).unwrap_or_default();
        window.min(self.room())
    }

    /// Room for DATA in `out`.
    #[inline]
    fn room(&self) -> usize {
        self.bounds.out.saturating_sub(self.out.len())
    }

    /// Of the streams whose `data` was refused and that could write now, the most urgent (RFC 9218). Those named are expected to
    /// call `data` (or to be released), and only as many are named as there is room for. To be asked until `None` after every turn
    /// in which something was received, written, or taken from `out`.
    pub fn next_writable(&mut self) -> Option<StreamId> {
        // What was named before and did not write, though everything has left, does not hold up the others.
        if !self.naming && self.granted > 0 && self.out.is_empty() {
            self.granted = 0;
            self.streams.iter_mut().for_each(|s| s.granted = 0);
        }
        let named = self.name_one();
        self.naming = named.is_some();
        named
    }

    fn name_one(&mut self) -> Option<StreamId> {
        if self.wanting == 0 || self.send <= 0 || self.granted >= self.room() {
            return None;
        }
        let room = self.room() - self.granted;
        let shares = !self.peer.prioritizes;
        let s = self
            .streams
            .iter_mut()
            .filter(|s| s.wants && s.granted == 0 && s.send > 0)
            .min_by_key(|s| (s.priority.urgency, s.turn))?;
        let most = if shares || s.priority.incremental {
            room.min(TURN)
        } else {
            room
        };
        s.granted = usize::try_from(s.send).unwrap_or(usize::MAX).min(most);
        self.granted += s.granted;
        Some(s.id)
    }

    fn ungrant(&mut self, stream: StreamId) {
        if let Some(s) = self.streams.get_mut(stream) {
            self.granted = self.granted.saturating_sub(std::mem::take(&mut s.granted));
        }
    }

    /// The stream will not write any more.
    pub(super) fn unwant(&mut self, stream: StreamId) {
        self.ungrant(stream);
        if let Some(s) = self.streams.get_mut(stream) {
            self.wanting = self.wanting.saturating_sub(usize::from(s.wants));
            s.wants = false;
            s.stalled = None;
        }
        if self.wanting == 0 {
            self.stalled = None;
        }
    }

    /// How many WINDOW_UPDATE a peer may send.
    pub(super) fn window_updates_allowed(&self) -> u64 {
        most::WINDOW_UPDATES.saturating_add(
            self.budgets
                .sent
                .saturating_mul(most::WINDOW_UPDATES_PER_DATA),
        )
    }
}

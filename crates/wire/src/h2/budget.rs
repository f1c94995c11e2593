//! What a peer may spend: everything that costs us something and brings nothing forward is counted (RFC 9113 10.5).

/// Milliseconds of a window.
const WINDOW: u64 = 10_000;

/// Events in the current window, and in all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    since: u64,
    spent: u32,
    earned: u32,
    total: u32,
}

impl Rate {
    fn roll(&mut self, now: u64) {
        if now.saturating_sub(self.since) >= WINDOW {
            (self.since, self.spent, self.earned) = (now, 0, 0);
        }
    }

    /// One more. False if that is beyond `most` (and what was earned) in 10 s, or beyond `in_all`.
    #[must_use]
    pub fn spend(&mut self, now: u64, most: u32, in_all: u32) -> bool {
        self.roll(now);
        self.spent = self.spent.saturating_add(1);
        self.total = self.total.saturating_add(1);
        self.spent <= most.saturating_add(self.earned) && self.total <= in_all
    }

    /// The peer did something that allows for `n` more, in this window.
    pub fn earn(&mut self, now: u64, n: u32) {
        self.roll(now);
        self.earned = self.earned.saturating_add(n);
    }
}

/// Bounds of docs/http2.md.
pub mod most {
    /// Resets by the client before an answer, in 10 s.
    pub const RESETS: u32 = 100;
    /// And in all.
    pub const RESETS_IN_ALL: u32 = 1000;
    /// Resets that the peer provokes us to send, in 10 s.
    pub const PROVOKED: u32 = 50;
    /// And in all.
    pub const PROVOKED_IN_ALL: u32 = 500;
    /// Streams above the limit while our SETTINGS may not have arrived, or while given up ones have not come free, in 10 s.
    pub const EARLY_REFUSALS: u32 = 200;
    /// SETTINGS in 10 s.
    pub const SETTINGS: u32 = 10;
    /// PING in 10 s, and one more per DATA that we have sent: peers measure with them what a way can hold (gRPC's do so all the time
    /// that a message flows).
    pub const PINGS: u32 = 20;
    /// Frames that change nothing, in 10 s: PRIORITY, PRIORITY_UPDATE, unknown ones, those for streams that are gone.
    pub const NOISE: u32 = 100;
    /// More of them per stream.
    pub const NOISE_PER_STREAM: u32 = 10;
    /// Frames in a row that are empty and end nothing.
    pub const EMPTY: u32 = 10;
    /// WINDOW_UPDATE in all.
    pub const WINDOW_UPDATES: u64 = 100;
    /// More of them per DATA that we have sent, and per stream (clients open each one's window).
    pub const WINDOW_UPDATES_PER_DATA: u64 = 10;
    /// CONTINUATION frames of a block.
    pub const CONTINUATIONS: u32 = 8;
    /// Control frames that wait for a peer that does not read.
    pub const WAITING_FRAMES: u32 = 1000;
    /// Their bytes.
    pub const WAITING_BYTES: usize = 64 << 10;
}

/// All counters of a connection.
#[derive(Debug, Default)]
pub struct Budgets {
    /// Resets by the client before an answer.
    pub resets: Rate,
    /// Resets that the peer provoked.
    pub provoked: Rate,
    /// Streams above the limit before our SETTINGS were acknowledged.
    pub refusals: Rate,
    /// SETTINGS.
    pub settings: Rate,
    /// PING.
    pub pings: Rate,
    /// What changes nothing.
    pub noise: Rate,
    /// Empty frames in a row.
    pub empty: u32,
    /// WINDOW_UPDATE in all.
    pub window_updates: u64,
    /// What allows for them.
    pub sent: u64,
}

/// Control frames in `out`. What the session has taken is known by how `out` got shorter; counted in two epochs, so at most twice
/// of what waits is held to wait.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Length of `out` when we last wrote.
    len: usize,
    /// Bytes that have left, ever.
    left: u64,
    /// When so many have left, all of the older epoch is gone.
    boundary: u64,
    frames: (u32, u32),
    bytes: (usize, usize),
}

impl Waiting {
    /// Before and after something is written: `out`'s length. `control` frames of it.
    fn sync(&mut self, len: usize) {
        self.left += self.len.saturating_sub(len) as u64;
        self.len = len;
        if self.left >= self.boundary {
            self.frames = (0, self.frames.0);
            self.bytes = (0, self.bytes.0);
            self.boundary = self.left + len as u64;
        }
    }

    /// DATA or a head has been written.
    #[inline]
    pub fn wrote(&mut self, before: usize, after: usize) {
        self.sync(before);
        self.len = after;
    }

    /// A control frame has been written. False if too many wait.
    #[must_use]
    pub fn wrote_control(&mut self, before: usize, after: usize) -> bool {
        self.wrote(before, after);
        self.frames.0 += 1;
        self.bytes.0 += after.saturating_sub(before);
        self.frames.0 + self.frames.1 <= most::WAITING_FRAMES
            && self.bytes.0 + self.bytes.1 <= most::WAITING_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_and_in_all() {
        let mut rate = Rate::default();
        for _ in 0..3 {
            assert!(rate.spend(5, 3, 7));
        }
        assert!(!rate.spend(5, 3, 7));
        rate.earn(6, 2);
        assert!(rate.spend(6, 3, 7));
        assert!(rate.spend(20_000, 3, 7));
        assert!(rate.spend(20_000, 3, 7));
        // The eighth in all.
        assert!(!rate.spend(40_000, 3, 7));
    }

    #[test]
    fn what_has_left_does_not_wait() {
        let mut waiting = Waiting::default();
        let mut len = 0;
        for i in 0..100_000 {
            let before = len;
            len += 17;
            assert!(waiting.wrote_control(before, len), "{i}");
            // A peer that reads: a bit later, never everything.
            if i % 400 == 399 {
                len = 17;
            }
        }
    }

    #[test]
    fn what_does_not_leave_is_bounded() {
        let mut waiting = Waiting::default();
        let mut n = 0;
        let mut len = 0;
        while waiting.wrote_control(len, len + 17) {
            len += 17;
            n += 1;
        }
        assert_eq!(n, most::WAITING_FRAMES);
    }

    #[test]
    fn a_peer_that_reads_a_byte_at_a_time_does_not_read() {
        let mut waiting = Waiting::default();
        let mut len = 0;
        let mut n = 0;
        while waiting.wrote_control(len, len + 17) {
            len += 16;
            n += 1;
            assert!(n < 3 * most::WAITING_FRAMES);
        }
    }
}

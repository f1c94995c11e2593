//! Flow control (RFC 9113 5.2): what a peer may still send, and what it is given back when. Windows grow for bodies that flow.

/// A receive window.
#[derive(Debug, Clone, Copy)]
pub struct Receive {
    /// What the peer may still send.
    available: u32,
    /// What it is to have when nothing is under way.
    size: u32,
    max: u32,
    /// Given back, not yet said.
    credit: u32,
    /// Given back since the window last grew.
    since_growth: u32,
}

impl Receive {
    /// Of a size, and how large it may become.
    pub fn new(size: u32, max: u32) -> Self {
        Self {
            available: size,
            size,
            max: max.max(size),
            credit: 0,
            since_growth: 0,
        }
    }

    /// The peer has sent `n`: false if it may not.
    #[inline]
    #[must_use]
    pub fn take(&mut self, n: usize) -> bool {
        match u32::try_from(n)
            .ok()
            .and_then(|n| self.available.checked_sub(n))
        {
            Some(left) => {
                self.available = left;
                true
            }
            None => false,
        }
    }

    /// `n` bytes are done with: what to say in a WINDOW_UPDATE now, if it is time: when half the window is to be given.
    #[inline]
    #[must_use]
    pub fn give(&mut self, n: usize) -> Option<u32> {
        let mut any = u32::MAX;
        self.give_within(n, &mut any)
    }

    /// The same; it grows by `growth` at most, from which that is taken.
    #[inline]
    #[must_use]
    pub fn give_within(&mut self, n: usize, growth: &mut u32) -> Option<u32> {
        let n = n as u32;
        self.credit = self.credit.saturating_add(n);
        self.since_growth = self.since_growth.saturating_add(n);
        if self.credit < self.size / 2 {
            return None;
        }
        // A whole window has gone through: it is too small for this body.
        if self.since_growth >= self.size && self.size < self.max {
            let more = (self.max - self.size).min(self.size).min(*growth);
            *growth -= more;
            self.credit = self.credit.saturating_add(more);
            self.size = self.size.saturating_add(more);
            self.since_growth = 0;
        }
        let said = self.credit;
        self.credit = 0;
        self.available = self.available.saturating_add(said);
        Some(said)
    }

    /// What the window is meant to be.
    pub fn size(&self) -> u32 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_was_given() {
        let mut window = Receive::new(1000, 4000);
        let (mut may, mut held) = (1000u64, 0u64);
        for i in 0..10_000usize {
            let n = (i * 37) % 700;
            if window.take(n) {
                assert!(n as u64 <= may);
                may -= n as u64;
                held += n as u64;
            } else {
                assert!(n as u64 > may);
            }
            let back = held / 2;
            held -= back;
            may += u64::from(window.give(back as usize).unwrap_or(0));
            assert!(may + held <= 4000);
        }
        assert_eq!(window.size(), 4000);
    }
}

//! What a request wants of the choice of its server.

use crate::local::Lease;

/// Servers remembered as tried; a request with more attempts forgets the oldest.
const TRIED: usize = 8;

/// What a cookie calls a server: keyed, so that it tells nobody where the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

/// What a request wants.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The servers of earlier attempts of the same request, avoided while another is available.
    pub tried: &'a Tried,
    /// Any random number.
    pub random: u64,
    /// What a hash chooses by.
    pub key: Option<u64>,
    /// The server it belongs to.
    pub server: Option<Tag>,
}

impl<'a> Wish<'a> {
    /// Any server will do.
    pub fn any(tried: &'a Tried, random: u64) -> Self {
        Self {
            tried,
            random,
            key: None,
            server: None,
        }
    }
}

/// The servers that a request has been given already.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    ids: [u64; TRIED],
    len: usize,
}

impl Tried {
    /// None yet.
    pub const NONE: Self = Self {
        ids: [0; TRIED],
        len: 0,
    };

    /// Notes the server of a lease.
    #[inline]
    pub fn add(&mut self, lease: &Lease) {
        if let Some(slot) = self.ids.get_mut(self.len % TRIED) {
            *slot = lease.endpoint().id();
        }
        self.len += 1;
    }

    /// Is this the first attempt?
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.len != 0 && self.ids.contains(&id)
    }
}

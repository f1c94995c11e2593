//! How an answer came about, for people and programs: `Cache-Status` (RFC 9211), the access log, metrics.

use narthex_cache::Why;
use narthex_wire::h1::encode;

use crate::client_head::ClientHead;
use crate::handle::Exchange;

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// From the cache, fresh for so many seconds more.
    Hit { ttl_s: i64 },
    /// From the cache, by another's fetch that was under way.
    Collapsed { ttl_s: i64 },
    /// From the cache, after the origin said that it is still good.
    Revalidated { ttl_s: i64 },
    /// From the cache, although stale.
    Stale { ttl_s: i64 },
    /// From the cache, although stale: the origin failed.
    StaleOnError { ttl_s: i64 },
    /// From the origin.
    Forwarded {
        why: Why,
        status: u16,
        /// It is stored; or why not.
        stored: Result<(), Why>,
    },
    /// `only-if-cached`, and it is not.
    NotCached,
}

impl Shown {
    /// One word for logs and metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hit { .. } => "hit",
            Self::Collapsed { .. } => "collapsed",
            Self::Revalidated { .. } => "revalidated",
            Self::Stale { .. } => "stale",
            Self::StaleOnError { .. } => "stale-on-error",
            Self::Forwarded { stored: Ok(()), .. } => "miss",
            Self::Forwarded { .. } => "pass",
            Self::NotCached => "not-cached",
        }
    }
}

impl Shown {
    /// The value of `Cache-Status`.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Narthex; ");
        match self {
            Self::Hit { ttl_s } => hit(ttl_s, "", out),
            Self::Collapsed { ttl_s } => hit(ttl_s, "; detail=collapsed", out),
            Self::Revalidated { ttl_s } => {
                out.extend_from_slice(b"fwd=stale; fwd-status=304; ");
                hit(ttl_s, "; detail=revalidated", out);
            }
            Self::Stale { ttl_s } => hit(ttl_s, "; detail=stale", out),
            Self::StaleOnError { ttl_s } => hit(ttl_s, "; detail=stale-if-error", out),
            Self::Forwarded { .. } | Self::NotCached => {}
        }
    }
}

fn hit(ttl_s: i64, more: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"hit; ttl=");
    if ttl_s < 0 {
        out.push(b'-');
    }
    encode::decimal(ttl_s.unsigned_abs(), out);
    out.extend_from_slice(more.as_bytes());
}

impl Exchange<'_> {
    /// Says how the answer came about, if the route wants it said.
    pub(crate) fn write_cache_status(&self, shown: Shown, to: &mut ClientHead<'_>) {
        if self.cache_rule().is_some_and(|r| r.status_field) {
            let mut value = Vec::with_capacity(64);
            shown.write(&mut value);
            to.line("Cache-Status", &value);
        }
    }
}

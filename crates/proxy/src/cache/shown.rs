//! How an answer came about, for people and programs: `Cache-Status` (RFC 9211), the access log, metrics.

use narthex_cache::Why;
use narthex_cache::policy::{CacheStatus, Forward};

use crate::client_head::ClientHead;
use crate::handle::Exchange;

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// From the cache, fresh for so many seconds more.
    Hit { ttl_s: i64 },
    /// From the cache on disk, fresh for so many seconds more.
    Disk { ttl_s: i64 },
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
    /// The origin was asked and gave no answer, and nothing stood in.
    NoAnswer,
}

impl Shown {
    /// Every word, for metrics.
    pub(crate) const WORDS: [&str; 9] = [
        "hit",
        "collapsed",
        "revalidated",
        "stale",
        "stale-on-error",
        "miss",
        "pass",
        "not-cached",
        "no-answer",
    ];

    /// Of the answer's body, everything came from the cache.
    pub(crate) fn is_from_cache(self) -> bool {
        !matches!(
            self,
            Self::Forwarded { .. } | Self::NotCached | Self::NoAnswer
        )
    }

    /// Of this slice and those before: how the first that was no hit came about.
    pub(crate) fn worse_than(self, before: Option<Self>) -> Self {
        match before {
            None | Some(Self::Hit { .. } | Self::Disk { .. }) => self,
            Some(before) => before,
        }
    }

    /// Why the origin's answer was not stored.
    pub(crate) fn refused(self) -> Option<Why> {
        match self {
            Self::Forwarded { stored, .. } => stored.err(),
            _ => None,
        }
    }

    /// One word for logs and metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hit { .. } | Self::Disk { .. } => "hit",
            Self::Collapsed { .. } => "collapsed",
            Self::Revalidated { .. } => "revalidated",
            Self::Stale { .. } => "stale",
            Self::StaleOnError { .. } => "stale-on-error",
            Self::Forwarded { stored: Ok(()), .. } => "miss",
            Self::Forwarded { .. } => "pass",
            Self::NotCached => "not-cached",
            Self::NoAnswer => "no-answer",
        }
    }
}

impl Shown {
    /// The value of `Cache-Status`.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        self.field().write(out);
    }

    fn field(self) -> CacheStatus {
        let none = CacheStatus::default();
        match self {
            Self::Hit { ttl_s } | Self::Stale { ttl_s } => CacheStatus {
                ttl_s: Some(ttl_s),
                ..none
            },
            Self::Disk { ttl_s } => CacheStatus {
                ttl_s: Some(ttl_s),
                detail: Some("disk"),
                ..none
            },
            Self::Collapsed { ttl_s } => CacheStatus {
                forward: Some(Forward::UriMiss),
                collapsed: true,
                ttl_s: Some(ttl_s),
                ..none
            },
            Self::Revalidated { ttl_s } => CacheStatus {
                forward: Some(Forward::Stale),
                forward_status: Some(304),
                stored: true,
                ttl_s: Some(ttl_s),
                ..none
            },
            Self::StaleOnError { ttl_s } => CacheStatus {
                ttl_s: Some(ttl_s),
                detail: Some(Why::Stale.word()),
                ..none
            },
            Self::Forwarded {
                why,
                status,
                stored,
            } => CacheStatus {
                forward: Some(why.forward()),
                forward_status: Some(status),
                stored: stored.is_ok(),
                detail: stored.err().map(Why::word),
                ..none
            },
            Self::NotCached | Self::NoAnswer => CacheStatus {
                forward: Some(Forward::UriMiss),
                ..none
            },
        }
    }
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

//! RFC 9111 and its relatives, without I/O: heads, rules and `now` in, a decision with its reason out.
//!
//! All times are Unix milliseconds; lifetimes and ages are whole seconds, at most [`FOREVER_S`].

mod asks;
pub mod cache_control;
mod choose;
pub mod date;
mod freshen;
mod invalidate;
mod lifetime;
mod lines;
mod precondition;
mod ranges;
mod slices;
mod status_field;
mod store;
mod structured;
#[cfg(test)]
mod suite;
pub mod surrogate;
#[cfg(test)]
pub(crate) mod testing;
mod why;

use narthex_config::model::CacheRule;
use narthex_message::{Head, ResponseFacts, Span};

pub use asks::asks;
pub use choose::{Failed, age_s, choose, serves_on_error, ttl_s};
pub use freshen::{ByHead, freshen, freshen_by_head};
pub use invalidate::{Target, invalidates, locations};
pub use precondition::{conditional, precondition};
pub use ranges::{
    MAX_RANGES, combine, completing, content_range, part_ranges, ranges, write_content_range,
};
pub use slices::{
    LENGTH_MAX, Piece, Slice, as_whole, continues, first_byte, keep_slice, pieces, same_version,
};
pub use status_field::{CacheStatus, Forward, write_age};
pub use store::{MAX_TAG, MAX_TAGS, loses_tags, store, store_post};
pub use why::Why;

/// Seconds that mean "longer than anybody waits" (RFC 9111 1.2.2).
pub const FOREVER_S: u32 = 1 << 31;

/// What a request wants of a cache. Made once per request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// It is a HEAD.
    pub head: bool,
    /// `no-cache`, or `Pragma: no-cache` without `Cache-Control`.
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `max-age`, in seconds.
    pub max_age: Option<u32>,
    /// `min-fresh`, in seconds.
    pub min_fresh: Option<u32>,
    /// `max-stale`, in seconds; without a value [`FOREVER_S`].
    pub max_stale: Option<u32>,
    /// `stale-if-error` of the request, in seconds.
    pub stale_if_error: Option<u32>,
    /// There is an `Authorization`. What is stored may be served all the same (RFC 9111 3.5 is about storing).
    pub authorization: bool,
    /// It has a condition (`If-None-Match` and its like, not `If-Range`).
    pub conditional: bool,
    /// It has a `Range`.
    pub range: bool,
}

/// What later decisions about a stored answer need. Small, made once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Meta {
    /// Status, never 304; 206 for a part.
    pub status: u16,
    /// When it was received (Unix ms).
    pub received_ms: u64,
    /// Its age then, in seconds (RFC 9111 4.2.3: corrected initial age).
    pub initial_age_s: u32,
    /// How long it is fresh, in seconds of age.
    pub lifetime_s: u32,
    /// `stale-while-revalidate`, in seconds beyond the lifetime.
    pub while_revalidate_s: u32,
    /// `stale-if-error`, in seconds beyond the lifetime.
    pub if_error_s: u32,
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage`: never stale.
    pub must_revalidate: bool,
    /// `no-cache`: asked each time.
    pub no_cache: bool,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// The lifetime is a guess (RFC 9111 4.2.2).
    pub heuristic: bool,
    /// `ETag` in the stored head; empty if there is none.
    pub etag: Span,
    /// `Last-Modified`, Unix seconds, if it is a date.
    pub last_modified_s: Option<u64>,
    /// `Date`, Unix seconds; when it was received if there is none.
    pub date_s: u64,
    /// Length of the whole representation, if known.
    pub length: Option<u64>,
    /// Of a 206: first and last byte that the body has.
    pub part: Option<(u64, u64)>,
}

/// What to do with an object that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Serve it.
    Fresh {
        /// Seconds, for `Age`.
        age_s: u32,
    },
    /// Serve it although it is stale.
    Stale {
        /// Seconds, for `Age`.
        age_s: u32,
        /// And ask the origin behind it (RFC 5861 3).
        revalidate: bool,
    },
    /// Ask the origin first, with the object's validators if it has any.
    Ask(Why),
}

/// An answer that is to be kept.
#[derive(Debug, PartialEq)]
pub struct Keep {
    /// What it means.
    pub meta: Meta,
    /// Its head as HTTP/1: status line, field lines, empty line. Without what concerns one connection or must not be stored, and
    /// without what every answer says anew: `Content-Length`, `Age`, and `Content-Range` of a 206. It always has a `Date`.
    pub head: Vec<u8>,
    /// Names in `Vary`, lower case, sorted, each once; empty if it does not vary.
    pub vary: Vec<Box<[u8]>>,
    /// Tags that it can be purged by.
    pub tags: Vec<Box<[u8]>>,
}

/// One exchange with the origin, as far as a cache cares.
#[derive(Clone, Copy)]
pub struct Exchanged<'a> {
    /// The request that the client sent.
    pub request: Head<'a>,
    /// What it asked.
    pub asked: &'a Asked,
    /// The final response.
    pub response: Head<'a>,
    /// What the validator says of it.
    pub facts: &'a ResponseFacts,
    /// The route's rule.
    pub rule: &'a CacheRule,
    /// When the request was sent.
    pub sent_ms: u64,
    /// When the response's head came.
    pub received_ms: u64,
}

/// A precondition's result (RFC 9110 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// None, or it holds.
    Holds,
    /// 304.
    NotModified,
    /// 412. Not from a cache: `If-Match` and `If-Unmodified-Since` go to the origin (RFC 9111 4.3.2).
    Failed,
}

/// What of a body a request wants (RFC 9110 14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// All: no range, one that is not understood, too many, or `If-Range` says so.
    Whole,
    /// One part: first and last byte.
    One(u64, u64),
    /// Several, in the order asked for, joined where they touch; at least 2.
    Many(Vec<(u64, u64)>),
    /// 416.
    Unsatisfiable,
}

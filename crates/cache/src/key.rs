//! The key.

use narthex_config::model::{CacheKey, CacheRule};
use narthex_message::Head;

/// What a key is made of.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// `https`?
    pub https: bool,
    /// Canonical host.
    pub host: &'a str,
    /// The port that the client means.
    pub port: u16,
    /// Canonical path, as it is forwarded.
    pub path: &'a [u8],
    /// Query, as it was sent.
    pub query: Option<&'a [u8]>,
    /// The request's head.
    pub request: Head<'a>,
}

/// Puts the key's bytes into `out`, which is cleared first. Different parts never give the same bytes (CA-01, CA-03).
pub fn build(_parts: &Parts<'_>, _rule: &CacheKey, _out: &mut Vec<u8>) {}

/// The values of the request's fields `names` (lower case), normalised, put into `out`: which variant it wants.
pub fn variant(_names: &[Box<[u8]>], _request: Head<'_>, _rule: &CacheRule, _out: &mut Vec<u8>) {}

//! Reasons.

/// Why an answer did not come from the cache, or was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The method is neither GET nor HEAD.
    Method,
    /// A request with a body (CA-07).
    RequestBody,
    /// A change of protocol is asked for.
    Upgrade,
    /// The route's rule passes it.
    Bypass,
    /// `Cache-Control: no-store` of the request.
    RequestNoStore,
    /// `no-cache` of the request.
    RequestNoCache,
    /// `max-age`, `min-fresh` of the request.
    RequestAge,
    /// `If-Match` or `If-Unmodified-Since`: only the origin may answer (RFC 9111 4.3.2).
    Condition,
    /// Nothing is stored under the key.
    Miss,
    /// Something is stored, for other values of the fields in `Vary`.
    VaryMiss,
    /// It is stored and stale.
    Stale,
    /// It is stored, and `no-cache` says that it is asked each time.
    NoCache,
    /// It was purged softly.
    Purged,
    /// The last answer for this key could not be stored.
    HitForMiss,
    /// Waiting for another's fetch took too long.
    LockWait,
    /// What is stored has not the bytes that are asked for.
    Part,
    /// The status is not stored.
    Status,
    /// `no-store` of the response.
    NoStore,
    /// `private` of the response.
    Private,
    /// The request had `Authorization`, and the response does not allow it.
    Authorization,
    /// The response sets a cookie.
    SetCookie,
    /// `Vary: *`, or a `Vary` that cannot be read.
    VaryStar,
    /// It varies by `Accept-Encoding` and has a coding that the normalised request does not tell apart.
    Coding,
    /// Too many variants.
    Variants,
    /// Nothing says how long it is fresh.
    NoLifetime,
    /// It is stale when it comes, and has nothing to be asked with.
    ZeroLifetime,
    /// `must-understand` with a status that is not understood.
    MustUnderstand,
    /// A part that is not stored.
    PartialContent,
    /// It is larger than `object-max`.
    TooLarge,
    /// It did not come whole.
    Truncated,
    /// Its length is doubtful: `Content-Length` and `Transfer-Encoding` (CA-16).
    Suspicious,
    /// A 304 that is not about what is stored.
    Validator,
    /// The store has no room.
    NoRoom,
    /// It cannot be kept in slices: the origin gives no such parts of it, or nothing tells its versions apart.
    NoRanges,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 34] = [
        Self::Method,
        Self::RequestBody,
        Self::Upgrade,
        Self::Bypass,
        Self::RequestNoStore,
        Self::RequestNoCache,
        Self::RequestAge,
        Self::Condition,
        Self::Miss,
        Self::VaryMiss,
        Self::Stale,
        Self::NoCache,
        Self::Purged,
        Self::HitForMiss,
        Self::LockWait,
        Self::Part,
        Self::Status,
        Self::NoStore,
        Self::Private,
        Self::Authorization,
        Self::SetCookie,
        Self::VaryStar,
        Self::Coding,
        Self::Variants,
        Self::NoLifetime,
        Self::ZeroLifetime,
        Self::MustUnderstand,
        Self::PartialContent,
        Self::TooLarge,
        Self::Truncated,
        Self::Suspicious,
        Self::Validator,
        Self::NoRoom,
        Self::NoRanges,
    ];

    /// One word, for the log and for metrics.
    pub fn word(self) -> &'static str {
        self.texts().0
    }

    /// Why it is not a hit, and what would make it one.
    pub fn sentence(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Method => (
                "method",
                "The method is neither GET nor HEAD; only these are answered from the cache.",
            ),
            Self::RequestBody => (
                "request-body",
                "The request has a body, which the key does not cover; a GET without one can be cached.",
            ),
            Self::Upgrade => (
                "upgrade",
                "The request asks for another protocol; what follows is a tunnel and has no cache.",
            ),
            Self::Bypass => (
                "bypass",
                "The route's `bypass` holds for this request; one for which it does not hold can be cached.",
            ),
            Self::RequestNoStore => (
                "request-no-store",
                "The request says `Cache-Control: no-store`; without it the answer could be stored.",
            ),
            Self::RequestNoCache => (
                "request-no-cache",
                "The request says `no-cache`, so that the origin was asked; without it the stored answer would do.",
            ),
            Self::RequestAge => (
                "request-age",
                "The request's `max-age` or `min-fresh` wants a younger answer than the stored one; without it that one would do.",
            ),
            Self::Condition => (
                "request-condition",
                "The request has `If-Match` or `If-Unmodified-Since`, which only the origin may judge; without it a stored answer would do.",
            ),
            Self::Miss => (
                "miss",
                "Nothing was stored under this key yet; the next request finds it if the answer may be stored.",
            ),
            Self::VaryMiss => (
                "vary-miss",
                "What is stored is for other values of the fields in `Vary`; fewer fields in `Vary`, or fewer different values, would make hits.",
            ),
            Self::Stale => (
                "stale",
                "What is stored is stale and was asked anew; a longer `max-age` or `stale-while-revalidate` would make hits.",
            ),
            Self::NoCache => (
                "no-cache",
                "The answer says `Cache-Control: no-cache`, so that the origin is asked each time; `max-age` instead would make hits.",
            ),
            Self::Purged => (
                "purged",
                "What is stored was purged softly and is asked anew; the next request finds it fresh.",
            ),
            Self::HitForMiss => (
                "hit-for-miss",
                "The last answer for this key could not be stored, so that requests pass for a while; an answer that may be stored ends that.",
            ),
            Self::LockWait => (
                "lock-wait",
                "Another request was fetching this, for longer than `lock wait`; a faster origin or a longer wait would make a hit.",
            ),
            Self::Part => (
                "part",
                "Only a part is stored, and not the bytes that were asked for; a request for the whole, or for that part, would be a hit.",
            ),
            Self::Status => (
                "status",
                "Answers of this status are not stored; explicit freshness (profile `rfc9111`) or `negative` in the rule would let them be.",
            ),
            Self::NoStore => (
                "no-store",
                "The answer says `Cache-Control: no-store`; without it, and with `max-age`, it could be stored.",
            ),
            Self::Private => (
                "private",
                "The answer says `Cache-Control: private`, and this cache is shared; `public, max-age=...` would let it be stored.",
            ),
            Self::Authorization => (
                "authorization",
                "The request had `Authorization`; the answer needs `public`, `s-maxage` or `must-revalidate` to be stored.",
            ),
            Self::SetCookie => (
                "set-cookie",
                "The answer sets a cookie; without `Set-Cookie`, or with `strip-set-cookie` in the rule, it could be stored.",
            ),
            Self::VaryStar => (
                "vary-star",
                "The answer says `Vary: *`, or a `Vary` that cannot be read; the names of the fields that matter would let it be stored.",
            ),
            Self::Coding => (
                "coding",
                "The answer varies by `Accept-Encoding` and has another coding than zstd, br, gzip or deflate; one of these could be stored.",
            ),
            Self::Variants => (
                "variants",
                "This key has as many variants as it may, and all of them are coming; fewer fields in `Vary`, or a larger `vary max`, would let it be stored.",
            ),
            Self::NoLifetime => (
                "no-lifetime",
                "Nothing says how long the answer is fresh; `Cache-Control: max-age`, or `ttl` in the rule, would let it be stored.",
            ),
            Self::ZeroLifetime => (
                "zero-lifetime",
                "The answer is stale when it comes and has no validator; a positive `max-age`, or an `ETag`, would let it be stored.",
            ),
            Self::MustUnderstand => (
                "must-understand",
                "The answer says `must-understand` and has a status that this cache does not know; without it, and with `max-age`, it could be stored.",
            ),
            Self::PartialContent => (
                "partial-content",
                "The answer is a part that cannot be kept: not asked for, in several pieces, or with a `Content-Range` that does not fit its body.",
            ),
            Self::TooLarge => (
                "too-large",
                "The answer is larger than `object-max` of the rule; a larger `object-max` would let it be stored.",
            ),
            Self::Truncated => (
                "truncated",
                "The answer did not come whole; a whole one could be stored.",
            ),
            Self::Suspicious => (
                "suspicious",
                "The answer has both `Content-Length` and `Transfer-Encoding`; with one of them it could be stored.",
            ),
            Self::Validator => (
                "validator",
                "The origin's 304 names another validator than what is stored has; the whole answer was asked for instead.",
            ),
            Self::NoRoom => (
                "no-room",
                "The store has no room for it; more `memory`, or a larger `quota`, would let it be stored.",
            ),
            Self::NoRanges => (
                "no-ranges",
                "The origin does not give it in slices (a 206 of the very bytes, without a coding, with a strong `ETag` or an older `Last-Modified`), so that it is kept whole for a while.",
            ),
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_words_and_sentences_are_sentences() {
        let mut words: Vec<_> = Why::ALL.iter().map(|why| why.word()).collect();
        for why in Why::ALL {
            assert!(
                why.word()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-')
            );
            assert!(why.sentence().ends_with('.') && why.sentence().is_ascii());
        }
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Why::ALL.len());
    }
}

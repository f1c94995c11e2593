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
    /// `Vary: *`.
    VaryStar,
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
    /// The store has no room.
    NoRoom,
}

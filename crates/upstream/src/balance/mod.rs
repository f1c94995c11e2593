//! Balancing policies: pure functions over the weights of the servers that may be chosen.
//!
//! A policy sees one weight per server, in written order; a weight of 0 takes the server out of this choice (it is down,
//! ejected, tried already, or a backup that is not needed). What a policy remembers from one choice to the next is an
//! array of the same length that the caller keeps, one per core. Weights are in hundredths, so that a server that has
//! just come back can take part with a fraction of its weight: see [`FULL`].

pub mod least_requests;
pub mod round_robin;

/// A configured weight of 1 is this much here.
pub const FULL: u32 = 100;

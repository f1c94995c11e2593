//! Balancing policies: pure functions over the shares of the servers that may be chosen.
//!
//! A policy sees one share per server, in written order; a share of 0 takes the server out of this choice. Who has which
//! share is decided in [`roster`]. What a policy remembers from one choice to the next is an array of the same length
//! that the caller keeps, one per core. Shares are in hundredths of a weight, so that a server that has just come back
//! can take part with a fraction of its own: see [`FULL`].

pub mod least_requests;
pub mod least_time;
pub mod ring;
pub mod roster;
pub mod round_robin;
pub mod shares;

/// A configured weight of 1 is this much here.
pub const FULL: u32 = 100;

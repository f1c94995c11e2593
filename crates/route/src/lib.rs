//! Which site and which route take a request: a pure matcher, built once per configuration, asked once per request.
//!
//! - Hosts: exact name, then the longest wildcard, then `*`; one table for all sites.
//! - Paths: the first route in written order whose path, method and conditions hold. The tree of segments makes that
//!   fast, never different: it answers exactly what a loop over the routes would.
//! - [`Router::explain`] asks the same tests and tells why each route lost.
//!
//! Hosts and paths come in the canonical forms of `narthex_message`; patterns are brought to the same form when the
//! router is built, so that no spelling of either is missed. Nothing is allocated per request, except for decoding query
//! parameters that conditions ask for.

mod captures;
mod condition;
mod explain;
mod hosts;
mod methods;
mod pattern;
mod regexes;
mod router;
mod table;
mod tree;

pub use captures::{Captures, MAX_CAPTURES, Span};
pub use condition::{Fields, Query};
pub use explain::{Explanation, Verdict};
pub use router::{BuildError, Found, Router};

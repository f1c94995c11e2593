//! A shared HTTP cache: what may be kept and served (RFC 9111, pure), what tells one answer from another, where answers are kept.
//!
//! [`policy`] decides, [`store`] keeps; neither knows the other's business. `docs/cache.md` is the page.

pub mod key;
pub mod policy;
pub mod store;

pub use policy::{Asked, Choice, Meta, Why};
pub use store::{Found, Lead, Object, Store};

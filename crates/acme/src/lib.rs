//! Certificates by themselves: gets them from a certificate authority (RFC 8555) and keeps them fresh.
//!
//! [`keeper`] decides what is due, [`order`] what comes next in an order, [`issue`] does it. Everything is written down in
//! the [`store`] before somebody else can act on it, so that the process may end anywhere.

pub mod authority;
pub mod board;
pub mod certificate;
pub mod challenge;
pub mod encoding;
mod http;
pub mod internal;
pub mod issue;
pub mod keeper;
pub mod on_demand;
pub mod order;
pub mod renew;
pub mod store;

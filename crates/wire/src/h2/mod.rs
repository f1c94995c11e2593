//! HTTP/2 (RFC 9113) without I/O, both roles: bytes and the time go in, events and bytes come out.
//!
//! ```text
//! socket bytes ─> Connection::receive ─> Event ─> session
//! session ─> Connection::{head, data, consumed, reset, release} ─> Connection::out ─> socket
//! ```
//!
//! How a session uses it, every turn:
//!
//! 1. `receive` until it has taken everything and has no event left.
//! 2. `next_writable` until `None`: wake those streams, the most urgent first.
//! 3. Write `out`, when it is not empty; drop what the socket took.
//! 4. `tick` at the time it asked for.
//!
//! A stream that was handed out with [`Event::Head`] (server) or [`Connection::open`] (client) stays counted until
//! [`Connection::release`]: a reset frees nobody's place while work goes on (CVE-2023-44487).

pub mod budget;
pub mod conn;
mod control;
pub mod encode;
pub mod error;
pub mod flow;
pub mod frame;
pub mod head;
mod headers;
pub mod hpack;
pub mod priority;
mod receive;
mod send;
mod stream;

pub use conn::{Bounds, Connection, Event, Received, Role, StreamId};
pub use error::{ErrorCode, Fatal, Oversize};

#[cfg(test)]
mod fuzzed;
#[cfg(test)]
mod tests;

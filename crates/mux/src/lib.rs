//! A connection that carries many streams, on a core: `narthex_wire::h2` says what is on the wire, `narthex_net` moves bytes, and
//! here is the task between them. The same for both sides: who serves requests, and who sends them.
//!
//! [`Session`] is what the connection's task ([`Driver`]) and its streams ([`MuxStream`]) share. A stream's body goes by
//! `narthex_net::stream::Stream`, as if it were a socket; heads, trailers and ends have names of their own. Whatever streams have
//! put together in one turn of the core leaves in one write.

mod driver;
mod session;
mod stream;

pub use driver::{Driver, Ended, Owner};
pub use session::Session;
pub use stream::{Head, MuxStream};

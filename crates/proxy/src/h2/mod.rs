//! HTTP/2 with clients: one task per connection ([`session`]) and one per stream, which is an exchange like any other
//! ([`crate::handle`]). What is on the wire is `narthex_wire::h2`'s affair. The page is `docs/http2.md`.

mod session;
mod stream;

pub(crate) use session::serve;
pub(crate) use stream::ClientStream;

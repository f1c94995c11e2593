//! Tests of TLS on cores, against rustls's own client and OpenSSL.

mod bytes;
mod handshakes;
mod kit;

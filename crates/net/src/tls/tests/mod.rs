//! Tests of TLS on cores, against rustls's own client and OpenSSL.

mod bytes;
mod clients;
mod files;
mod handshakes;
mod kit;
mod memory;
mod openssl;
mod resumption;
mod servers;
mod turns;

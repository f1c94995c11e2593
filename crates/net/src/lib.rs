//! Sockets and the cores that drive them: the runtime, listening, dialling, the PROXY protocol. The only room with
//! `unsafe`, each block with its safety argument.

pub mod accept;
pub mod balance;
pub mod client_count;
pub mod dial;
pub mod files;
pub mod handover;
pub mod inherited;
pub mod limits;
pub mod listen;
pub mod proxy_header;
pub mod rt;
pub mod scratch;
pub mod socket;
mod sockopt;
pub mod stream;
pub mod tls;
pub mod websocket;

#[cfg(test)]
mod testing;

//! Sockets and the cores that drive them: the runtime, listening, dialling, the PROXY protocol. The only room with
//! `unsafe`, each block with its safety argument.

pub mod accept;
pub mod balance;
pub mod dial;
pub mod inherited;
pub mod listen;
pub mod rt;
pub mod scratch;
pub mod stream;

#[cfg(test)]
mod testing;

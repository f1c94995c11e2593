//! Bytes to messages and back, both sides, every protocol version. The only data-plane room that knows a wire format.

pub mod grpc_web;
pub mod h1;
pub mod h2;

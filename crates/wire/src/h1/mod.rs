//! HTTP/1.1 (RFC 9112), our own: a scanner that validates and indexes in one pass, a strict chunk decoder, and writers that
//! make every outgoing message from the model.

pub mod chunk;
pub mod encode;
mod lanes;
pub mod scan;

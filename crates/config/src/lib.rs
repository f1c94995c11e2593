//! The configuration: the file, checked, as data.
//!
//! `text -> syntax (KDL 2, own parser) -> raw (what was written) -> check (every problem at once) -> model (what the
//! program may rely on)`. Pure: no sockets, no clock. Reading files happens through [`source::Loader`].

pub mod model;
pub mod problem;
pub mod source;
pub mod syntax;

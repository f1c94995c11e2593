//! The configuration: the file, checked, as data.
//!
//! `text -> syntax (KDL 2, own parser) -> raw (what was written) -> check (every problem at once) -> model (what the
//! program may rely on)`. Pure: no sockets, no clock. Reading files happens through [`source::Loader`].
//!
//! [`load`](load::load) is the way in.

pub mod check;
pub mod edit;
pub mod effective;
pub mod load;
mod lower;
pub mod migrate;
pub mod model;
pub mod problem;
pub mod raw;
pub mod schema;
mod secret;
pub mod servers;
pub mod source;
pub mod syntax;

pub use load::{Environment, Loaded, Quick, QuickTls, load, load_text, quick};

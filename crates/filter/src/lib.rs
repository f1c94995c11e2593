//! Filters: steps on a request and, in reverse, on its response. Also what is made of templates (header values, redirect
//! targets, bodies), which error page stands for a status, and the rewriting of what in a response names the origin.
//!
//! Nothing here does I/O, waits or fails: a value that can't be is empty, a header that can't be is left out, and a path
//! that can't be is a [`chain::Verdict`].

pub mod chain;
pub mod error_page;
mod header;
mod interpolate;
pub mod location;
mod path;
pub mod template;
mod url;
pub mod urls;
pub mod values;

pub use chain::{BuildError, Chain, Target, Verdict};
pub use location::location;
pub use template::render;
pub use urls::{UrlMap, rewrite_urls};
pub use values::Values;

#[cfg(test)]
mod testing;

//! Checks that need more than one line of the file: names, hosts, shadowed routes, captures.

pub mod hosts;
mod problems;
pub mod shadow;

pub use problems::{MAX_PROBLEMS, Problems};

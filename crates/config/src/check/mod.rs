//! Checks that need more than one line of the file: names, hosts, shadowed routes, guards that are gone around, captures.

pub mod hosts;
mod problems;
pub mod shadow;
pub mod slashes;

pub use problems::{MAX_PROBLEMS, Problems};

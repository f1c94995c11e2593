//! Active health: asking each server how it is.

mod active;
mod probe;
mod tally;
#[cfg(test)]
mod tests;

pub use active::run_checks;

//! Active health: asking each server how it is.

mod group;
mod judge;
mod probe;
mod run;
mod schedule;
mod subjects;
mod tally;
#[cfg(test)]
mod tests;

pub use group::run_outliers;
pub use run::run_checks;

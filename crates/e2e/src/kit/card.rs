//! Rows of the scorecard that tests measure: `cargo xtask scorecard --part faults` and `--part upgrade` run them in their long
//! form and gather what they print. A test asserts counts; how fast something was is judged there, where the machine is known.

use std::time::Duration;

use super::load::Tally;

/// One row: what, and how much.
pub fn row(what: &str, much: impl std::fmt::Display) {
    println!("card| {what} | {much} |");
}

/// A time, in milliseconds, and the most that the scorecard allows.
pub fn at_most(what: &str, took: Duration, most: Duration) {
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    println!("card| {what}, ms | {:.1} | {:.1}", ms(took), ms(most));
}

/// What became of a load, in two rows.
pub fn load(what: &str, tally: &Tally) {
    row(
        &format!("{what}: requests (a second), failed, of them GET"),
        format!(
            "{} ({:.0}), {}, {}",
            tally.sent(),
            tally.rate(),
            tally.failed().len(),
            tally.failed_gets().len()
        ),
    );
    let ms = |share| tally.quantile(share).as_secs_f64() * 1e3;
    row(
        &format!("{what}: p50 / p99 / longest, ms"),
        format!("{:.1} / {:.1} / {:.1}", ms(0.5), ms(0.99), ms(1.0)),
    );
}

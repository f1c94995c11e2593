//! How many workers the proxy under test has: what is known, counted and limited across workers is tested with one, two and
//! eight of them.

use std::cell::Cell;

/// What the kit's configurations say when no test says otherwise.
pub const USUAL: usize = 2;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(USUAL) };
}

/// Runs a test with so many workers: every proxy that it starts on this thread has them, wherever its configuration says
/// the kit's `workers 2`.
pub fn with(workers: usize, test: impl FnOnce()) {
    NOW.set(workers);
    test();
    NOW.set(USUAL);
}

/// So many as the test that runs on this thread is to have.
pub fn now() -> usize {
    NOW.get()
}

/// The text of a configuration, with the number of now.
pub(super) fn fill_in(text: &str) -> String {
    text.replace(
        &format!("workers {USUAL}\n"),
        &format!("workers {}\n", now()),
    )
}

/// Makes three tests of each of these functions, which have no `#[test]` of their own: with 1, 2 and 8 workers.
#[macro_export]
macro_rules! with_1_2_and_8_workers {
    ($($test:ident),+ $(,)?) => {
        mod with_1_worker {
            $(#[test] fn $test() { $crate::kit::workers::with(1, super::$test); })+
        }
        mod with_2_workers {
            $(#[test] fn $test() { $crate::kit::workers::with(2, super::$test); })+
        }
        mod with_8_workers {
            $(#[test] fn $test() { $crate::kit::workers::with(8, super::$test); })+
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::proxy::Proxy;

    fn started() -> u64 {
        let proxy = Proxy::start(&Proxy::config("", "site \"*\" { respond 204 }"));
        proxy.status()["workers"].as_u64().unwrap()
    }

    #[test]
    fn a_test_has_the_workers_that_it_asks_for() {
        for workers in [1, 2, 8] {
            with(workers, || assert_eq!(started(), workers as u64));
        }
        assert_eq!(started(), USUAL as u64);
    }
}

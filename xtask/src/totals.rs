//! Adding up what the test programs say.

use std::fmt;

/// Tests so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Passed.
    pub passed: usize,
    /// Names of those that failed.
    pub failed: Vec<String>,
    /// Failures that the programs counted; at least as many as names.
    pub failed_count: usize,
    /// Names of those that failed first and passed when they were run again: counted as passed.
    pub unstable: Vec<String>,
    /// What was skipped, with the reason if there is one.
    pub skipped: Vec<String>,
}

impl Totals {
    /// Takes one line of a test program's output.
    pub fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.passed += number_before(rest, "passed");
            self.failed_count += number_before(rest, "failed");
        } else if let Some((name, how)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        {
            if how == "FAILED" {
                self.failed.push(name.to_owned());
            } else if let Some(reason) = how.strip_prefix("ignored") {
                let reason = reason.trim_start_matches([',', ' ']);
                self.skipped.push(if reason.is_empty() {
                    name.to_owned()
                } else {
                    format!("{name}: {reason}")
                });
            }
        }
    }

    /// A test that had failed has passed by itself.
    pub fn was_unstable(&mut self, name: &str) {
        let Some(at) = self.failed.iter().position(|failed| failed == name) else {
            return;
        };
        self.unstable.push(self.failed.remove(at));
        self.failed_count = self.failed_count.saturating_sub(1);
        self.passed += 1;
    }

    /// One check that is not a test program's.
    pub fn check(&mut self, name: &str, result: Checked) {
        match result {
            Checked::Passed => self.passed += 1,
            Checked::Failed(why) => self.fail(format!("{name}: {why}")),
            Checked::Skipped(why) => self.skipped.push(format!("{name}: {why}")),
        }
    }

    /// A failure that no program counted.
    pub fn fail(&mut self, name: String) {
        self.failed.push(name);
        self.failed_count += 1;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed_count,
            self.skipped.len()
        )
    }
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// As it should.
    Passed,
    /// Why not.
    Failed(String),
    /// Why it could not be done.
    Skipped(String),
}

fn number_before(text: &str, word: &str) -> usize {
    text.split([';', '.'])
        .filter_map(|part| part.trim().split_once(' '))
        .find(|(_, what)| *what == word)
        .and_then(|(n, _)| n.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_test_add_up() {
        let mut t = Totals::default();
        for line in [
            "running 5 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test slow ... ignored",
            "test slower ... ignored, needs an hour",
            "test src/lib.rs - x (line 3) ... ignored",
            "test result: FAILED. 1 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.23s",
        ] {
            t.line(line);
        }
        assert_eq!(t.to_string(), "21 passed, 1 failed, 3 skipped");
        assert_eq!(t.failed, ["a::c"]);
        assert_eq!(
            t.skipped,
            ["slow", "slower: needs an hour", "src/lib.rs - x (line 3)"]
        );
    }

    #[test]
    fn one_that_passes_by_itself_is_named() {
        let mut t = Totals::default();
        for line in [
            "test a::c ... FAILED",
            "test d ... FAILED",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            t.line(line);
        }
        t.was_unstable("d");
        t.was_unstable("another");
        assert_eq!(t.to_string(), "2 passed, 1 failed, 0 skipped");
        assert_eq!(
            (t.failed, t.unstable),
            (vec!["a::c".into()], vec!["d".into()])
        );
    }

    #[test]
    fn checks_count_as_tests() {
        let mut t = Totals::default();
        t.check("a", Checked::Passed);
        t.check("b", Checked::Failed("no".into()));
        t.check("c", Checked::Skipped("no valgrind".into()));
        assert_eq!(t.to_string(), "1 passed, 1 failed, 1 skipped");
    }
}

//! From single answers to a verdict: so many successes in a row make a server healthy, so many failures unhealthy. Pure.

use crate::endpoint::Active;

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection: the server cannot be used at all.
    Unreachable(String),
    /// A connection, but not the right answer in time.
    Unwell(String),
}

impl Failure {
    pub(super) fn words(&self) -> &str {
        match self {
            Self::Unreachable(words) | Self::Unwell(words) => words,
        }
    }
}

/// The answers so far.
#[derive(Debug)]
pub(super) struct Tally {
    successes: u32,
    failures: u32,
    verdict: Active,
}

impl Tally {
    /// `known`: what an earlier check has found, which holds until there is another verdict.
    pub(super) fn new(known: Active) -> Self {
        Self {
            successes: 0,
            failures: 0,
            verdict: match known {
                Active::Unchecked => Active::Unknown,
                known => known,
            },
        }
    }

    /// Good answers in a row.
    pub(super) fn successes(&self) -> u32 {
        self.successes
    }

    /// Notes an answer. The first success is believed at once, so that a start is quick; a server is given up only after
    /// `unhealthy` failures, the first ones included.
    pub(super) fn note(
        &mut self,
        answer: Result<(), &Failure>,
        healthy: u32,
        unhealthy: u32,
    ) -> Active {
        match answer {
            Ok(()) => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                if self.verdict == Active::Unknown || self.successes >= healthy {
                    self.verdict = Active::Up;
                }
            }
            Err(failure) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= unhealthy {
                    self.verdict = match failure {
                        Failure::Unreachable(_) => Active::Gone,
                        Failure::Unwell(_) => Active::Unwell,
                    };
                }
            }
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(answers: &str) -> Vec<Active> {
        let mut tally = Tally::new(Active::Unchecked);
        let note = |answer| match answer {
            '+' => tally.note(Ok(()), 2, 3),
            '-' => tally.note(Err(&Failure::Unwell(String::new())), 2, 3),
            _ => tally.note(Err(&Failure::Unreachable(String::new())), 2, 3),
        };
        answers.chars().map(note).collect()
    }

    #[test]
    fn believes_the_first_success() {
        assert_eq!(run("+"), [Active::Up]);
        assert_eq!(run("-+"), [Active::Unknown, Active::Up]);
    }

    #[test]
    fn gives_up_after_three_in_a_row() {
        assert_eq!(run("+--+---").last(), Some(&Active::Unwell));
        assert_eq!(run("+--+--").last(), Some(&Active::Up));
        assert_eq!(
            run("---"),
            [Active::Unknown, Active::Unknown, Active::Unwell]
        );
        assert_eq!(run("--x").last(), Some(&Active::Gone));
    }

    #[test]
    fn comes_back_after_two_in_a_row() {
        assert_eq!(run("---+").last(), Some(&Active::Unwell));
        assert_eq!(run("---+-+").last(), Some(&Active::Unwell));
        assert_eq!(run("---++").last(), Some(&Active::Up));
    }

    #[test]
    fn what_was_known_holds() {
        let mut tally = Tally::new(Active::Gone);
        assert_eq!(tally.note(Ok(()), 2, 3), Active::Gone);
        assert_eq!(tally.note(Ok(()), 2, 3), Active::Up);
        let mut tally = Tally::new(Active::Up);
        let failure = Failure::Unwell(String::new());
        assert_eq!(tally.note(Err(&failure), 2, 3), Active::Up);
    }
}

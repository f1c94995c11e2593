//! Exit codes. They are a promise: `docs/reference/cli.md` lists them.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, and well.
    Ok,
    /// 1: the answer is no: problems in the configuration, a refused reload, a start that failed.
    No,
    /// 2: the question was wrong: bad arguments, a file that cannot be read, no process that answers.
    Usage,
    /// 130: stopped at once by a second signal; what was in flight was cut.
    Forced,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::No => 1,
            Exit::Usage => 2,
            Exit::Forced => 130,
        })
    }
}

/// Writes to standard output. A reader that has gone (`| head`) is no failure.
pub fn say(text: impl fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a line to standard error, with the program's name.
pub fn complain(text: impl fmt::Display) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "narthex: {text}");
}

/// Writes to standard error as it is.
pub fn show(text: &str) {
    let mut err = std::io::stderr().lock();
    let line_break = if text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(err, "{text}{line_break}");
}

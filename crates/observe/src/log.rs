//! Diagnostics on standard error by `tracing`: one line per event whatever its values hold, a level that a reload can
//! change, and warnings that cannot flood.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Why logging could not be set up or changed.
#[derive(Debug)]
pub enum LogError {
    /// The level is no `tracing` filter.
    BadLevel {
        /// As given.
        level: String,
        /// What the filter's parser says.
        why: String,
    },
    /// The process already has a subscriber.
    AlreadyStarted,
    /// The subscriber is gone.
    Gone,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLevel { level, why } => write!(
                f,
                "log level {level:?} is not understood ({why}); write error, warn, info, debug or trace, or a list such \
                 as narthex_upstream=debug,info"
            ),
            Self::AlreadyStarted => {
                f.write_str("the diagnostics log was started twice in this process")
            }
            Self::Gone => f.write_str("the diagnostics log has already ended"),
        }
    }
}

impl std::error::Error for LogError {}

/// Changes the level of a running log.
#[derive(Clone, Debug)]
pub struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogControl {
    /// Replaces the filter; on an error the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        self.filter
            .reload(parse_level(level)?)
            .map_err(|_| LogError::Gone)
    }
}

fn parse_level(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| LogError::BadLevel {
            level: level.to_owned(),
            why: error.to_string(),
        })
}

/// Checks a level without applying it.
pub fn check_level(level: &str) -> Result<(), LogError> {
    parse_level(level).map(drop)
}

/// Starts the process's diagnostics log on standard error, as text or as JSON lines. Once per process.
pub fn init(level: &str, json: bool) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(parse_level(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(StderrLines);
    let started = if json {
        registry.with(lines.json().flatten_event(true)).try_init()
    } else {
        registry.with(lines).try_init()
    };
    started.map_err(|_| LogError::AlreadyStarted)?;
    Ok(LogControl { filter: handle })
}

/// Standard error, one line per event.
#[derive(Debug, Clone, Copy)]
struct StderrLines;

impl<'a> MakeWriter<'a> for StderrLines {
    type Writer = OneLine<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(io::stderr())
    }
}

/// Writes each buffer as one line: control characters inside it (which can only come from logged values) are written as
/// escapes, so that no value forges a line or speaks to a terminal. `tracing` hands over one event per write.
#[derive(Debug)]
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let body = event.strip_suffix(b"\n").unwrap_or(event);
        if body.iter().any(|byte| is_control(*byte)) {
            self.0.write_all(&escape_controls(event, body))?;
        } else {
            self.0.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

fn escape_controls(event: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.len() + 64);
    for byte in body {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte if is_control(*byte) => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            byte => out.push(*byte),
        }
    }
    out.extend_from_slice(event.get(body.len()..).unwrap_or_default());
    out
}

/// How long a [`Throttle`] counts before it starts anew.
pub const THROTTLE_WINDOW_MS: u64 = 10_000;

/// Lets through at most N events per ten seconds and counts the others. One per place in the code, as a `static`; see
/// [`warn_throttled!`](crate::warn_throttled).
#[derive(Debug)]
pub struct Throttle {
    most: u64,
    window: AtomicU64,
    admitted: AtomicU64,
    suppressed: AtomicU64,
}

impl Throttle {
    /// At most `most` events per ten seconds.
    pub const fn new(most: u64) -> Self {
        Self {
            most,
            window: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// `Some(suppressed)` if the event at `now_ms` may be logged, with how many were not since the last one that was.
    /// Two threads at a window's edge may let one event more through.
    pub fn admit(&self, now_ms: u64) -> Option<u64> {
        let window = now_ms / THROTTLE_WINDOW_MS + 1;
        if self.window.swap(window, Ordering::Relaxed) != window {
            self.admitted.store(0, Ordering::Relaxed);
        }
        if self.admitted.fetch_add(1, Ordering::Relaxed) < self.most {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// `tracing::warn!`, at most five times per ten seconds for this place in the code; the event's `suppressed` field says how
/// many were left out before it.
#[macro_export]
macro_rules! warn_throttled {
    ($($event:tt)+) => {{
        static THROTTLE: $crate::log::Throttle = $crate::log::Throttle::new(5);
        if let Some(suppressed) = THROTTLE.admit($crate::clock::unix_ms()) {
            $crate::tracing::warn!(suppressed, $($event)+);
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_level_says_what_to_write() {
        let error = check_level("narthex=loud").unwrap_err().to_string();
        assert!(
            error.contains("narthex=loud") && error.contains("debug"),
            "{error}"
        );
        check_level("narthex_upstream=debug,info").unwrap();
    }

    #[test]
    fn throttle_counts_what_it_holds_back() {
        let throttle = Throttle::new(2);
        assert_eq!(throttle.admit(1), Some(0));
        assert_eq!(throttle.admit(2), Some(0));
        assert_eq!(throttle.admit(3), None);
        assert_eq!(throttle.admit(4), None);
        assert_eq!(throttle.admit(THROTTLE_WINDOW_MS), Some(2));
        assert_eq!(throttle.admit(THROTTLE_WINDOW_MS + 1), Some(0));
        assert_eq!(throttle.admit(THROTTLE_WINDOW_MS + 2), None);
    }

    #[test]
    fn an_event_is_one_line() {
        let mut out = OneLine(Vec::new());
        out.write_all(b"WARN bad header: a\r\nINFO forged\x1b[31m\n")
            .unwrap();
        assert_eq!(out.0, b"WARN bad header: a\\r\\nINFO forged\\x1b[31m\n");
        let mut plain = OneLine(Vec::new());
        plain.write_all("INFO grüße\n".as_bytes()).unwrap();
        assert_eq!(plain.0, "INFO grüße\n".as_bytes());
    }
}

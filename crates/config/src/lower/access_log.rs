//! Access logs: read per site, kept once each.

use std::path::PathBuf;

use crate::model::{AccessLog, AccessLogFormat, LogTarget};
use crate::raw::Item;

use super::context::{Context, set};
use super::template::{self, Position};

/// Every access log that some site uses.
#[derive(Debug, Default)]
pub struct AccessLogs {
    /// Index is the identity.
    pub list: Vec<AccessLog>,
}

impl AccessLogs {
    /// The index of a log, adding it when it is new.
    pub fn index(&mut self, log: &AccessLog) -> usize {
        // Files have a handful of logs; a million sites may share one, so the newest is looked at first.
        if let Some(index) = self.list.iter().rposition(|l| l == log) {
            return index;
        }
        self.list.push(log.clone());
        self.list.len() - 1
    }
}

/// Reads one `access-log`; `None` is off.
pub fn read(ctx: &mut Context<'_>, item: &Item<'_>) -> Option<AccessLog> {
    let mut log = AccessLog::default();
    let format = item.arg_text(0);
    match format {
        Some(("off", _)) => {
            if let Some((name, given)) = item.props.first() {
                ctx.warning(
                    "unused-key",
                    given.span,
                    format!("`{name}=` does nothing: this log is off"),
                    "leave it out",
                );
            }
            return None;
        }
        Some(("combined", _)) => log.format = AccessLogFormat::Combined,
        _ => {}
    }
    if let Some((text, span)) = item.text("template") {
        if let Some((word, word_span)) = format {
            let message = format!("a log has one shape: \"{word}\" or a template");
            ctx.error("two-formats", word_span, message, "keep one of them");
        }
        if let Some(template) = template::parse(ctx, text, span, Position::Log, &mut Vec::new()) {
            log.format = AccessLogFormat::Template(template);
        }
    }
    if let Some((path, span)) = item.text("path") {
        log.target = match path {
            "stdout" => LogTarget::Stdout,
            "stderr" => LogTarget::Stderr,
            path if path.contains('\0') => {
                ctx.error("bad-path", span, "this path has a NUL", "leave it out");
                return None;
            }
            path => LogTarget::File(PathBuf::from(path)),
        };
    }
    set(&mut log.flush, item.duration("flush"));
    if let Some(bytes) = item.bytes("buffer") {
        match usize::try_from(bytes) {
            Ok(n) if (4 << 10..=1 << 30).contains(&n) => log.buffer = n,
            _ => {
                let span = item.prop("buffer").map_or(item.span, |g| g.span);
                ctx.error(
                    "out-of-range",
                    span,
                    "this buffer is out of range",
                    "write a size from \"4KiB\" to \"1GiB\"",
                );
            }
        }
    }
    Some(log)
}

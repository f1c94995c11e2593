//! Access logs: one record per request, written once, on exactly one line whatever the client sent.
//!
//! A core formats into its own buffer through its [`LogHandle`] and hands whole chunks to a writer thread; it never waits for
//! the disk. What does not fit the bound is dropped and counted, never queued without end.

mod escape;
mod format;
mod handle;
mod output;
mod record;
mod sink;
mod template;
mod writer;

pub use escape::MAX_FIELD_BYTES;
pub use format::{Format, Formatter, format_record};
pub use handle::LogHandle;
pub use record::{Record, TlsRecord};
pub use sink::{LogSink, LogTarget};
pub use template::{Escape, FieldKind, Template, TemplatePart};

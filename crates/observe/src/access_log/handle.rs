//! A core's front of an access log: formats into its own buffer, hands over whole chunks, never waits.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::format::{Format, Formatter};
use super::record::Record;
use super::sink::Shared;

/// One core's part of a log. Dropping it hands over what it holds.
#[derive(Debug)]
pub struct LogHandle {
    sink: Arc<Shared>,
    formatter: Formatter,
    /// Without capacity while it is empty for long: an idle log costs nothing.
    buffer: Vec<u8>,
    /// Time of the first record in the buffer.
    oldest_ms: u64,
    one_core: PhantomData<Cell<()>>,
}

impl LogHandle {
    pub(super) fn new(sink: Arc<Shared>, format: Arc<Format>) -> Self {
        let formatter = Formatter::new(format);
        Self {
            sink,
            formatter,
            buffer: Vec::new(),
            oldest_ms: 0,
            one_core: PhantomData,
        }
    }

    /// Writes a record, or drops and counts it if the writer is too far behind.
    pub fn log(&mut self, record: &Record<'_>) {
        if self.buffer.len() >= self.sink.chunk && !self.hand_over() {
            self.sink.dropped.fetch_add(1, Relaxed);
            return;
        }
        if self.buffer.is_empty() {
            self.oldest_ms = record.time_ms;
            if self.buffer.capacity() == 0 {
                self.buffer = self.sink.thread.buffer(self.sink.chunk);
            }
        }
        self.formatter.write(record, &mut self.buffer);
        if self.buffer.len() >= self.sink.chunk {
            self.hand_over();
        }
    }

    /// Hands over what has waited for the flush time. Once per turn of the loop, or at [`Self::due_ms`].
    pub fn flush_if_due(&mut self, now_ms: u64) {
        // a clock that went back makes it due too
        let waited = now_ms.checked_sub(self.oldest_ms).unwrap_or(u64::MAX);
        if !self.buffer.is_empty() && waited >= self.sink.flush_ms {
            self.hand_over();
        }
    }

    /// When [`Self::flush_if_due`] has something to do, Unix milliseconds; `None` while nothing waits.
    pub fn due_ms(&self) -> Option<u64> {
        (!self.buffer.is_empty()).then(|| self.oldest_ms.saturating_add(self.sink.flush_ms))
    }

    /// Hands over everything now, whatever the bound: the remainder of one core, at the end.
    pub fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.sink.pending.fetch_add(self.buffer.len(), Relaxed);
            self.sink.thread.submit(&self.sink, &mut self.buffer);
        }
    }

    /// False if the bound is reached; then everything stays here.
    fn hand_over(&mut self) -> bool {
        if !self.sink.charge(self.buffer.len()) {
            return false;
        }
        self.sink.thread.submit(&self.sink, &mut self.buffer);
        true
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.flush();
    }
}

//! The head of an answer in the client's form: lines of HTTP/1, or a block of HTTP/2. What is said is decided elsewhere; here is
//! only how.

use narthex_message::{Body, Edits, Head};
use narthex_wire::h1::encode::{self, Keep};
use narthex_wire::h2;

/// Writes one head.
pub(crate) struct ClientHead<'o> {
    out: &'o mut Vec<u8>,
    h2: bool,
}

impl<'o> ClientHead<'o> {
    /// Appends to `out`. `h2`: a block, which is handed to the stream when it is complete.
    #[inline]
    pub(crate) fn new(h2: bool, out: &'o mut Vec<u8>) -> Self {
        Self { out, h2 }
    }

    /// Always first.
    #[inline]
    pub(crate) fn status(&mut self, status: u16, reason: &[u8]) {
        if self.h2 {
            h2::encode::status(status, self.out);
        } else {
            encode::status_line(status, reason, self.out);
        }
    }

    /// A field, of pieces that are known to be clean.
    #[inline]
    pub(crate) fn line(&mut self, name: &str, value: &[u8]) {
        if self.h2 {
            h2::encode::line(name, value, self.out);
        } else {
            encode::line(name, value, self.out);
        }
    }

    /// The request's identity; `start` is the name with its colon and space.
    #[inline]
    pub(crate) fn id(&mut self, name: &str, start: &[u8], value: &[u8]) {
        if self.h2 {
            h2::encode::line(name, value, self.out);
        } else {
            encode::id_line(start, value, self.out);
        }
    }

    /// The kept fields of an origin's head, and what filters add.
    #[inline]
    pub(crate) fn fields(&mut self, head: Head<'_>, keep: Keep, edits: &Edits) {
        if self.h2 {
            h2::encode::fields(head, keep, edits, self.out);
        } else {
            encode::fields(head, keep, edits, self.out);
        }
    }

    /// Whole lines, `name: value CRLF` each.
    pub(crate) fn lines(&mut self, lines: &[u8]) {
        if self.h2 {
            h2::encode::lines(lines, self.out);
        } else {
            self.out.extend_from_slice(lines);
        }
    }

    /// `Content-Length`.
    #[inline]
    pub(crate) fn length(&mut self, n: u64) {
        if self.h2 {
            h2::encode::content_length(n, self.out);
        } else {
            encode::content_length(n, self.out);
        }
    }

    /// What says how long the body is.
    #[inline]
    pub(crate) fn framing(&mut self, body: Body) {
        match body {
            Body::Length(n) => self.length(n),
            _ if self.h2 => {}
            _ => encode::framing(body, self.out),
        }
    }

    /// What concerns one connection of HTTP/1.
    #[inline]
    pub(crate) fn connection(&mut self, lines: &[u8]) {
        if !self.h2 {
            self.out.extend_from_slice(lines);
        }
    }

    /// Nothing follows.
    #[inline]
    pub(crate) fn end(self) {
        if !self.h2 {
            self.out.extend_from_slice(b"\r\n");
        }
    }
}

//! Records to lines: JSON, NCSA combined, or a template. Written by hand, because this runs once per request.

use std::sync::Arc;

use super::escape::{self, hex, json, number, thousandths};
use super::record::Record;
use super::template::Template;
use crate::clock;

/// Shape of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// One JSON object, fields always there and always in this order: `time client client_port user method scheme authority
    /// path query protocol status bytes_sent bytes_received duration_ms outcome fault reason site route upstream server
    /// attempts upstream_ms cache request_id user_agent referer tls`. `query`, `upstream_ms` and `tls` are `null` if there is none,
    /// texts are empty. `tls` is an object: `version suite sni client resumed`.
    Json,
    /// nginx's `combined`.
    Combined,
    /// The operator's own.
    Template(Template),
}

/// Writes records in one format; remembers the written form of the current second. One per core.
#[derive(Debug, Clone)]
pub struct Formatter {
    format: Arc<Format>,
    time: TimeTexts,
}

impl Formatter {
    /// For `format`.
    pub fn new(format: Arc<Format>) -> Self {
        Self {
            format,
            time: TimeTexts::default(),
        }
    }

    /// Appends one line, line feed included.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        self.format.line(record, &mut self.time, out);
    }
}

/// Appends one line. For single records; a [`Formatter`] is faster for many.
pub fn format_record(format: &Format, record: &Record<'_>, out: &mut Vec<u8>) {
    format.line(record, &mut TimeTexts::default(), out);
}

impl Format {
    fn line(&self, record: &Record<'_>, time: &mut TimeTexts, out: &mut Vec<u8>) {
        match self {
            Self::Json => write_json(record, time, out),
            Self::Combined => write_combined(record, time, out),
            Self::Template(template) => template.write(record, time, out),
        }
        out.push(b'\n');
    }
}

/// The written forms of one second.
#[derive(Debug, Clone)]
pub(super) struct TimeTexts {
    second: u64,
    rfc3339: [u8; 20],
    clf: [u8; 26],
}

impl Default for TimeTexts {
    fn default() -> Self {
        Self::of(0)
    }
}

impl TimeTexts {
    fn of(second: u64) -> Self {
        Self {
            second,
            rfc3339: clock::rfc3339(second),
            clf: clock::clf(second),
        }
    }

    fn at(&mut self, time_ms: u64) -> &Self {
        let second = time_ms / 1000;
        if second != self.second {
            *self = Self::of(second);
        }
        self
    }

    /// `1994-11-06T08:49:37.123Z`.
    pub(super) fn rfc3339_ms(&mut self, time_ms: u64, out: &mut Vec<u8>) {
        let second = &self.at(time_ms).rfc3339;
        let (whole, zone) = second.split_at(second.len() - 1);
        out.extend_from_slice(whole);
        let ms = (time_ms % 1000) as u16;
        let digit = |value: u16| b'0' + (value % 10) as u8;
        out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms)]);
        out.extend_from_slice(zone);
    }

    pub(super) fn clf(&mut self, time_ms: u64) -> &[u8] {
        &self.at(time_ms).clf
    }
}

/// `key` is all that stands between the value before and this one; it ends in the quote that opens the text.
#[inline]
fn text(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    json(value, out);
}

#[inline]
fn count(key: &[u8], value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    number(value, out);
}

fn write_json(record: &Record<'_>, time: &mut TimeTexts, out: &mut Vec<u8>) {
    // once for nearly every record, instead of on the way
    out.reserve(1024);
    out.extend_from_slice(b"{\"time\":\"");
    time.rfc3339_ms(record.time_ms, out);
    out.extend_from_slice(b"\",\"client\":\"");
    match record.client {
        Some(address) => escape::address(address, out),
        None => out.extend_from_slice(b"unix:"),
    }
    count(b"\",\"client_port\":", record.client_port.into(), out);
    text(b",\"user\":\"", record.user, out);
    text(b"\",\"method\":\"", record.method, out);
    text(b"\",\"scheme\":\"", record.scheme.as_bytes(), out);
    text(b"\",\"authority\":\"", record.authority, out);
    text(b"\",\"path\":\"", record.path, out);
    match record.query {
        Some(query) => {
            text(b"\",\"query\":\"", query, out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"\",\"query\":null"),
    }
    text(b",\"protocol\":\"", record.protocol.as_bytes(), out);
    count(b"\",\"status\":", record.status.into(), out);
    count(b",\"bytes_sent\":", record.bytes_sent, out);
    count(b",\"bytes_received\":", record.bytes_received, out);
    out.extend_from_slice(b",\"duration_ms\":");
    thousandths(record.duration_us, out);
    text(b",\"outcome\":\"", record.outcome.as_bytes(), out);
    text(b"\",\"fault\":\"", record.fault.as_bytes(), out);
    text(b"\",\"reason\":\"", record.reason.as_bytes(), out);
    text(b"\",\"site\":\"", record.site.as_bytes(), out);
    text(b"\",\"route\":\"", record.route.as_bytes(), out);
    text(b"\",\"upstream\":\"", record.upstream.as_bytes(), out);
    text(b"\",\"server\":\"", record.server.as_bytes(), out);
    count(b"\",\"attempts\":", record.attempts.into(), out);
    out.extend_from_slice(b",\"upstream_ms\":");
    match record.upstream_us {
        Some(micros) => thousandths(micros, out),
        None => out.extend_from_slice(b"null"),
    }
    text(b",\"cache\":\"", record.cache.as_bytes(), out);
    text(b"\",\"request_id\":\"", record.request_id, out);
    text(b"\",\"user_agent\":\"", record.user_agent, out);
    text(b"\",\"referer\":\"", record.referer, out);
    match &record.tls {
        None => out.extend_from_slice(b"\",\"tls\":null}"),
        Some(tls) => {
            text(b"\",\"tls\":{\"version\":\"", tls.version.as_bytes(), out);
            text(b"\",\"suite\":\"", tls.suite.as_bytes(), out);
            text(b"\",\"sni\":\"", tls.sni.as_bytes(), out);
            text(b"\",\"client\":\"", tls.client.as_bytes(), out);
            out.extend_from_slice(b"\",\"resumed\":");
            let resumed: &[u8] = if tls.resumed { b"true}}" } else { b"false}}" };
            out.extend_from_slice(resumed);
        }
    }
}

/// `client - user [time] "method uri protocol" status bytes "referer" "user agent"`.
fn write_combined(record: &Record<'_>, time: &mut TimeTexts, out: &mut Vec<u8>) {
    out.reserve(512);
    match record.client {
        Some(address) => escape::address(address, out),
        None => out.extend_from_slice(b"unix:"),
    }
    out.extend_from_slice(b" - ");
    user(record.user, out);
    out.extend_from_slice(b" [");
    out.extend_from_slice(time.clf(record.time_ms));
    out.extend_from_slice(b"] \"");
    hex(record.method, out);
    out.push(b' ');
    hex(record.path, out);
    if let Some(query) = record.query {
        out.push(b'?');
        hex(query, out);
    }
    out.push(b' ');
    hex(record.protocol.as_bytes(), out);
    count(b"\" ", record.status.into(), out);
    count(b" ", record.bytes_sent, out);
    out.extend_from_slice(b" \"");
    or_dash(record.referer, out);
    out.extend_from_slice(b"\" \"");
    or_dash(record.user_agent, out);
    out.push(b'"');
}

/// A user's name stands unquoted between spaces: one inside it would shift every field after it.
fn user(name: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    or_dash(name, out);
    if name.contains(&b' ') {
        let escaped = out.split_off(start);
        for byte in escaped {
            if byte == b' ' {
                out.extend_from_slice(b"\\x20");
            } else {
                out.push(byte);
            }
        }
    }
}

fn or_dash(value: &[u8], out: &mut Vec<u8>) {
    if value.is_empty() {
        out.push(b'-');
    } else {
        hex(value, out);
    }
}

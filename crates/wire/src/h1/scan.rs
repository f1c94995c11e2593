//! The scanner: validates and indexes a head in one pass, line by line, resumable between reads.
//!
//! Stricter than RFC 9112 where leniency has been used for smuggling: only CRLF ends a line, a bare CR or LF is an error,
//! no folding, no white space before the colon, one SP between the parts of a start line.

use narthex_message::validate::{BadResponse, is_token_byte};
use narthex_message::{Field, FieldId, Index, Reject, Span, Version};

use super::lanes::{self, BLOCK, LANES};

/// Size bounds of a head, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Start line bytes.
    pub line: usize,
    /// One field line.
    pub field: usize,
    /// All bytes, +32 per field.
    pub head: usize,
    /// Field lines.
    pub fields: usize,
}

/// How far the scan came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The head ends at this offset.
    Complete(usize),
    /// More bytes are needed.
    Partial,
}

/// What may be wrong, before it is known whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    LineEnd,
    StartLine,
    Method,
    Target,
    LineTooLong,
    Version,
    Name,
    Value,
    Fold,
    FieldTooLong,
    TooLarge,
    TooMany,
}

impl From<Fault> for Reject {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::LineEnd => Self::BareLineEnd,
            Fault::StartLine => Self::RequestLine,
            Fault::Method => Self::Method,
            Fault::Target => Self::Target,
            Fault::LineTooLong => Self::TargetTooLong,
            Fault::Version => Self::Version,
            Fault::Name => Self::FieldName,
            Fault::Value => Self::FieldValue,
            Fault::Fold => Self::FieldFold,
            Fault::FieldTooLong => Self::FieldTooLong,
            Fault::TooLarge => Self::HeadTooLarge,
            Fault::TooMany => Self::TooManyFields,
        }
    }
}

impl From<Fault> for BadResponse {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::LineEnd => Self::BareLineEnd,
            Fault::StartLine | Fault::Method | Fault::Target | Fault::Version => Self::StatusLine,
            Fault::Name | Fault::Value | Fault::Fold => Self::Field,
            Fault::LineTooLong | Fault::FieldTooLong | Fault::TooLarge => Self::HeadTooLarge,
            Fault::TooMany => Self::TooManyFields,
        }
    }
}

/// Scans a request head. `index` keeps what was found between calls with ever longer `bytes`; clear it first.
#[inline]
pub fn request(bytes: &[u8], index: &mut Index, limits: &HeadLimits) -> Result<Progress, Reject> {
    if !index.started {
        // RFC 9112 2.2: one empty line before a request line is forgiven (old clients end a body with it).
        let skip = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
        if bytes == b"\r" {
            return Ok(Progress::Partial);
        }
        match request_line(bytes, skip, index, limits)? {
            None => return Ok(Progress::Partial),
            Some(next) => {
                index.scanned = next;
                index.started = true;
            }
        }
    }
    Ok(fields(bytes, index, limits)?)
}

/// Scans a response head, as [`request`] does.
#[inline]
pub fn response(
    bytes: &[u8],
    index: &mut Index,
    limits: &HeadLimits,
) -> Result<Progress, BadResponse> {
    if !index.started {
        match status_line(bytes, index, limits)? {
            None => return Ok(Progress::Partial),
            Some(next) => {
                index.scanned = next;
                index.started = true;
            }
        }
    }
    Ok(fields(bytes, index, limits)?)
}

/// Scans a trailer section: field lines up to the empty line.
pub fn trailers(bytes: &[u8], index: &mut Index, limits: &HeadLimits) -> Result<Progress, Reject> {
    Ok(fields(bytes, index, limits)?)
}

/// `method SP target SP HTTP/1.x CRLF`.
#[inline(always)]
fn request_line(
    bytes: &[u8],
    from: usize,
    index: &mut Index,
    limits: &HeadLimits,
) -> Result<Option<usize>, Fault> {
    let method_end = run(bytes, from, is_token_byte);
    match bytes.get(method_end) {
        Some(b' ') if method_end > from => {}
        None if method_end - from <= limits.line => return Ok(None),
        None => return Err(Fault::LineTooLong),
        Some(_) => return Err(Fault::Method),
    }
    let target_start = method_end + 1;
    let target_end = run(bytes, target_start, |b| (0x21..0x7f).contains(&b));
    if target_end - from > limits.line {
        return Err(Fault::LineTooLong);
    }
    match bytes.get(target_end) {
        Some(b' ') if target_end > target_start => {}
        None => return Ok(None),
        // `GET /` and the line's end: HTTP/0.9.
        Some(_) => {
            return Err(if target_end > target_start {
                Fault::StartLine
            } else {
                Fault::Target
            });
        }
    }
    let Some((version, next)) = version_and_end(bytes, target_end + 1)? else {
        return Ok(None);
    };
    if next - from > limits.line {
        return Err(Fault::LineTooLong);
    }
    index.method = Span::new(from, method_end);
    index.target = Span::new(target_start, target_end);
    index.version = version;
    Ok(Some(next))
}

/// `HTTP/1.x CRLF`.
fn version_and_end(bytes: &[u8], from: usize) -> Result<Option<(Version, usize)>, Fault> {
    let rest = bytes.get(from..).unwrap_or_default();
    match rest.first_chunk::<10>() {
        Some(b"HTTP/1.1\r\n") => return Ok(Some((Version::Http11, from + 10))),
        Some(b"HTTP/1.0\r\n") => return Ok(Some((Version::Http10, from + 10))),
        _ => {}
    }
    let expected = b"HTTP/1.1\r\n";
    let same = rest
        .iter()
        .zip(expected)
        .take_while(|(a, b)| a == b)
        .count();
    if same == rest.len() || (rest.starts_with(b"HTTP/1.0") && b"HTTP/1.0\r\n".starts_with(rest)) {
        return Ok(None);
    }
    // A well-formed version that is not ours is 505; anything else is no request line.
    if let Some(version) = rest.get(..8)
        && version.starts_with(b"HTTP/")
        && version.get(5).is_some_and(u8::is_ascii_digit)
        && version.get(6) == Some(&b'.')
        && version.get(7).is_some_and(u8::is_ascii_digit)
    {
        let known = matches!(version, b"HTTP/1.1" | b"HTTP/1.0");
        return Err(match rest.get(8..10) {
            Some(b"\r\n") => Fault::Version,
            _ if known && rest.get(8) == Some(&b'\n') => Fault::LineEnd,
            _ => Fault::StartLine,
        });
    }
    Err(
        if rest.len() < 8
            && b"HTTP/".starts_with(rest.get(..5.min(rest.len())).unwrap_or_default())
            && !rest.contains(&b'\n')
        {
            // `HTTP/2` and the like, still incomplete but never ours.
            Fault::Version
        } else {
            Fault::StartLine
        },
    )
}

/// `HTTP/1.x SP 3DIGIT SP reason CRLF`; a missing reason, with or without its SP, is accepted (RFC 9112 4).
#[inline(always)]
fn status_line(
    bytes: &[u8],
    index: &mut Index,
    limits: &HeadLimits,
) -> Result<Option<usize>, Fault> {
    let Some(start) = bytes.first_chunk::<12>() else {
        let known = b"HTTP/1.".iter().zip(bytes).all(|(a, b)| a == b);
        return if known {
            Ok(None)
        } else {
            Err(Fault::StartLine)
        };
    };
    index.version = match start.first_chunk::<9>() {
        Some(b"HTTP/1.1 ") => Version::Http11,
        Some(b"HTTP/1.0 ") => Version::Http10,
        _ => return Err(Fault::StartLine),
    };
    let [.., a, b, c] = *start;
    if !(b'1'..=b'5').contains(&a) || !b.is_ascii_digit() || !c.is_ascii_digit() {
        return Err(Fault::StartLine);
    }
    index.status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    let reason_start = match bytes.get(12) {
        None => return Ok(None),
        Some(b' ') => 13,
        Some(b'\r') => 12,
        Some(_) => return Err(Fault::StartLine),
    };
    let reason_end = value_end(bytes, reason_start);
    if reason_end > limits.line {
        return Err(Fault::LineTooLong);
    }
    let Some(next) = line_end(bytes, reason_end, Fault::Value)? else {
        return Ok(None);
    };
    index.reason = Span::new(reason_start, reason_end);
    Ok(Some(next))
}

/// Field lines from `index.scanned` to the empty line.
fn fields(bytes: &[u8], index: &mut Index, limits: &HeadLimits) -> Result<Progress, Fault> {
    let mut rest = bytes.get(index.scanned..).unwrap_or_default();
    loop {
        if rest.starts_with(b"\r\n") {
            index.scanned += 2;
            check_size(index.scanned, index, limits)?;
            return Ok(Progress::Complete(index.scanned));
        }
        let taken = match rest.first_chunk::<BLOCK>() {
            Some(block) => usual_line(block, rest, index, limits),
            None => usual_last_line(rest, index, limits),
        };
        if let Some(after) = taken {
            rest = after;
            continue;
        }
        let Some(field) = unusual_line(bytes, index.scanned, limits)? else {
            break;
        };
        if index.fields.len() >= limits.fields {
            return Err(Fault::TooMany);
        }
        index.scanned = field.end as usize;
        index.push(field);
        rest = bytes.get(index.scanned..).unwrap_or_default();
    }
    check_size(bytes.len(), index, limits)?;
    Ok(Progress::Partial)
}

/// Near the end of what has arrived: [`usual_line`] in a block that is filled up.
#[inline(never)]
fn usual_last_line<'b>(rest: &'b [u8], index: &mut Index, limits: &HeadLimits) -> Option<&'b [u8]> {
    // A zero is never part of a line.
    let mut block = [0; BLOCK];
    block.get_mut(..rest.len())?.copy_from_slice(rest);
    usual_line(&block, rest, index, limits)
}

/// Records a whole line as everybody writes it (a known name, a colon, one space, a value that neither begins nor ends with
/// white space), and says what follows. What is anything else, or perhaps a fault, is for [`field_line`], which agrees with
/// this on every such line.
///
/// `block` is the beginning of `rest`. No sum of offsets here can be too large: every one lies in the slice.
#[inline(always)]
fn usual_line<'b>(
    block: &[u8; BLOCK],
    rest: &'b [u8],
    index: &mut Index,
    limits: &HeadLimits,
) -> Option<&'b [u8]> {
    let marks = lanes::marks(block);
    let name_len = marks.colons.trailing_zeros();
    let id = FieldId::at_start_of(block.first_chunk()?, name_len as usize)?;
    // A known name is far shorter than a block.
    let value_at = name_len.wrapping_add(2);
    let len = match marks.controls.checked_shr(value_at)? {
        0 => value_end(rest, BLOCK),
        after => value_at.wrapping_add(after.trailing_zeros()) as usize,
    };
    if len > limits.field || index.fields.len() >= limits.fields {
        return None;
    }
    let (line, after) = rest.split_at_checked(len.wrapping_add(2))?;
    // The colon was found; a value of one byte is rare, and not looked for here.
    let [_, b' ', first, .., last, _, _] = line.get(name_len as usize..)? else {
        return None;
    };
    if *first <= b' ' || matches!(last, b' ' | b'\t') || line.last_chunk() != Some(b"\r\n") {
        return None;
    }
    let start = index.scanned as u32;
    let end = start.wrapping_add(len as u32);
    index.scanned = index.scanned.wrapping_add(line.len());
    index.push(Field {
        id,
        sloppy: false,
        name: Span {
            start,
            end: start.wrapping_add(name_len),
        },
        value: Span {
            start: start.wrapping_add(value_at),
            end,
        },
        end: end.wrapping_add(2),
    });
    Some(after)
}

/// Any other line, or the fault in it. `None` if more bytes are needed.
#[cold]
fn unusual_line(bytes: &[u8], start: usize, limits: &HeadLimits) -> Result<Option<Field>, Fault> {
    match bytes.get(start..).unwrap_or_default() {
        [] | [b'\r'] => Ok(None),
        [b'\r' | b'\n', ..] => Err(Fault::LineEnd),
        [b' ' | b'\t', ..] => Err(Fault::Fold),
        _ => field_line(bytes, start, limits),
    }
}

fn check_size(bytes: usize, index: &Index, limits: &HeadLimits) -> Result<(), Fault> {
    let counted = if bytes > index.scanned {
        bytes
    } else {
        index.scanned
    };
    if counted + index.fields.len() * 32 > limits.head {
        Err(Fault::TooLarge)
    } else {
        Ok(())
    }
}

/// `name ":" OWS value OWS CRLF`; `None` if the line is incomplete and good so far.
fn field_line(bytes: &[u8], start: usize, limits: &HeadLimits) -> Result<Option<Field>, Fault> {
    let Some((name_end, id, sloppy)) = field_name(bytes, start, limits)? else {
        return Ok(None);
    };
    let mut value_start = name_end + 1;
    // One space, as everybody writes it; then whatever else there may be.
    if bytes.get(value_start) == Some(&b' ') {
        value_start += 1;
    }
    while matches!(bytes.get(value_start), Some(b' ' | b'\t')) {
        value_start += 1;
    }
    let raw_end = value_end(bytes, value_start);
    if raw_end - start > limits.field {
        return Err(Fault::FieldTooLong);
    }
    let Some(end) = line_end(bytes, raw_end, Fault::Value)? else {
        return Ok(None);
    };
    let mut value_stop = raw_end;
    while value_stop > value_start && matches!(bytes.get(value_stop - 1), Some(b' ' | b'\t')) {
        value_stop -= 1;
    }
    Ok(Some(Field {
        id,
        sloppy,
        name: Span::new(start, name_end),
        value: Span::new(value_start, value_stop),
        end: end as u32,
    }))
}

/// A name and its colon.
fn field_name(
    bytes: &[u8],
    start: usize,
    limits: &HeadLimits,
) -> Result<Option<(usize, FieldId, bool)>, Fault> {
    let mut sloppy = false;
    let name_end = run(bytes, start, |b| {
        sloppy |= b == b'_' || b == b'.';
        is_token_byte(b)
    });
    if name_end - start > limits.field {
        return Err(Fault::FieldTooLong);
    }
    match bytes.get(name_end) {
        Some(b':') if name_end > start => {
            let name = bytes.get(start..name_end).unwrap_or_default();
            Ok(Some((name_end, FieldId::of(name), sloppy)))
        }
        None => Ok(None),
        Some(b'\n') => Err(Fault::LineEnd),
        Some(_) => Err(Fault::Name),
    }
}

/// The CRLF at `at`: the offset behind it, `None` if it has not arrived.
#[inline]
fn line_end(bytes: &[u8], at: usize, other: Fault) -> Result<Option<usize>, Fault> {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(Some(at + 2)),
        (None, _) | (Some(b'\r'), None) => Ok(None),
        (Some(b'\r' | b'\n'), _) => Err(Fault::LineEnd),
        _ => Err(other),
    }
}

/// First offset from `from` on whose byte does not satisfy `good`.
#[inline]
fn run(bytes: &[u8], from: usize, mut good: impl FnMut(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|&b| !good(b)).unwrap_or(rest.len())
}

/// First offset from `from` on whose byte may not stand in a field value.
#[inline]
fn value_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    let mut rest = bytes.get(from..).unwrap_or_default();
    while let Some((chunk, tail)) = rest.split_first_chunk::<LANES>() {
        let controls = lanes::controls(chunk);
        if controls == 0 {
            at += LANES;
            rest = tail;
            continue;
        }
        at += controls.trailing_zeros() as usize;
        match bytes.get(at) {
            // Flagged, and allowed.
            Some(b'\t') => at += 1,
            _ => return at,
        }
        rest = bytes.get(at..).unwrap_or_default();
    }
    let bad = rest
        .iter()
        .position(|&b| !narthex_message::edit::is_value_byte(b));
    at + bad.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;

//! From a decoded block to the one message form: lines `name: value CRLF` and their index, `Host` in the place of `:authority`,
//! crumbs of cookies joined. Judges what only HTTP/2 knows: the order, repetition and absence of pseudo-fields (RFC 9113 8.3).

use super::error::Oversize;
use super::hpack::{Fault, Line, Name, Sink};
use crate::h1::scan::HeadLimits;
use narthex_message::edit::is_value_byte;
use narthex_message::validate::{Malformed, Method, http2, is_same_authority, is_token_byte};
use narthex_message::{Field, FieldId, Head, Index, Span, Version};

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request's head.
    Request,
    /// A response's, informational ones too.
    Response,
    /// A trailer section of either.
    Trailers,
}

/// How often a head may be beyond its limits before that is an attack rather than a mistake: below, it is decoded to the end,
/// without being kept, and answered.
const EXCESS: usize = 4;

/// The last head that was decoded. Its memory goes around with that of the sessions.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Lines, and between them what is of no use any more.
    pub bytes: Vec<u8>,
    /// The index over them.
    pub index: Index,
    /// Values of `cookie` fields.
    crumbs: Vec<Span>,
}

/// What is asked of a head.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'l> {
    /// The limits of HTTP/1.
    pub limits: &'l HeadLimits,
    /// `:protocol` is allowed.
    pub extended_connect: bool,
    /// What `:scheme` must be; `Some(true)` is `https`.
    pub secure: Option<bool>,
}

/// What a block turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Too large; the rest is what fitted.
    pub oversize: Option<Oversize>,
    /// The length that the body claims to have.
    pub content_length: Option<u64>,
}

/// Takes the lines of one block.
#[derive(Debug)]
pub struct Builder<'a> {
    decoded: &'a mut Decoded,
    rules: Rules<'a>,
    kind: Kind,
    /// Bytes of names and values, 32 added per field.
    size: usize,
    /// Fields that limits count: regular ones, crumbs singly, and `:authority`.
    count: usize,
    /// Fields of any kind.
    all: usize,
    seen: u8,
    regular: bool,
    malformed: Option<Malformed>,
    oversize: Option<Oversize>,
}

const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const AUTHORITY: u8 = 4;
const PATH: u8 = 8;
const STATUS: u8 = 16;
const PROTOCOL: u8 = 32;

impl<'a> Builder<'a> {
    /// For one block; forgets what was decoded before.
    pub fn new(kind: Kind, rules: Rules<'a>, decoded: &'a mut Decoded) -> Self {
        decoded.bytes.clear();
        decoded.index.clear();
        decoded.crumbs.clear();
        Self {
            decoded,
            rules,
            kind,
            size: 0,
            count: 0,
            all: 0,
            seen: 0,
            regular: false,
            malformed: None,
            oversize: None,
        }
    }

    /// After the last line. `ended`: the message has no body.
    pub fn finish(mut self, ended: bool) -> Result<Outcome, Malformed> {
        if let Some(malformed) = self.malformed {
            return Err(malformed);
        }
        self.pseudo_fields()?;
        self.join_crumbs();
        let index = &mut self.decoded.index;
        index.version = Version::Http2;
        index.started = true;
        index.scanned = self.decoded.bytes.len();
        index.ended = ended;
        let head = Head::new(&self.decoded.bytes, &self.decoded.index);
        let content_length = http2(head)?;
        if self.kind == Kind::Response && self.decoded.index.present.has(FieldId::Te) {
            return Err(Malformed::Te);
        }
        Ok(Outcome {
            oversize: self.oversize,
            content_length,
        })
    }

    /// RFC 9113 8.3: those that must be there are, those that must not are not.
    fn pseudo_fields(&mut self) -> Result<(), Malformed> {
        let needed = match self.kind {
            Kind::Trailers => 0,
            Kind::Response => STATUS,
            Kind::Request => {
                let Decoded { bytes, index, .. } = &mut *self.decoded;
                let connect = Method::of(index.method.of(bytes)) == Method::Connect;
                match (connect, self.seen & PROTOCOL != 0) {
                    (true, true) if self.rules.extended_connect => {
                        // The message form of an upgrade.
                        let at = bytes.len();
                        bytes.extend_from_slice(b"GET\r\n");
                        index.method = Span::new(at, at + 3);
                        METHOD | SCHEME | AUTHORITY | PATH | PROTOCOL
                    }
                    (true, false) if self.seen & (SCHEME | PATH) == 0 => METHOD | AUTHORITY,
                    (false, false) => METHOD | SCHEME | PATH,
                    _ => return Err(Malformed::PseudoField),
                }
            }
        };
        if self.seen & needed == needed {
            Ok(())
        } else {
            Err(Malformed::PseudoField)
        }
    }

    /// RFC 9113 8.2.3: more than one `cookie` field, between which others stood, become one.
    fn join_crumbs(&mut self) {
        let Decoded {
            bytes,
            index,
            crumbs,
        } = &mut *self.decoded;
        if crumbs.len() < 2 {
            return;
        }
        let start = bytes.len();
        bytes.extend_from_slice(b"cookie: ");
        let value = bytes.len();
        for (i, crumb) in crumbs.iter().enumerate() {
            if i > 0 {
                bytes.extend_from_slice(b"; ");
            }
            let range = crumb.start as usize..crumb.end as usize;
            if range.end <= value {
                bytes.extend_from_within(range);
            }
        }
        let end = bytes.len();
        bytes.extend_from_slice(b"\r\n");
        if let Some(field) = index.fields.iter_mut().find(|f| f.id == FieldId::Cookie) {
            field.name = Span::new(start, start + 6);
            field.value = Span::new(value, end);
            field.end = bytes.len() as u32;
        }
    }

    /// Forgets the line that has just been written.
    #[inline]
    fn drop_line(&mut self, line: Line) {
        self.decoded.bytes.truncate(line.start);
    }

    fn pseudo(&mut self, line: Line) -> Result<(), Malformed> {
        let bit = match (line.name, self.kind) {
            (Name::Method, Kind::Request) => METHOD,
            (Name::Scheme, Kind::Request) => SCHEME,
            (Name::Authority, Kind::Request) => AUTHORITY,
            (Name::Path, Kind::Request) => PATH,
            (Name::Protocol, Kind::Request) => PROTOCOL,
            (Name::Status, Kind::Response) => STATUS,
            _ => return Err(Malformed::PseudoField),
        };
        if self.regular || self.seen & bit != 0 {
            return Err(Malformed::PseudoField);
        }
        self.seen |= bit;
        if !line.clean {
            return Err(Malformed::FieldValue);
        }
        let span = Span::new(line.start + line.name_len + 2, line.value_end);
        let Decoded { bytes, index, .. } = &mut *self.decoded;
        let value = span.of(bytes);
        let is_token = |v: &[u8]| !v.is_empty() && v.iter().all(|&b| is_token_byte(b));
        match bit {
            METHOD if is_token(value) => index.method = span,
            METHOD => return Err(Malformed::Method),
            PATH if value.is_empty() || !value.iter().all(|b| (0x21..0x7f).contains(b)) => {
                return Err(Malformed::Path);
            }
            PATH if value.len() > self.rules.limits.line => {
                self.oversize.get_or_insert(Oversize::Target);
                self.drop_line(line);
            }
            PATH => index.target = span,
            SCHEME => {
                let secure = match value {
                    b"http" => false,
                    b"https" => true,
                    _ => return Err(Malformed::Scheme),
                };
                if self.rules.secure.is_some_and(|s| s != secure) {
                    return Err(Malformed::Scheme);
                }
                index.scheme = span;
            }
            PROTOCOL if is_token(value) => index.protocol = span,
            PROTOCOL => return Err(Malformed::PseudoField),
            STATUS => index.status = status(value)?,
            _ => self.authority(line, span),
        }
        Ok(())
    }

    /// `:authority: value CRLF` becomes `Host: value CRLF`: the same end, six bytes later.
    fn authority(&mut self, line: Line, value: Span) {
        self.count += 1;
        if self.over_limits(line) {
            return self.drop_line(line);
        }
        let start = (value.start as usize).saturating_sub(6);
        let Decoded { bytes, index, .. } = &mut *self.decoded;
        if let Some(place) = bytes.get_mut(start..start + 6) {
            place.copy_from_slice(b"Host: ");
        }
        index.push(Field {
            id: FieldId::Host,
            sloppy: false,
            name: Span::new(start, start + 4),
            value,
            end: bytes.len() as u32,
        });
        // What a CONNECT asks for (RFC 9113 8.5); overwritten by a path.
        if index.target.is_empty() {
            index.target = value;
        }
    }

    /// Is the line, or everything with it, too large?
    #[inline]
    fn over_limits(&mut self, line: Line) -> bool {
        let limits = self.rules.limits;
        if self.oversize.is_none() {
            if line.value_end - line.start > limits.field {
                self.oversize = Some(Oversize::Field);
            } else if self.size > limits.head {
                self.oversize = Some(Oversize::Head);
            } else if self.count > limits.fields {
                self.oversize = Some(Oversize::Fields);
            }
        }
        self.oversize.is_some()
    }

    fn regular(&mut self, line: Line, id: FieldId, sloppy: bool) {
        self.regular = true;
        self.count += 1;
        if !line.clean {
            self.malformed = Some(Malformed::FieldValue);
            return self.drop_line(line);
        }
        if self.over_limits(line) {
            return self.drop_line(line);
        }
        let value = Span::new(line.start + line.name_len + 2, line.value_end);
        match id {
            FieldId::Host if self.says_the_same(value) => return self.drop_line(line),
            FieldId::Cookie if self.kind == Kind::Request => {
                if !self.decoded.crumbs.is_empty() && self.adjoin(line, value) {
                    return;
                }
                let again = !self.decoded.crumbs.is_empty();
                self.decoded.crumbs.push(value);
                if again {
                    return;
                }
            }
            _ => {}
        }
        let end = self.decoded.bytes.len() as u32;
        self.decoded.index.push(Field {
            id,
            sloppy,
            name: Span::new(line.start, line.start + line.name_len),
            value,
            end,
        });
    }

    /// Does a `host` field say what `:authority` said (RFC 9113 8.3.1)? Then it is not needed; else the validator sees both.
    fn says_the_same(&self, host: Span) -> bool {
        let Decoded { bytes, index, .. } = &*self.decoded;
        if self.seen & AUTHORITY == 0 || index.repeated.has(FieldId::Host) {
            return false;
        }
        let port = if index.scheme.of(bytes) == b"https" {
            443
        } else {
            80
        };
        Head::new(bytes, index)
            .get(FieldId::Host)
            .is_some_and(|a| is_same_authority(a, host.of(bytes), port))
    }

    /// The usual place of a crumb, right behind another: it is joined at once. Only while all so far were.
    fn adjoin(&mut self, line: Line, value: Span) -> bool {
        let Decoded {
            bytes,
            index,
            crumbs,
        } = &mut *self.decoded;
        let ([joined], Some(last)) = (crumbs.as_mut_slice(), index.fields.last_mut()) else {
            return false;
        };
        if last.id != FieldId::Cookie || last.end as usize != line.start {
            return false;
        }
        // `a=b CRLF cookie: c=d CRLF`: the CRLF becomes `; `, the value moves to behind it.
        let Some(gap) = bytes.get_mut(line.start.saturating_sub(2)..line.start) else {
            return false;
        };
        gap.copy_from_slice(b"; ");
        bytes.copy_within(value.start as usize..value.end as usize, line.start);
        let end = line.start + value.len();
        bytes.truncate(end);
        bytes.extend_from_slice(b"\r\n");
        last.value.end = end as u32;
        last.end = bytes.len() as u32;
        *joined = last.value;
        true
    }
}

/// Three digits, 100 to 599; 101 has no meaning here (RFC 9113 8.6).
fn status(value: &[u8]) -> Result<u16, Malformed> {
    let [a @ b'1'..=b'5', b, c] = value else {
        return Err(Malformed::Status);
    };
    if !b.is_ascii_digit() || !c.is_ascii_digit() || value == b"101" {
        return Err(Malformed::Status);
    }
    Ok(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
}

impl Sink for Builder<'_> {
    #[inline]
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.decoded.bytes
    }

    #[inline]
    fn line(&mut self, line: Line) -> Result<(), Fault> {
        // Colon and space are two of the line's bytes and not of the field's.
        self.size += line.value_end - line.start + 30;
        self.all += 1;
        if self.size > self.rules.limits.head.saturating_mul(EXCESS)
            || self.all > self.rules.limits.fields.saturating_mul(EXCESS) + 8
        {
            return Err(Fault::Calm("a head of four times the limit"));
        }
        if self.malformed.is_some() {
            self.drop_line(line);
            return Ok(());
        }
        match line.name {
            Name::Field { id, sloppy } => self.regular(line, id, sloppy),
            Name::Bad => {
                self.malformed = Some(Malformed::FieldName);
                self.drop_line(line);
            }
            _ => {
                if let Err(malformed) = self.pseudo(line) {
                    self.malformed = Some(malformed);
                    self.drop_line(line);
                }
            }
        }
        Ok(())
    }
}

/// The value of a `priority` field is looked at before anybody else has the head.
pub fn priority(decoded: &Decoded) -> Option<&[u8]> {
    let head = Head::new(&decoded.bytes, &decoded.index);
    head.get(FieldId::Priority)
        .filter(|v| v.iter().all(|&b| is_value_byte(b)))
}

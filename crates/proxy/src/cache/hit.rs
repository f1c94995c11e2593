//! An answer from an object: whole, a part, or that the client has it already.

use std::io;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use narthex_cache::policy::{self, Asked, Precondition, Ranges};
use narthex_cache::store::Read;
use narthex_cache::{Object, key};
use narthex_message::{Edits, FieldId, FieldSet, Head, Index, Version};
use narthex_net::rt;
use narthex_net::scratch::{self, BULK};
use narthex_net::websocket;
use narthex_wire::h1::chunk;
use narthex_wire::h1::encode::{self, Keep};

use super::coded::{self, Suits};
use super::{Shown, read_stored};
use crate::answer::Answer;
use crate::connection::Next;
use crate::context::context;
use crate::fail::Failure;
use crate::handle::Exchange;
use crate::relay::FAIR_SHARE;

/// Bodies up to this are copied behind their head, so that both leave in one send.
const TOGETHER: usize = 16 * 1024;
/// Parts of a message that are sent at once: fewer sends of more bytes cost less. With pieces of a large body that is the share after which
/// another connection has its turn.
const PARTS: usize = 4;

/// Of the content alone: not in a 304 (RFC 9110 15.4.5), and our own in a part.
const CONTENT: FieldSet = FieldSet::of(&[
    FieldId::ContentType,
    FieldId::ContentEncoding,
    FieldId::ContentRange,
]);

/// What of an object the client gets.
pub(super) enum Form {
    Whole,
    /// All of it, decoded.
    Decoded,
    NotModified,
    Failed,
    /// First and last byte.
    Part(u64, u64),
    Parts(Vec<(u64, u64)>),
    Unsatisfiable,
}

/// The bytes of the representation that an object has: from where on, and how long the whole is, if that is known.
fn extent(object: &Object) -> (u64, Option<u64>) {
    let meta = object.meta();
    match meta.part {
        Some((first, _)) => (first, meta.length),
        None if object.body.is_complete() => (0, Some(object.body.len())),
        None => (0, meta.length),
    }
}

/// Is it a slice of what the client asks for?
pub(super) fn is_slice(object: &Object) -> bool {
    object.meta().part.is_some() && key::is_slice(object.key())
}

impl Exchange<'_> {
    /// Answers from an object.
    pub(crate) async fn answer_stored(
        &mut self,
        object: &Arc<Object>,
        asked: &Asked,
        age_s: u32,
        shown: Shown,
    ) -> Next {
        let form = self.form(object, asked);
        // HTTP/1.0 knows no chunks: what has no length yet ends with the connection.
        let no_length = match form {
            Form::Whole => extent(object).1.is_none(),
            Form::Decoded => true,
            _ => false,
        };
        let endless = no_length && self.version() == Version::Http10;
        let keep = self.drain_at_hand() && self.keeps_alive() && !endless;
        let mut out = std::mem::take(&mut self.work.down);
        out.clear();
        let wanted = self.write_stored_head(object, &form, age_s, shown, keep, &mut out);
        self.story.cache = Some(shown);
        let sent = match (wanted, &form) {
            (None, _) => self.send_counted(&out).await,
            (Some(_), Form::Decoded) => self.send_decoded(object, &out).await,
            (Some(_), Form::Parts(parts)) => self.send_parts(object, parts, &mut out).await,
            (Some((from, to)), _) => self.send_stored(object, from, to, &mut out).await,
        };
        self.work.down = out;
        self.after_stored(sent, keep)
    }

    /// What becomes of the connection. An answer that has begun and did not come to its end must not look whole.
    pub(super) fn after_stored(&mut self, sent: Result<(), Failure>, keep: bool) -> Next {
        match sent {
            Ok(()) if keep => Next::Keep,
            Ok(()) => Next::Linger,
            Err(failure) => {
                self.story.failure.get_or_insert(failure);
                Next::Reset
            }
        }
    }

    /// `only-if-cached`, and it is not: 504 (RFC 9111 5.2.1.7).
    pub(super) async fn answer_not_cached(&mut self) -> Next {
        self.story.cache = Some(Shown::NotCached);
        self.answer(Answer {
            status: 504,
            content_type: "text/plain; charset=utf-8",
            body: b"504 it is not in the cache, and the request wants nothing else\n",
            location: None,
            reason: Some("not-cached"),
            close: false,
            grpc: None,
        })
        .await
    }

    pub(super) fn form(&self, object: &Object, asked: &Asked) -> Form {
        let decoded = self.suits(object) == Suits::Decoded;
        if !asked.conditional && !asked.range && !decoded {
            return Form::Whole;
        }
        let meta = object.meta();
        let meta = &if is_slice(object) {
            policy::as_whole(&meta)
        } else {
            meta
        };
        if asked.conditional {
            match policy::precondition(self.head(), meta, object.head()) {
                Precondition::Holds => {}
                Precondition::NotModified => return Form::NotModified,
                Precondition::Failed => return Form::Failed,
            }
        }
        if decoded {
            return Form::Decoded; // of what has no length yet there are no ranges
        }
        if meta.part.is_some() {
            return match policy::part_ranges(self.head(), meta, object.head()) {
                Some(Ranges::One(from, to)) => Form::Part(from, to),
                Some(Ranges::Many(parts)) => Form::Parts(parts),
                _ => Form::Unsatisfiable,
            };
        }
        let (_, length) = extent(object);
        // A range is of a GET (RFC 9110 14.2); what has no end yet cannot be measured.
        let (Some(length), 200, false) = (length, meta.status, asked.head) else {
            return Form::Whole;
        };
        if !asked.range {
            return Form::Whole;
        }
        match policy::ranges(self.head(), meta, object.head(), length) {
            Ranges::Whole => Form::Whole,
            Ranges::One(from, to) => Form::Part(from, to),
            Ranges::Many(parts) => Form::Parts(parts),
            Ranges::Unsatisfiable => Form::Unsatisfiable,
        }
    }

    /// Writes the head; what of the body follows (`None`: nothing), the end not included; `u64::MAX`: to wherever it ends.
    pub(super) fn write_stored_head(
        &mut self,
        object: &Object,
        form: &Form,
        age_s: u32,
        shown: Shown,
        keep: bool,
        out: &mut Vec<u8>,
    ) -> Option<(u64, u64)> {
        let (_, length) = extent(object);
        let head_only = self
            .facts
            .is_some_and(|f| f.method == narthex_message::Method::Head);
        let sliced = is_slice(object);
        let status = match form {
            Form::Whole if sliced => 200,
            Form::Whole | Form::Decoded => object.meta().status,
            Form::NotModified => 304,
            Form::Failed => 412,
            Form::Part(..) | Form::Parts(_) => 206,
            Form::Unsatisfiable => 416,
        };
        let mut content_range = Vec::new();
        let (wanted, said) = match form {
            // RFC 9110 8.6: without a length.
            Form::Whole if status == 204 => (None, None),
            Form::Whole => (Some((0, length.unwrap_or(u64::MAX))), length),
            Form::Decoded => (Some((0, u64::MAX)), None),
            Form::NotModified => (None, None),
            Form::Failed => (None, Some(0)),
            Form::Part(from, to) => {
                range_value(Some((*from, *to)), length, &mut content_range);
                let end = to.saturating_add(1);
                (Some((*from, end)), Some(end.saturating_sub(*from)))
            }
            Form::Parts(parts) => (Some((0, 0)), Some(self.parts_length(object, parts))),
            Form::Unsatisfiable => {
                range_value(None, length, &mut content_range);
                (None, Some(0))
            }
        };
        let start = out.len();
        let fast = matches!(form, Form::Whole) && !sliced && self.writes_plainly(status);
        if fast {
            // The stored head without its last line, as it is.
            let head = object.head();
            out.extend_from_slice(head.strip_suffix(b"\r\n").unwrap_or(head));
        } else {
            self.write_stored_fields(object, form, status, out);
        }
        let mut to = self.client_head(out);
        let mut value = Vec::with_capacity(64);
        encode::decimal(u64::from(age_s), &mut value);
        to.line("Age", &value);
        if !content_range.is_empty() {
            to.line("Content-Range", &content_range);
        }
        if self.cache_rule().is_some_and(|r| r.status_field) {
            value.clear();
            shown.write(&mut value);
            if sliced && !matches!(shown, Shown::StaleOnError { .. }) {
                value.extend_from_slice(b"; detail=slice");
            }
            to.line("Cache-Status", &value);
        }
        let id = &self.rt.runtime.config.request_id;
        if id.enabled {
            to.id(&id.header, &self.rt.runtime.id_start, self.id());
        }
        match said {
            Some(n) => to.length(n),
            None if wanted.is_some() && self.version() == Version::Http11 => {
                to.framing(narthex_message::Body::Chunked)
            }
            None => {}
        }
        to.connection(self.connection_line(keep));
        to.end();
        let wanted = wanted.filter(|_| !head_only);
        let follows = match wanted {
            None => Some(0),
            Some((_, u64::MAX)) => None,
            Some(_) => said,
        };
        self.story.status = status;
        self.story.sent += self.begin_stream(out, start, follows) as u64;
        wanted
    }

    /// May the stored head go out as it is? Only to HTTP/1, and if nothing on the way changes heads.
    fn writes_plainly(&self, status: u16) -> bool {
        self.client.h2.is_none()
            && status < 400
            && self.route_plan().is_some_and(|p| !p.chain.has_response())
            && self.hsts().is_none()
    }

    fn write_stored_fields(
        &mut self,
        object: &Object,
        form: &Form,
        status: u16,
        out: &mut Vec<u8>,
    ) {
        let mut index = self.work.take_response_index();
        read_stored(object.head(), &mut index);
        let head = Head::new(object.head(), &index);
        let mut edits = self.work.take_response_edits();
        edits.clear();
        if let Some(plan) = self.route_plan().filter(|p| p.chain.has_response()) {
            let none = Edits::default();
            context(
                self,
                &self.work,
                &self.work.edits,
                Some((status, head, &none)),
                |values| {
                    plan.chain.response(values, &mut edits);
                },
            );
        }
        self.add_hsts(&mut edits);
        if is_slice(object) || matches!(form, Form::Part(..) | Form::Parts(_)) {
            // Of other bytes than these (RFC 9530 2).
            edits.remove("Content-Digest");
            edits.remove("Content-MD5");
        }
        match form {
            Form::Decoded => coded::as_decoded(object, &mut edits),
            Form::NotModified if self.needs_decoding() => coded::weaken(object, &mut edits),
            _ => {}
        }
        let mut to = self.client_head(out);
        to.status(status, encode::reason(status).as_bytes());
        let keep = match form {
            Form::Whole | Form::Decoded => Keep::response(false),
            Form::Part(..) => Keep::response(false).without(FieldSet::of(&[FieldId::ContentRange])),
            Form::NotModified | Form::Failed | Form::Unsatisfiable | Form::Parts(_) => {
                Keep::response(false).without(CONTENT)
            }
        };
        to.fields(head, keep, &edits);
        if let Form::Parts(_) = form {
            let kind = ["multipart/byteranges; boundary=", boundary()].concat();
            to.line("Content-Type", kind.as_bytes());
        }
        self.work.response_edits = Some(edits);
        self.work.response_index = Some(index);
    }

    pub(super) async fn send_counted(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = self.send(bytes).await;
        self.story.sent += bytes.len() as u64;
        sent
    }

    /// Sends the head in `out` and a part of the body. Of a complete body nothing is copied but what is small.
    pub(super) async fn send_stored(
        &mut self,
        object: &Arc<Object>,
        from: u64,
        to: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let (first, _) = extent(object);
        let from = from.saturating_sub(first);
        let to = if to == u64::MAX {
            to
        } else {
            to.saturating_sub(first)
        };
        // Its end may have come since the head was written, which said that chunks follow.
        if to == u64::MAX || !object.body.is_complete() {
            self.send_counted(out).await?;
            return self.send_filling(object, from, to).await;
        }
        let end = to.min(object.body.len());
        let mut at = from;
        if end.saturating_sub(at) <= TOGETHER as u64 {
            while at < end {
                let piece = piece(object, at, end);
                if piece.is_empty() {
                    return Err(Failure::UpstreamTruncated);
                }
                out.extend_from_slice(piece);
                at += piece.len() as u64;
            }
            self.story.body_sent += end.saturating_sub(from);
            return self.send_counted(out).await;
        }
        self.send_complete(object, out, at, end).await
    }

    /// Sends what is left of a head, and of a complete body what stands from `at` on, not copied.
    async fn send_complete(
        &mut self,
        object: &Arc<Object>,
        mut head: &[u8],
        mut at: u64,
        end: u64,
    ) -> Result<(), Failure> {
        let mut moved = 0;
        let mut deadline = self.send_deadline();
        while !head.is_empty() || at < end {
            let mut parts = [io::IoSlice::new(&[]); PARTS];
            let mut left = parts.iter_mut();
            if !head.is_empty()
                && let Some(part) = left.next()
            {
                *part = io::IoSlice::new(head);
            }
            let mut next = at;
            for part in left {
                let piece = piece(object, next, end);
                next = next.saturating_add(piece.len() as u64);
                *part = io::IoSlice::new(piece);
            }
            if next == at && at < end {
                return Err(Failure::UpstreamTruncated);
            }
            let sent = self.client.stream.try_send_parts(&parts);
            match sent {
                Ok(n) => {
                    self.story.sent += n as u64;
                    let of_head = n.min(head.len());
                    head = head.get(of_head..).unwrap_or_default();
                    let of_body = (n - of_head) as u64;
                    at += of_body;
                    self.story.body_sent += of_body;
                    moved += n;
                    deadline = self.send_deadline();
                    if moved > FAIR_SHARE {
                        moved = 0;
                        rt::yield_now().await;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    rt::timeout_at(deadline, self.client.stream.writable())
                        .await
                        .map_err(|_| Failure::ClientSlowRead)?;
                }
                Err(_) => return Err(Failure::ClientGone),
            }
        }
        Ok(())
    }

    fn send_deadline(&self) -> u64 {
        let idle = self.plan().map_or(0, |p| p.bounds.client_send_idle);
        rt::now_ms().saturating_add(idle)
    }

    /// Sends a body as it comes.
    async fn send_filling(
        &mut self,
        object: &Arc<Object>,
        from: u64,
        to: u64,
    ) -> Result<(), Failure> {
        let is_known = to != u64::MAX;
        let chunked = !is_known && self.version() == Version::Http11;
        let mut at = from;
        let mut block = Vec::new();
        while at < to {
            block.clear();
            let most = BULK.min(usize::try_from(to - at).unwrap_or(usize::MAX));
            let read = std::future::poll_fn(|cx| {
                if self.client.stream.poll_dead().is_ready() {
                    return Poll::Ready(Err(Failure::ClientGone));
                }
                if is_known && object.body.is_complete() {
                    return Poll::Ready(Ok(None));
                }
                scratch::with(|buffer| {
                    let area = buffer.get_mut(..most).unwrap_or_default();
                    object.body.poll_read(at, area, cx).map(|read| {
                        if let Read::Bytes(n) = read {
                            let bytes = area.get(..n).unwrap_or_default();
                            if chunked {
                                chunk::size_line(n, &mut block);
                                block.extend_from_slice(bytes);
                                block.extend_from_slice(b"\r\n");
                            } else {
                                block.extend_from_slice(bytes);
                            }
                        }
                        Ok(Some(read))
                    })
                })
            })
            .await?;
            let Some(read) = read else {
                // All of it is there: the rest is not copied. The end of a piece that is lacking is an error there.
                return self.send_complete(object, &[], at, to).await;
            };
            match read {
                Read::Bytes(n) => {
                    self.send_counted(&block).await?;
                    self.story.body_sent += n as u64;
                    at += n as u64;
                }
                Read::End if to == u64::MAX => break,
                Read::End | Read::Cut => return Err(Failure::UpstreamTruncated),
            }
        }
        if chunked {
            self.send_counted(chunk::LAST_CHUNK).await?;
        }
        Ok(())
    }

    /// Several parts (RFC 9110 14.6).
    async fn send_parts(
        &mut self,
        object: &Arc<Object>,
        parts: &[(u64, u64)],
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let content_type = self.stored_type(object);
        let (_, length) = extent(object);
        for &(from, to) in parts {
            part_head(&content_type, (from, to), length, out);
            self.send_stored(object, from, to.saturating_add(1), out)
                .await?;
            out.clear();
        }
        part_end(out);
        self.send_counted(out).await
    }

    fn parts_length(&self, object: &Object, parts: &[(u64, u64)]) -> u64 {
        let content_type = self.stored_type(object);
        let (_, length) = extent(object);
        let mut frame = Vec::new();
        let mut bytes = 0u64;
        for &(from, to) in parts {
            part_head(&content_type, (from, to), length, &mut frame);
            bytes = bytes.saturating_add(to.saturating_sub(from).saturating_add(1));
        }
        part_end(&mut frame);
        bytes.saturating_add(frame.len() as u64)
    }

    /// `Content-Type` of what is stored.
    pub(super) fn stored_type(&self, object: &Object) -> Vec<u8> {
        let mut index = Index::default();
        read_stored(object.head(), &mut index);
        Head::new(object.head(), &index)
            .get(FieldId::ContentType)
            .map(<[u8]>::to_vec)
            .unwrap_or_default()
    }
}

/// Between parts. Another in every process: who writes a body cannot know it, and so cannot end a part in it.
fn boundary() -> &'static str {
    static BOUNDARY: OnceLock<String> = OnceLock::new();
    BOUNDARY.get_or_init(|| format!("{:032x}", u128::from_be_bytes(websocket::key())))
}

pub(super) fn part_head(
    content_type: &[u8],
    part: (u64, u64),
    length: Option<u64>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"\r\n--");
    out.extend_from_slice(boundary().as_bytes());
    out.extend_from_slice(b"\r\n");
    if !content_type.is_empty() {
        encode::line("Content-Type", content_type, out);
    }
    let mut value = Vec::new();
    range_value(Some(part), length, &mut value);
    encode::line("Content-Range", &value, out);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn part_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n--");
    out.extend_from_slice(boundary().as_bytes());
    out.extend_from_slice(b"--\r\n");
}

/// `Content-Range` of a part; of none, if there is no such part.
fn range_value(part: Option<(u64, u64)>, length: Option<u64>, out: &mut Vec<u8>) {
    if let Some((from, to)) = part {
        return policy::write_content_range(out, from, to, length);
    }
    out.extend_from_slice(b"bytes */");
    match length {
        Some(n) => encode::decimal(n, out),
        None => out.push(b'*'),
    }
}

/// What stands from `at` on, not beyond `end`.
fn piece(object: &Object, at: u64, end: u64) -> &[u8] {
    let piece = object.body.piece(at).unwrap_or_default();
    let most = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
    piece.get(..most).unwrap_or(piece)
}

//! `store-compressed`: the origin is asked for gzip, one answer is stored for all, and who does not take gzip gets it decoded.

use std::io::{self, BufRead, Read as _};
use std::sync::Arc;
use std::task::Poll;

use flate2::bufread::MultiGzDecoder;
use narthex_cache::policy::{Keep, cache_control};
use narthex_cache::store::Read;
use narthex_cache::{Object, key};
use narthex_message::{Edits, FieldId, Head, Version};
use narthex_net::rt;
use narthex_net::scratch;
use narthex_wire::h1::chunk;

use crate::fail::Failure;
use crate::handle::Exchange;
use crate::relay::FAIR_SHARE;

/// Decoded at a time, and read at a time: a slow client holds little more than that.
const PLAIN: usize = 16 * 1024;
const CODED: usize = 8 * 1024;

/// Of the bytes as they are stored: not true of them decoded.
const OF_CODED: [&str; 7] = [
    "Content-Encoding",
    "Content-Length",
    "Accept-Ranges",
    "Content-MD5",
    "Digest",
    "Content-Digest",
    "Repr-Digest",
];

/// How a stored answer suits a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suits {
    /// As it is.
    Plainly,
    /// After it has been decoded.
    Decoded,
    /// It does not.
    Not,
}

impl Exchange<'_> {
    pub(super) fn stores_compressed(&self) -> bool {
        self.cache_rule().is_some_and(|rule| rule.store_compressed)
    }

    /// The client has to get another form than the one that the origin is asked for.
    pub(super) fn needs_decoding(&self) -> bool {
        self.stores_compressed() && !key::takes_gzip(self.head())
    }

    /// Can the client take what is stored?
    pub(super) fn suits(&self, object: &Object) -> Suits {
        if !self.stores_compressed() {
            return Suits::Plainly;
        }
        let index = self.index_of(object);
        let head = Head::new(object.head(), &index);
        let Some(coding) = head.get(FieldId::ContentEncoding) else {
            return Suits::Plainly;
        };
        let is_one = !index.repeated.has(FieldId::ContentEncoding);
        let is_gzip = is_one
            && (coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip"));
        if !is_gzip {
            // We did not ask for it, and it is in nobody's variant.
            return Suits::Not;
        }
        if key::takes_gzip(self.head()) {
            return Suits::Plainly;
        }
        if object.meta().status == 204 || object.meta().length == Some(0) {
            return Suits::Plainly; // nothing is the same in every coding
        }
        let said = cache_control::Response::read(head.all(FieldId::CacheControl));
        if said.no_transform || object.meta().part.is_some() {
            return Suits::Not;
        }
        Suits::Decoded
    }

    /// Sends the head in `out`, then the body, decoded as it comes.
    pub(super) async fn send_decoded(
        &mut self,
        object: &Arc<Object>,
        out: &[u8],
    ) -> Result<(), Failure> {
        self.send_counted(out).await?;
        let chunked = self.version() == Version::Http11;
        let mut decoder = MultiGzDecoder::new(Feed::default());
        let mut plain = vec![0; PLAIN];
        let (mut at, mut moved) = (0, 0);
        let mut block = Vec::new();
        loop {
            match decoder.read(&mut plain) {
                Ok(0) => break,
                Ok(n) => {
                    let bytes = plain.get(..n).unwrap_or_default();
                    block.clear();
                    if chunked {
                        chunk::size_line(n, &mut block);
                        block.extend_from_slice(bytes);
                        block.extend_from_slice(b"\r\n");
                        self.send_counted(&block).await?;
                    } else {
                        self.send_counted(bytes).await?;
                    }
                    self.story.body_sent += n as u64;
                    moved += n;
                    if moved > FAIR_SHARE {
                        moved = 0;
                        rt::yield_now().await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let n = self.feed(object, at, decoder.get_mut()).await?;
                    if n == 0 && at == 0 {
                        break; // of nothing there is no coding
                    }
                    at += n;
                    // what is coded may be long and say little
                    moved += n as usize;
                    if moved > FAIR_SHARE {
                        moved = 0;
                        rt::yield_now().await;
                    }
                }
                // It is not what it says it is, and the client must see that.
                Err(_) => return Err(Failure::UpstreamTruncated),
            }
        }
        if chunked {
            self.send_counted(chunk::LAST_CHUNK).await?;
        }
        Ok(())
    }

    /// Waits for more of the body.
    async fn feed(&self, object: &Object, at: u64, feed: &mut Feed) -> Result<u64, Failure> {
        let read = std::future::poll_fn(|cx| {
            if self.client.stream.poll_dead().is_ready() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            scratch::with(|buffer| {
                let area = buffer.get_mut(..CODED).unwrap_or_default();
                object.body.poll_read(at, area, cx).map(|read| {
                    if let Read::Bytes(n) = read {
                        feed.fill(area.get(..n).unwrap_or_default());
                    }
                    Ok(read)
                })
            })
        })
        .await?;
        match read {
            Read::Bytes(n) => Ok(n as u64),
            Read::End => {
                feed.is_end = true;
                Ok(0)
            }
            Read::Cut => Err(Failure::UpstreamTruncated),
        }
    }
}

/// The lines of a stored head that are not true of its body decoded. The entity tag becomes a weak one: the bytes are others.
pub(super) fn as_decoded(object: &Object, edits: &mut Edits) {
    for name in OF_CODED {
        edits.remove(name);
    }
    weaken(object, edits);
}

/// The tag of what was decoded, also where there is no body.
pub(super) fn weaken(object: &Object, edits: &mut Edits) {
    let meta = object.meta();
    let tag = meta.etag.of(object.head());
    if tag.starts_with(b"\"") {
        edits.set("ETag", &[b"W/", tag].concat());
    }
}

/// An answer whose coding is not everybody's says so, also if the origin has forgotten it.
pub(super) fn say_vary(response: Head<'_>, keep: &mut Keep) {
    let is_coded = response.get(FieldId::ContentEncoding).is_some();
    let says = keep.vary.iter().any(|name| **name == *b"accept-encoding");
    if is_coded
        && !says
        && let Some(end) = keep.head.len().checked_sub(2)
    {
        keep.head.truncate(end);
        keep.head
            .extend_from_slice(b"Vary: Accept-Encoding\r\n\r\n");
    }
}

/// Coded bytes that have come.
#[derive(Default)]
struct Feed {
    block: Vec<u8>,
    at: usize,
    is_end: bool,
}

impl Feed {
    fn fill(&mut self, bytes: &[u8]) {
        self.block.clear();
        self.block.extend_from_slice(bytes);
        self.at = 0;
    }
}

impl io::Read for Feed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut from = self.fill_buf()?;
        let n = from.read(to)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.block.get(self.at..) {
            Some(rest) if !rest.is_empty() => Ok(rest),
            _ if self.is_end => Ok(&[]),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn consume(&mut self, n: usize) {
        self.at = self.at.saturating_add(n).min(self.block.len());
    }
}

//! The body of an answer out of slices: in order, each sent as it fills, the next one begun before it is needed.
//!
//! The exchange holds the slice that it sends and the one after it, no more; whatever else there is of them is the store's.

use std::sync::Arc;

use narthex_cache::Object;
use narthex_cache::policy::{self, Piece, Slice};
use narthex_net::rt;

use super::obtain::{Got, Lacks, Step};
use super::{Version, Wanted};
use crate::cache::hit;
use crate::fail::Failure;
use crate::handle::Exchange;
use crate::relay::FAIR_SHARE;

/// Times that one slice is fetched for an answer, if it does not come whole.
const TRIES: u32 = 3;

/// Why a piece was not sent.
enum Trouble {
    /// No slice has this byte and those after it.
    Lacks(u64),
    /// The answer ends here.
    Ends(Failure),
}

/// What is held of the slices.
struct Held {
    version: Version,
    here: Option<(Slice, Arc<Object>)>,
    ahead: Option<(Slice, Step)>,
}

impl Exchange<'_> {
    /// Sends `out`, which has the head, and these parts (first and last byte): as they are, or `framed` for `multipart/byteranges`.
    pub(super) async fn compose(
        &mut self,
        mut wanted: Wanted,
        first: Got,
        parts: &[(u64, u64)],
        framed: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        wanted.promised = true;
        let object = first.object;
        let content_type = if framed {
            self.stored_type(&object)
        } else {
            Vec::new()
        };
        let length = object.meta().length;
        let mut held = Held {
            version: Version::of(&object),
            here: None,
            ahead: None,
        };
        let mut first = Some(object);
        let mut pieces = parts
            .iter()
            .enumerate()
            .flat_map(|(number, &(from, to))| {
                policy::pieces(from, to, wanted.size).map(move |piece| (number, piece))
            })
            .peekable();
        let (mut part, mut moved) = (None, 0);
        while let Some((number, piece)) = pieces.next() {
            if framed && part != Some(number) {
                let bytes = parts.get(number).copied().unwrap_or_default();
                hit::part_head(&content_type, bytes, length, out);
                part = Some(number);
            }
            if let Some(object) = first.take() {
                held.here = Some((piece.slice, object));
            }
            let next = pieces.peek().map(|(_, next)| next.slice);
            let next = next.filter(|next| *next != piece.slice);
            match self.send_piece(&wanted, piece, next, &mut held, out).await {
                Ok(()) => {
                    moved += piece.to - piece.from;
                    if moved > FAIR_SHARE as u64 {
                        moved = 0;
                        rt::yield_now().await;
                    }
                }
                // Of several parts the rest is not one answer.
                Err(Trouble::Lacks(at)) if !framed => {
                    let last = parts.last().map_or(at, |(_, last)| *last);
                    return self.send_rest(&wanted, held.version, (at, last)).await;
                }
                Err(Trouble::Lacks(_)) => return Err(Failure::UpstreamTruncated),
                Err(Trouble::Ends(failure)) => return Err(failure),
            }
        }
        if framed {
            hit::part_end(out);
        }
        self.send_counted(out).await
    }

    /// Sends what is in `out` and one piece. One that does not come whole is fetched again, and goes on where it stopped.
    async fn send_piece(
        &mut self,
        wanted: &Wanted,
        piece: Piece,
        next: Option<Slice>,
        held: &mut Held,
        out: &mut Vec<u8>,
    ) -> Result<(), Trouble> {
        let mut at = piece.from;
        for _ in 0..TRIES {
            let object = match held.here.take() {
                Some((slice, object)) if slice == piece.slice => object,
                _ => match self.fitting(wanted, piece.slice, held).await {
                    Ok(object) => object,
                    Err(Lacks::Ends(failure)) => return Err(Trouble::Ends(failure)),
                    Err(_) => return Err(Trouble::Lacks(at)),
                },
            };
            // Half of it before the next one is begun: a client that reads no further costs the origin no more than that.
            if let Some(next) = next
                && held.ahead.is_none()
            {
                let middle = at + (piece.to - at) / 2;
                if !self.send_of(&object, &mut at, middle, out).await? {
                    continue;
                }
                held.ahead = Some((next, self.look_for_slice(wanted, next, false)));
            }
            if self.send_of(&object, &mut at, piece.to, out).await? {
                held.here = Some((piece.slice, object)).filter(|_| next.is_none());
                return Ok(());
            }
        }
        Err(Trouble::Lacks(at))
    }

    /// Sends what is in `out`, and bytes of a slice from `at` on, which goes along. False: the slice did not come whole.
    async fn send_of(
        &mut self,
        object: &Arc<Object>,
        at: &mut u64,
        to: u64,
        out: &mut Vec<u8>,
    ) -> Result<bool, Trouble> {
        let before = self.story.body_sent;
        let sent = self.send_stored(object, *at, to, out).await;
        out.clear();
        *at += self.story.body_sent - before;
        match sent {
            Ok(()) => Ok(true),
            Err(Failure::UpstreamTruncated) => Ok(false),
            Err(failure) => Err(Trouble::Ends(failure)),
        }
    }

    /// A slice of the version that the answer is of. Stored ones of an older version are forgotten, and it is fetched anew; if the
    /// origin has a newer one, the answer's own is over.
    async fn fitting(
        &mut self,
        wanted: &Wanted,
        slice: Slice,
        held: &mut Held,
    ) -> Result<Arc<Object>, Lacks> {
        let ahead = held.ahead.take().filter(|(ahead, _)| *ahead == slice);
        let mut begun = ahead.map(|(_, step)| step);
        for _ in 0..TRIES {
            let was_begun = begun.is_some();
            let got = match self.slice(wanted, slice, begun.take()).await {
                // What could not be had ahead of its time is tried once more.
                Err(Lacks::Refused(_) | Lacks::Failed) if was_begun => continue,
                other => other?,
            };
            if held.version.has(&got.object, slice) {
                return Ok(got.object);
            }
            if got.is_new || held.version.is_older_than(&got.object) {
                break;
            }
            self.forget_version(&Version::of(&got.object));
        }
        self.forget_version(&held.version);
        Err(Lacks::Ends(Failure::OriginChanged))
    }
}

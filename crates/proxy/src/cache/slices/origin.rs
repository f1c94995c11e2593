//! What becomes of an origin's answer to the question for a slice.

use narthex_cache::policy::{self, Asked, Exchanged, Keep, Meta, Slice};
use narthex_cache::store::{Lead, Writer};
use narthex_cache::{Found, Why, key};
use narthex_message::Edits;
use std::time::Duration;

use crate::cache::answered::for_all;
use crate::handle::Exchange;
use crate::work::Work;

/// Asks for a slice: of the bytes as they are, for ranges of a coding are of the coded bytes.
pub(in crate::cache) fn ask(slice: Slice, edits: &mut Edits) {
    let mut value = Vec::with_capacity(48);
    slice.write_range(&mut value);
    edits.set("Range", &value);
    edits.set("Accept-Encoding", b"identity");
}

/// All slices of one version have a tag by which they go.
pub(in crate::cache) fn tag(keep: &mut Keep, request: &Work) {
    let version = version_tag(request, &keep.meta, &keep.head);
    keep.tags.push(version);
}

pub(super) fn version_tag(request: &Work, meta: &Meta, head: &[u8]) -> Box<[u8]> {
    let etag = meta.etag.of(head);
    key::version_tag(&request.key, meta.length, etag, meta.last_modified_s)
}

impl Exchange<'_> {
    /// The head of the answer for a slice has come. An answer that is all of it is kept as such; that there are no slices is noted.
    pub(in crate::cache) fn turn_slice(
        &self,
        slice: Slice,
        lead: Lead,
        exchanged: &Exchanged<'_>,
        (request, naming): (&Work, &Edits),
        intercepted: bool,
    ) -> Result<Writer, Why> {
        let status = exchanged.facts.status;
        let kept = match status {
            _ if intercepted => Err(Why::Status),
            200 => return self.turn_whole(slice, lead, exchanged, (request, naming)),
            206 => policy::keep_slice(exchanged, slice),
            416 => Err(Why::NoRanges),
            _ => policy::store(exchanged),
        };
        match kept.and_then(for_all) {
            Ok(mut keep) => {
                if status == 206 {
                    let new = (&keep.meta, keep.head.as_slice());
                    self.forget_outdated(slice, exchanged, request, |meta, head| {
                        policy::same_version((meta, head), new)
                    });
                }
                tag(&mut keep, request);
                let mut variant = Vec::new();
                self.slice_variant(request, &keep.vary, &mut variant);
                self.publish_as(lead, keep, &variant, exchanged, naming)
            }
            Err(why) => {
                // 416 for a later one says that there are not so many.
                if status == 206 || status == 416 && slice.number == 0 {
                    self.note_no_slices(slice, why, request, exchanged);
                } else if status == 416 {
                    self.forget_outdated(slice, exchanged, request, |meta, _| {
                        meta.length.is_some_and(|length| length <= slice.first())
                    });
                }
                let time = if status >= 500 || status == 416 {
                    Duration::ZERO
                } else {
                    exchanged.rule.hit_for_miss
                };
                lead.refuse(why, time);
                Err(why)
            }
        }
    }

    /// The origin sends all of it: those who wait for the slice find the whole.
    fn turn_whole(
        &self,
        slice: Slice,
        lead: Lead,
        exchanged: &Exchanged<'_>,
        (request, naming): (&Work, &Edits),
    ) -> Result<Writer, Why> {
        let asked = Asked {
            range: false,
            ..*exchanged.asked
        };
        let exchanged = Exchanged {
            asked: &asked,
            ..*exchanged
        };
        // Slices that there were are of something else, or would never be asked about again.
        self.forget_outdated(slice, &exchanged, request, |_, _| false);
        // It was asked for without a coding: one that varies by that is not what others would have got.
        let is_theirs = |keep: Keep| {
            let is_ours_alone = !exchanged.rule.store_compressed
                && keep.vary.iter().any(|name| !key::varies_slice(name));
            if is_ours_alone {
                Err(Why::NoRanges)
            } else {
                Ok(keep)
            }
        };
        let kept = policy::store(&exchanged)
            .and_then(for_all)
            .and_then(is_theirs);
        let why = kept.as_ref().err().copied().unwrap_or(Why::NoRanges);
        self.note_no_slices(slice, why, request, &exchanged);
        let writer = kept.and_then(|keep| {
            let site = self.site.unwrap_or_default() as u32;
            let (host, path) = (self.host.of(request), self.path.bytes(request));
            let whole = narthex_cache::store::Key::new(&request.key, host, path, site);
            let (now, age) = (exchanged.received_ms, exchanged.rule.lock_age);
            let head = narthex_message::Head::new(&request.input, &request.index);
            let mut variant = |names: &[Box<[u8]>], out: &mut Vec<u8>| {
                key::variant(names, head, exchanged.rule, out);
            };
            let store = &self.proxy.shared.cache;
            match store.lead(&whole, &mut variant, now, age) {
                Ok(lead) => self.publish(lead, keep, &exchanged, (request, naming)),
                Err(_) => Err(Why::NoRanges), // somebody fetches it already
            }
        });
        lead.refuse(why, exchanged.rule.hit_for_miss);
        writer
    }

    /// If the first slice is there and of another version than the origin has by now, all slices of that version are forgotten: an
    /// answer that begins with them would have to be cut.
    fn forget_outdated(
        &self,
        slice: Slice,
        exchanged: &Exchanged<'_>,
        request: &Work,
        is_current: impl Fn(&Meta, &[u8]) -> bool,
    ) {
        let first = Slice { number: 0, ..slice };
        let now = exchanged.received_ms;
        let found = self.with_slice_of(request, first, |store, key, variant| {
            store.peek(key, variant, now)
        });
        let Found::Ready { object, .. } = found else {
            return;
        };
        let meta = object.meta();
        // What has come since we asked may be the newer one.
        if meta.part.is_some()
            && meta.received_ms <= exchanged.sent_ms
            && !is_current(&meta, object.head())
        {
            self.forget_version_of(request, &meta, object.head());
        }
    }

    /// For a while it is not asked for in slices, unless the reason was the request's own or the store's.
    fn note_no_slices(&self, slice: Slice, why: Why, request: &Work, exchanged: &Exchanged<'_>) {
        if matches!(
            why,
            Why::Authorization | Why::RequestNoStore | Why::NoRoom | Why::Status
        ) {
            return;
        }
        let none = Slice {
            number: key::NO_SLICES,
            ..slice
        };
        let (now, age) = (exchanged.received_ms, exchanged.rule.lock_age);
        let led = self.with_slice_of(request, none, |store, key, variant| {
            store.lead(key, variant, now, age)
        });
        if let Ok(lead) = led {
            lead.refuse(why, exchanged.rule.hit_for_miss);
        }
    }
}

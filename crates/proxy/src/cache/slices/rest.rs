//! The rest of an answer that began with slices, if no slice holds it: the store has no room, or does not keep what the origin says of
//! this one. The client's own exchange goes on with it, as without a cache, so that a promise is kept all the same.

use std::cell::Cell;

use narthex_cache::Why;
use narthex_cache::policy;
use narthex_message::{Body, Head, ResponseFacts};
use narthex_net::rt;

use super::{Version, Wanted};
use crate::cache::Caching;
use crate::cache::answered::CONDITIONS;
use crate::fail::Failure;
use crate::handle::Exchange;
use crate::relay::Begun;

/// What is missing of an answer.
pub(in crate::cache) struct Rest {
    version: Version,
    /// First and last byte.
    bytes: (u64, u64),
    /// The origin has begun to give it.
    is_given: Cell<bool>,
}

impl Caching {
    /// The client has got its head, and waits for the rest of the body.
    pub(crate) fn goes_on(&self) -> bool {
        self.rest.is_some()
    }

    /// The head of the rest has come: no head follows for the client, and, if it is no rest, no body.
    pub(crate) fn begin_rest(&self, head: Head<'_>, facts: &ResponseFacts) -> Option<Begun> {
        let rest = self.rest.as_ref()?;
        let version = (&rest.version.meta, rest.version.head.as_slice());
        let is_it = policy::continues(head, facts, version, rest.bytes);
        rest.is_given.set(is_it);
        Some(Begun {
            framing: if is_it { facts.body } else { Body::None },
            replaced: !is_it,
            web: None,
            sent: 0,
            fill: None,
        })
    }
}

impl Exchange<'_> {
    /// Asks the origin for the bytes that are missing, and sends them.
    pub(super) async fn send_rest(
        &mut self,
        wanted: &Wanted,
        version: Version,
        (first, last): (u64, u64),
    ) -> Result<(), Failure> {
        let mut edits = std::mem::take(&mut self.work.edits);
        for name in CONDITIONS {
            edits.remove(name);
        }
        edits.set("Range", format!("bytes={first}-{last}").as_bytes());
        edits.set("Accept-Encoding", b"identity");
        self.work.edits = edits;
        let mut caching = Caching::passing(wanted.asked, Why::Miss);
        caching.sent_ms = rt::wall_ms();
        caching.rest = Some(Rest {
            version,
            bytes: (first, last),
            is_given: Cell::new(false),
        });
        self.caching = Some(Box::new(caching));
        let (status, body_sent) = (self.story.status, self.story.body_sent);
        self.story.body_sent = 0;
        // Boxed: an answer out of slices alone does not carry its state.
        Box::pin(self.forward(wanted.upstream)).await;
        let rest = self.caching.take().and_then(|caching| caching.rest);
        self.story.status = status;
        self.story.body_sent += body_sent;
        if let Some(failure) = self.story.failure {
            return Err(failure);
        }
        match rest {
            Some(rest) if rest.is_given.get() => return Ok(()),
            Some(rest) => self.forget_version(&rest.version),
            None => {}
        }
        Err(Failure::OriginChanged)
    }
}

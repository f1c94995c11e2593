//! The cache and a request: what is there, who fetches it, what becomes of the answer. The page is `docs/cache.md`.
//!
//! `lookup` decides, `hit` answers from an object, `answered` says what becomes of an origin's answer, `background` fetches
//! without a client, `coded` decodes for those that do not take what is stored, `slices` composes an answer of parts that are objects of
//! their own, `methods` is what answers to other methods than GET mean for a GET.

mod answered;
mod background;
mod coded;
pub mod control;
mod hit;
mod keyed;
mod lookup;
mod methods;
mod metrics;
pub(crate) mod nobody;
mod purge;
mod shown;
mod slices;
mod unkeyed;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use narthex_cache::policy::{Asked, Slice};
use narthex_cache::store::Lead;
use narthex_cache::{Object, Why};
use narthex_message::Index;
use narthex_wire::h1::scan::{self, HeadLimits};

pub(crate) use answered::Turn;
pub(crate) use metrics::{CacheMetrics, collect};
pub(crate) use shown::Shown;

/// Of heads that are stored: they have been within a listener's limits once, and another's, or a line of ours, change nothing.
const STORED: HeadLimits = HeadLimits {
    line: usize::MAX,
    field: usize::MAX,
    head: usize::MAX,
    fields: usize::MAX,
};

/// Reads a stored head.
fn read_stored(head: &[u8], index: &mut Index) {
    index.clear();
    // It was valid when it was stored.
    let _ = scan::response(head, index, &STORED);
}

/// What the cache has to do with one request.
pub(crate) struct Caching {
    /// What the request asks of a cache.
    asked: Asked,
    /// Why the origin is asked.
    why: Cell<Why>,
    /// The right, and the duty, to fetch for those who wait.
    lead: RefCell<Option<Lead>>,
    /// A stored object that the origin is asked about, or that stands in if the origin fails.
    stale: Option<(Arc<Object>, bool)>,
    /// A stored object that the answer to a HEAD tells of.
    head_of: Option<Arc<Object>>,
    /// A POST, whose answer may be what a GET would get.
    by_post: bool,
    /// Wall clock when the request was sent on, in milliseconds.
    sent_ms: u64,
    /// The client is answered from this object instead of by the origin.
    instead: RefCell<Option<(Arc<Object>, Shown)>>,
    /// There is no client.
    behind: bool,
    /// How the origin's answer came about, once its head is there.
    shown: Cell<Option<Shown>>,
    /// A slice is asked for, not what the client asked for.
    slice: Option<Slice>,
    /// The head and the beginning of the body have come from slices.
    rest: Option<slices::Rest>,
    /// The origin's 304 is not about what is stored: it is asked without condition.
    again: Cell<bool>,
}

impl Caching {
    fn passing(asked: Asked, why: Why) -> Self {
        Self {
            asked,
            why: Cell::new(why),
            lead: RefCell::default(),
            stale: None,
            head_of: None,
            by_post: false,
            sent_ms: 0,
            instead: RefCell::default(),
            behind: false,
            shown: Cell::new(None),
            slice: None,
            rest: None,
            again: Cell::new(false),
        }
    }

    /// The client gets the origin's answer, and so it came about.
    pub(crate) fn show(&self, shown: Shown) {
        self.shown.set(Some(shown));
    }

    /// How it came about: no answer, if there was none.
    fn told(&self) -> Shown {
        self.shown.get().unwrap_or(Shown::NoAnswer)
    }

    /// There is no client: a whole object is fetched, whatever was asked for.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Others wait for the head of this answer.
    pub(crate) fn is_awaited(&self) -> bool {
        self.lead.borrow().as_ref().is_some_and(Lead::is_followed)
    }
}

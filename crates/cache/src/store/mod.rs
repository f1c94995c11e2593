//! Where objects are kept.
//!
//! One store for all cores, in shards with a short lock each that is never held over a wait. An object is immutable and shared:
//! whoever reads it holds it, in the index or not.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::policy::{Keep, Meta, Why};

/// A key: its bytes (compared whole) and their hash (seeded per process).
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// The bytes that tell it from others.
    pub bytes: &'a [u8],
    /// Their hash.
    pub hash: u64,
    /// Hash of the host, for purges of a host.
    pub host: u64,
    /// Which site's quota it counts for.
    pub site: u32,
}

/// A stored answer.
pub struct Object {
    /// Its key.
    pub key: Box<[u8]>,
    /// Values of the fields in `Vary`, as [`crate::key`] puts them together.
    pub variant: Box<[u8]>,
    /// What it means.
    pub meta: Meta,
    /// Head, as HTTP/1.
    pub head: Box<[u8]>,
    /// Body, perhaps still coming.
    pub body: Arc<Body>,
    /// The place in the sequence of purges when its fetch began.
    pub born: u64,
}

/// What is under a key, for a request.
pub enum Found {
    /// An object of the right variant, complete or filling. `soft`: it was purged softly.
    Ready {
        /// It.
        object: Arc<Object>,
        /// Serve it as stale.
        soft: bool,
    },
    /// Somebody fetches it, and its head has not come yet.
    Filling(Arc<Fill>),
    /// The last answer could not be stored.
    HitForMiss(Why),
    /// Nothing. `vary`: something is there, of another variant.
    Missing {
        /// Other variants are there.
        vary: bool,
    },
}

/// Puts together which variant a request wants, of these names.
pub type Variant<'a> = &'a mut dyn FnMut(&[Box<[u8]>], &mut Vec<u8>);

/// Objects of the process.
pub struct Store {}

/// A body: a list of pieces that grows until it is complete, or is cut.
pub struct Body {}

/// What a reader of a body that still comes gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes were put into the buffer.
    Bytes(usize),
    /// There are no more.
    End,
    /// It does not come whole.
    Cut,
}

impl Body {
    /// Bytes that have come.
    pub fn len(&self) -> u64 {
        0
    }

    /// All have come.
    pub fn is_complete(&self) -> bool {
        false
    }

    /// Of a complete body: what stands from `at` on, in one piece, as much as there is of it. Empty at the end.
    pub fn piece(&self, _at: u64) -> Option<&[u8]> {
        None
    }

    /// Of any body: copies what has come from `at` on; if that is nothing, the task is woken when there is more.
    pub fn poll_read(&self, _at: u64, _buffer: &mut [u8], _cx: &mut Context<'_>) -> Poll<Read> {
        Poll::Pending
    }
}

/// A fetch whose head has not come.
pub struct Fill {}

/// What came of a fetch.
pub enum Outcome {
    /// An object, complete or filling. It may be of another variant.
    Object(Arc<Object>),
    /// It may not be stored: each for itself.
    Refused(Why),
    /// It failed.
    Failed,
}

impl Fill {
    /// Waits for the fetch's head.
    pub fn poll(&self, _cx: &mut Context<'_>) -> Poll<Outcome> {
        Poll::Pending
    }
}

/// Bounds for what one rule stores.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Largest object.
    pub object_max: u64,
    /// Variants of a key.
    pub vary_max: usize,
    /// Bytes of the site.
    pub quota: Option<u64>,
}

/// The one that fetches for a key. Dropped, it has failed: those that wait try for themselves.
pub struct Lead {}

impl Lead {
    /// The head has come and is to be stored: whoever waits gets the object, which fills.
    /// `variant`: of the request that was sent, by `keep.vary`. `length`: of the body, if known.
    pub fn publish(
        self,
        _keep: Keep,
        _variant: &[u8],
        _room: Room,
        _length: Option<u64>,
    ) -> Result<Writer, Why> {
        Err(Why::NoRoom)
    }

    /// The stored object is good again: it gets a new head (304) and its readers go on.
    pub fn refresh(self, _old: &Arc<Object>, _keep: Keep) -> Arc<Object> {
        Arc::clone(_old)
    }

    /// Others wait for the head.
    pub fn is_followed(&self) -> bool {
        false
    }

    /// It may not be stored. For so long the next ones pass without waiting.
    pub fn refuse(self, _why: Why, _time: Duration) {}
}

/// Fills an object. Dropped before [`Writer::finish`], the object is cut: it is taken out, its readers end badly.
pub struct Writer {}

impl Writer {
    /// Appends. `Err`: it is too large to be stored now; whoever reads it may still go on, or is cut.
    pub fn push(&mut self, _bytes: &[u8]) -> Result<(), Why> {
        Ok(())
    }

    /// All of it has come.
    pub fn finish(self) {}

    /// Somebody reads it besides the one who fills it.
    pub fn is_followed(&self) -> bool {
        false
    }
}

impl Store {
    /// With so many bytes of memory.
    pub fn new(_memory: u64) -> Arc<Self> {
        Arc::new(Self {})
    }

    /// Another bound on memory.
    pub fn set_memory(&self, _memory: u64) {}

    /// What is there for a request.
    pub fn find(&self, _key: &Key<'_>, _variant: Variant<'_>, _now_ms: u64) -> Found {
        Found::Missing { vary: false }
    }

    /// Fetches beside others, whom it does not keep waiting; what comes is stored all the same.
    pub fn alone(self: &Arc<Self>, _key: &Key<'_>) -> Lead {
        Lead {}
    }

    /// Becomes the one that fetches, or learns who does. `age`: a fetch older than that has no new followers.
    pub fn lead(
        self: &Arc<Self>,
        _key: &Key<'_>,
        _variant: Variant<'_>,
        _now_ms: u64,
        _age: Duration,
    ) -> Result<Lead, Arc<Fill>> {
        Ok(Lead {})
    }
}

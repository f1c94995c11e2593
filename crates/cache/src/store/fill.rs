//! A fetch: the one that leads it, those that wait for its head, the one that writes the body.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::account::Site;
use super::body::Body;
use super::disk::Meaning;
use super::object::{Key, Made, Object, hash};
use super::purge::{Cover, Purges};
use super::shard::{Old, Shard, speaks_of_stored};
use super::waiters::Waiters;
use super::{Room, Store};
use crate::policy::{Keep, Meta, Why};

/// An object that became too large in the index is sent on to those that read it through a window of so many bytes.
const WINDOW: u64 = 8 * 1024 * 1024;
/// For so long the next ones pass, if an answer turned out not to have room.
const REFUSED: Duration = Duration::from_secs(10);

/// A fetch whose head has not come.
pub struct Fill {
    key: Own,
    born: u64,
    begun_ms: u64,
    /// At what age it has no new followers. None: it never has any.
    age: Option<Duration>,
    /// 0, or 1 and a [`Cover`] by a purge of the key.
    purged: AtomicU8,
    outcome: OnceLock<Outcome>,
    waiters: Mutex<Waiters>,
}

/// A key, kept.
struct Own {
    bytes: Box<[u8]>,
    hash: u64,
    host: Box<str>,
    path: Box<[u8]>,
    site: u32,
}

/// What came of a fetch.
#[derive(Clone)]
pub enum Outcome {
    /// An object, complete or filling. It may be of another variant.
    Object(Arc<Object>),
    /// It may not be stored: each for itself.
    Refused(Why),
    /// It failed.
    Failed,
}

impl Fill {
    pub(super) fn new(key: &Key<'_>, born: u64, begun_ms: u64, age: Option<Duration>) -> Arc<Self> {
        Arc::new(Self {
            key: Own {
                bytes: key.bytes.into(),
                hash: key.hash,
                host: key.host.into(),
                path: key.path.into(),
                site: key.site,
            },
            born,
            begun_ms,
            age,
            purged: AtomicU8::new(0),
            outcome: OnceLock::new(),
            waiters: Mutex::default(),
        })
    }

    /// One that is over already.
    pub(super) fn done_with(object: Arc<Object>) -> Arc<Self> {
        let key = Key {
            bytes: &[],
            hash: 0,
            host: "",
            path: &[],
            site: 0,
        };
        let fill = Self::new(&key, 0, 0, None);
        let _ = fill.outcome.set(Outcome::Object(object));
        fill
    }

    /// Waits for the fetch's head.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome.clone());
        }
        let is_waiting = self.waiters().add(cx.waker());
        // whoever ends it sets the outcome first and takes the waiters then
        match self.outcome.get() {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None if is_waiting => Poll::Pending,
            None => Poll::Ready(Outcome::Failed),
        }
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, outcome: Outcome) {
        let _ = self.outcome.set(outcome);
        let woken = self.waiters().take();
        woken.wake();
    }

    /// Nobody follows it, ever.
    pub(super) fn is_alone(&self) -> bool {
        self.age.is_none()
    }

    pub(super) fn born(&self) -> u64 {
        self.born
    }

    /// New requests may wait for it: it is not too old, and no purge came after it began.
    pub(super) fn may_be_followed(&self, now_ms: u64, purges: &Purges) -> bool {
        self.age
            .is_some_and(|age| now_ms <= after(self.begun_ms, age))
            && self.cover() == Cover::No
            && purges.cover(self.born, self.key.host.as_bytes(), &self.key.path, &[]) == Cover::No
    }

    /// Its key was purged.
    pub(super) fn purge(&self, soft: bool) {
        let cover = if soft { Cover::Soft } else { Cover::Hard };
        self.purged.fetch_max(cover as u8, Ordering::Relaxed);
    }

    pub(super) fn cover(&self) -> Cover {
        match self.purged.load(Ordering::Relaxed) {
            0 => Cover::No,
            1 => Cover::Soft,
            _ => Cover::Hard,
        }
    }

    /// Now, by the clock of the one that began it.
    fn now_ms(&self, begun: Instant) -> u64 {
        after(self.begun_ms, begun.elapsed())
    }

    pub(super) fn key(&self) -> Key<'_> {
        Key {
            bytes: &self.key.bytes,
            hash: self.key.hash,
            host: &self.key.host,
            path: &self.key.path,
            site: self.key.site,
        }
    }
}

fn after(ms: u64, time: Duration) -> u64 {
    ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The one that fetches for a key. Dropped, it has failed: those that wait try for themselves.
pub struct Lead {
    store: Arc<Store>,
    fill: Arc<Fill>,
    begun: Instant,
    is_over: bool,
}

impl Lead {
    pub(super) fn new(store: Arc<Store>, fill: Arc<Fill>) -> Self {
        Self {
            store,
            fill,
            begun: Instant::now(),
            is_over: false,
        }
    }

    /// Somebody waits for it.
    pub fn is_followed(&self) -> bool {
        let own = if self.fill.is_alone() { 1 } else { 2 }; // the index has it, too
        Arc::strong_count(&self.fill) > own
    }

    /// The head has come and is to be stored: whoever waits gets the object, which fills.
    /// `variant`: of the request that was sent, by `keep.vary`. `length`: of the body, if known.
    pub fn publish(
        mut self,
        mut keep: Keep,
        variant: &[u8],
        room: Room,
        length: Option<u64>,
    ) -> Result<Writer, Why> {
        let store = Arc::clone(&self.store);
        let object_max = store.object_max(&room);
        if length.is_some_and(|length| length > object_max) {
            return Err(self.turn_away(Why::TooLarge));
        }
        let names = std::mem::take(&mut keep.vary);
        let tags = keep.tags.iter().map(|tag| hash(tag)).collect();
        let body = Body::new(self.site(&room), length);
        let object = self.make(names, variant, tags, body, (&keep.meta, keep.head));
        if !store.settle(&object.body.site) {
            return Err(self.turn_away(Why::NoRoom));
        }
        let key = self.fill.key();
        let mut gone = Vec::new();
        let inserted = {
            let mut shard = store.shard(key.hash);
            let cover = (&store.purges, shard.cover(&self.fill));
            let has_quota = room.quota.is_some();
            let inserted = shard.insert(&key, &object, room.vary_max, has_quota, cover, &mut gone);
            if inserted.is_ok() {
                shard.end_fill(&self.fill);
            }
            inserted
        };
        drop(gone);
        let old = match inserted {
            // one that fills may be cut itself: it does not come back
            Ok(old) => old.filter(|old| old.object.body.is_complete()),
            Err(why) => return Err(self.turn_away(why)),
        };
        self.is_over = true;
        self.fill.end(Outcome::Object(Arc::clone(&object)));
        Ok(Writer {
            fill: Arc::clone(&self.fill),
            begun: self.begun,
            store,
            object,
            old,
            object_max,
            length,
            written: 0,
            held: None,
            spare: 0,
            state: State::Stored,
        })
    }

    /// Whose bytes they will be.
    fn site(&self, room: &Room) -> Arc<Site> {
        let site = self.store.accounts.site(self.fill.key.site);
        site.set_quota(room.quota);
        site
    }

    fn make(
        &self,
        names: Vec<Box<[u8]>>,
        variant: &[u8],
        tags: Box<[u64]>,
        body: Body,
        (meta, head): (&Meta, Vec<u8>),
    ) -> Arc<Object> {
        let key = self.fill.key();
        let names = self.store.shard(key.hash).share(names);
        let made = Made {
            key: key.bytes,
            host: key.host,
            path: key.path,
            variant: if names.is_some() { variant } else { &[] },
            names,
            tags,
            body: Arc::new(body),
            born: self.fill.born,
        };
        Arc::new(Object::new(made, meta, head))
    }

    /// Its key.
    pub(super) fn key(&self) -> Key<'_> {
        self.fill.key()
    }

    /// Makes room for a body that is about to be allocated. None: there is none.
    pub(super) fn reserve(&self, bytes: u64, room: &Room) -> Option<Reserved> {
        if bytes > self.store.object_max(room) {
            return None;
        }
        let site = self.site(room);
        site.add(bytes);
        let reserved = Reserved { site, bytes };
        self.store.settle(&reserved.site).then_some(reserved)
    }

    /// What is on disk comes instead of the origin's answer. The fetch comes back if there is no room for it. If a purge came meanwhile,
    /// or another answer, it is not there afterwards, and those that wait look again.
    pub(super) fn publish_stored(
        mut self,
        meaning: Meaning,
        head: Vec<u8>,
        body: Body,
        room: Room,
        is_soft: bool,
    ) -> Result<(), Self> {
        let store = Arc::clone(&self.store);
        let tags = meaning.tags.into_boxed_slice();
        let (names, variant) = (meaning.names, &meaning.variant);
        let object = self.make(names, variant, tags, body, (&meaning.meta, head));
        let key = self.fill.key();
        let mut gone = Vec::new();
        let inserted = {
            let mut shard = store.shard(key.hash);
            let cover = shard.cover(&self.fill);
            let cover = cover.max(if is_soft { Cover::Soft } else { Cover::No });
            let bounds = (room.vary_max, room.quota.is_some());
            let cover = (&store.purges, cover);
            let inserted = shard.insert_stored(&key, &object, bounds, cover, &mut gone);
            if inserted.is_ok() {
                shard.end_fill(&self.fill);
            }
            inserted
        };
        drop(gone);
        let Ok(is_in) = inserted else {
            return Err(self);
        };
        self.is_over = true;
        self.fill.end(if is_in {
            Outcome::Object(Arc::clone(&object))
        } else {
            Outcome::Failed
        });
        store.settle(&object.body.site);
        Ok(())
    }

    /// The stored object is good again: it gets a new head (304) and its readers go on.
    pub fn refresh(mut self, old: &Arc<Object>, keep: Keep) -> Arc<Object> {
        let key = self.fill.key();
        let new = Arc::new(Object::new(
            Made {
                key: old.key(),
                host: key.host,
                path: key.path,
                names: old.names().cloned(),
                variant: old.variant(),
                tags: keep.tags.iter().map(|tag| hash(tag)).collect(),
                body: Arc::clone(&old.body),
                born: self.fill.born,
            },
            &keep.meta,
            keep.head,
        ));
        let gone = {
            let mut shard = self.store.shard(key.hash);
            let cover = (&self.store.purges, shard.cover(&self.fill));
            shard.end_fill(&self.fill);
            shard.replace(key.hash, old, &new, cover)
        };
        drop(gone);
        self.is_over = true;
        self.fill.end(Outcome::Object(Arc::clone(&new)));
        self.store.settle(&new.body.site);
        new
    }

    /// It may not be stored. For so long the next ones pass without waiting. What was stored before goes, unless `why` says that the
    /// answer says nothing of it (a status that is not stored, a broken or unlucky answer).
    pub fn refuse(mut self, why: Why, time: Duration) {
        self.refused(why, time);
    }

    fn turn_away(&mut self, why: Why) -> Why {
        self.refused(why, REFUSED);
        why
    }

    fn refused(&mut self, why: Why, time: Duration) {
        let key = self.fill.key();
        let now_ms = self.fill.now_ms(self.begun);
        let until_ms = after(now_ms, time);
        let mut gone = Vec::new();
        self.store
            .shard(key.hash)
            .refuse(&self.fill, until_ms, why, now_ms, &mut gone);
        drop(gone);
        if speaks_of_stored(why) && !self.fill.is_alone() {
            self.store.forget_on_disk(key.hash);
        }
        self.is_over = true;
        self.fill.end(Outcome::Refused(why));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.is_over {
            let key = self.fill.key();
            self.store.shard(key.hash).end_fill(&self.fill);
            self.fill.end(Outcome::Failed);
        }
    }
}

/// Room for a body that is being allocated, in its site's account.
pub(super) struct Reserved {
    site: Arc<Site>,
    bytes: u64,
}

impl Reserved {
    pub(super) fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.site.sub(self.bytes);
    }
}

/// Fills an object. Dropped before [`Writer::finish`], the object is cut: it is taken out, its readers end badly.
pub struct Writer {
    store: Arc<Store>,
    fill: Arc<Fill>,
    object: Arc<Object>,
    begun: Instant,
    /// What it replaces once it is whole.
    old: Option<Old>,
    object_max: u64,
    length: Option<u64>,
    written: u64,
    /// From here on one who reads it is waited for.
    held: Option<u64>,
    /// Bytes that fit without another allocation.
    spare: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It will be stored.
    Stored,
    /// It is too large: sent on to those that read it.
    Passing,
    /// It is whole, or cut.
    Over,
}

impl Writer {
    /// Appends. `Err`, once: it will not be stored. Those that read it may still go on, at the pace at which it comes; if nobody does,
    /// there is no use in going on.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Why> {
        if self.state == State::Over || bytes.is_empty() {
            return Ok(());
        }
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.length.is_some_and(|length| self.written > length) {
            self.cut();
            return Err(Why::Truncated);
        }
        let mut result = Ok(());
        if self.state == State::Stored && self.written > self.object_max {
            result = Err(self.leave(Why::TooLarge));
        }
        while !bytes.is_empty() {
            let is_full = self.spare == 0;
            if is_full {
                self.object.body.reserve(bytes.len());
                if !self.store.settle(&self.object.body.site) {
                    if self.state == State::Passing {
                        self.cut();
                        return Err(Why::NoRoom);
                    }
                    result = Err(self.leave(Why::NoRoom));
                }
            }
            let appended = self.object.body.append(bytes, is_full);
            appended.woken.wake();
            self.spare = appended.spare;
            bytes = bytes.get(appended.count..).unwrap_or_default();
            if self.state == State::Passing {
                let held = self.held.map_or(0, |at| self.written.saturating_sub(at));
                self.object.body.trim(WINDOW.max(held));
            }
        }
        result
    }

    /// It leaves the index, and those that read it go on.
    fn leave(&mut self, why: Why) -> Why {
        self.state = State::Passing;
        let now_ms = self.fill.now_ms(self.begun);
        self.take_out(|shard, key, object| {
            shard.counts.left += 1;
            if why == Why::TooLarge {
                shard.mark_like(key, object, after(now_ms, REFUSED), why, now_ms);
            }
        });
        why
    }

    fn take_out(&mut self, also: impl FnOnce(&mut Shard, &Key<'_>, &Object)) {
        let key = self.fill.key();
        let mut gone = Vec::new();
        let mut shard = self.store.shard(key.hash);
        shard.restore(
            &key,
            &self.object,
            self.old.take(),
            &self.store.purges,
            &mut gone,
        );
        also(&mut shard, &key, &self.object);
        drop(shard);
        drop(gone);
    }

    /// All of it has come.
    pub fn finish(mut self) {
        if self.length.is_some_and(|length| length != self.written) {
            return; // dropped: cut
        }
        if self.state != State::Over && self.object.body.freeze() {
            let is_stored = self.state == State::Stored;
            self.state = State::Over;
            if is_stored {
                let hash = self.fill.key().hash;
                let was_used = self.store.shard(hash).complete(hash, &self.object);
                if let Some(was_used) = was_used {
                    self.store.save_new(hash, &self.object, was_used);
                }
            }
        }
    }

    /// It will be stored, as far as is known.
    pub fn is_kept(&self) -> bool {
        self.state == State::Stored
    }

    /// Whoever fills it reads it, too, and is there: what follows is not let go of, also if it is not stored.
    pub fn hold(&mut self, at: Option<u64>) {
        self.held = at;
    }

    /// The object that it fills.
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// Somebody reads it besides the one who fills it.
    pub fn is_followed(&self) -> bool {
        let own = 1 + usize::from(self.object.body.is_indexed());
        Arc::strong_count(&self.object) > own + usize::from(Arc::strong_count(&self.fill) == 1)
    }

    fn cut(&mut self) {
        if self.state == State::Over {
            return;
        }
        let is_stored = self.state == State::Stored;
        self.state = State::Over;
        if is_stored {
            self.take_out(|shard, _, _| shard.counts.cuts += 1);
        }
        self.object.body.cut();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.cut();
    }
}

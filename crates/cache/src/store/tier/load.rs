//! From the disk into memory: a fetch that asks the directory instead of the origin.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::super::ask::Variant;
use super::super::body::{Body, PIECE};
use super::super::disk::{BLOCK, Stored, count};
use super::super::purge::Cover;
use super::super::{Lead, Room};
use super::Tier;

// pieces of bodies are of whole blocks
const _: () = assert!(PIECE.is_multiple_of(BLOCK));

/// What a thread that reads has to do.
pub struct Work {
    lead: Lead,
    room: Room,
    /// None: it is not known yet which records there are.
    stored: Option<Stored>,
    shared: Arc<Shared>,
}

/// Waits for the disk.
pub struct Loading {
    tier: Arc<Tier>,
    room: Room,
    shared: Arc<Shared>,
}

/// Between the task that waits and the thread that reads.
#[derive(Default)]
struct Shared {
    stage: Mutex<Stage>,
}

enum Stage {
    /// The thread is at it.
    Reading(Option<Waker>),
    /// The task is to say which of these fits.
    Choose(Lead, Vec<Stored>),
    /// The object is there; or the fetch goes on to the origin.
    Over(Option<Lead>),
}

impl Default for Stage {
    fn default() -> Self {
        Self::Reading(None)
    }
}

impl Shared {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, stage: Stage) {
        let before = std::mem::replace(&mut *self.stage(), stage);
        if let Stage::Reading(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl Tier {
    /// Asks the disk; the fetch comes back if too many do.
    pub fn load(self: &Arc<Self>, lead: Lead, room: Room) -> Result<Loading, Lead> {
        let shared = Arc::<Shared>::default();
        self.push(Work {
            lead,
            room,
            stored: None,
            shared: Arc::clone(&shared),
        })?;
        Ok(Loading {
            tier: Arc::clone(self),
            room,
            shared,
        })
    }

    fn push(&self, work: Work) -> Result<(), Lead> {
        self.loads.push(work, (0, 0)).map_err(|work| {
            count(&self.skipped);
            work.lead
        })
    }

    /// A thread that reads.
    pub(super) fn run_loads(&self) {
        while let Some(work) = self.loads.pop() {
            let Work {
                lead,
                room,
                stored,
                shared,
            } = work;
            let stage = if self.is_closing.load(Ordering::Acquire) {
                Stage::Over(Some(lead))
            } else if let Some(stored) = stored {
                self.bring(lead, room, stored)
            } else {
                self.look(lead, room)
            };
            shared.put(stage);
        }
    }

    /// Which records there are. If there is no choice, the object is brought at once.
    fn look(&self, lead: Lead, room: Room) -> Stage {
        let key = lead.key();
        let mut found = self.disk.find(key.hash, key.bytes);
        if found
            .first()
            .is_some_and(|newest| !newest.meaning.names.is_empty())
        {
            return Stage::Choose(lead, found);
        }
        if found.is_empty() {
            return Stage::Over(Some(lead));
        }
        self.bring(lead, room, found.swap_remove(0))
    }

    fn bring(&self, lead: Lead, room: Room, stored: Stored) -> Stage {
        match self.published(lead, room, stored) {
            Ok(()) => {
                count(&self.hits);
                Stage::Over(None)
            }
            Err(lead) => Stage::Over(Some(lead)),
        }
    }

    /// An object of a record. All of its body is compared before anybody sees it: what is not right costs nobody more than asking
    /// the origin.
    fn published(&self, lead: Lead, room: Room, stored: Stored) -> Result<(), Lead> {
        let key = lead.key();
        if stored.cover == Cover::Hard {
            // an older one is not what was stored last
            self.disk.forget(key.hash);
            return Err(lead);
        }
        let length = stored.body();
        let Some(site) = lead.reserve(length, &room) else {
            return Err(lead);
        };
        let mut pieces = Vec::new();
        let mut at = 0;
        let most = Body::piece_size(length) as u64;
        while at < length {
            let mut piece = vec![0; (length - at).min(most) as usize];
            if !self.disk.read(&stored, at, &mut piece) {
                return Err(lead);
            }
            at += piece.len() as u64;
            pieces.push(piece.into_boxed_slice());
        }
        let body = Body::whole(site.site(), length, pieces);
        drop(site);
        let is_soft = stored.cover == Cover::Soft;
        let head = stored.head().to_vec();
        lead.publish_stored(stored.meaning, head, body, room, is_soft)
    }
}

impl Loading {
    /// Waits for the disk. None: what was asked for is there now, if no purge came meanwhile. Otherwise the fetch, which is for the
    /// origin. `variant` is called without a lock.
    pub fn poll(&self, variant: Variant<'_>, cx: &mut Context<'_>) -> Poll<Option<Lead>> {
        let mut stage = self.shared.stage();
        match std::mem::take(&mut *stage) {
            Stage::Reading(_) => {
                *stage = Stage::Reading(Some(cx.waker().clone()));
                Poll::Pending
            }
            Stage::Over(lead) => Poll::Ready(lead),
            Stage::Choose(lead, found) => {
                // the thread has let go of it
                *stage = Stage::Reading(Some(cx.waker().clone()));
                drop(stage);
                let mut value = Vec::new();
                let fits = found.into_iter().find(|stored| {
                    let meaning = &stored.meaning;
                    value.clear();
                    if !meaning.names.is_empty() {
                        variant(&meaning.names, &mut value);
                    }
                    value == meaning.variant
                });
                let Some(stored) = fits else {
                    return Poll::Ready(Some(lead));
                };
                let work = Work {
                    lead,
                    room: self.room,
                    stored: Some(stored),
                    shared: Arc::clone(&self.shared),
                };
                match self.tier.push(work) {
                    Ok(()) => Poll::Pending,
                    Err(lead) => Poll::Ready(Some(lead)),
                }
            }
        }
    }
}

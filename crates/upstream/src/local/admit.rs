//! A request's place at an upstream, before a server is chosen.

use std::cell::RefCell;

use narthex_config::model::Priority;

use super::CoreCluster;
use super::lease::{ConnectError, ConnectErrorKind};
use super::queue;
use crate::clock::millis;
use crate::gate::Permit;

/// A request's place among those of its upstream, given back when dropped; nothing where they are not limited.
#[derive(Debug, Default)]
pub struct Admission {
    place: RefCell<Option<Permit>>,
    /// What is limited is how many wait for the head of a response.
    until_head: bool,
}

impl Admission {
    /// The head of the response has come. A limit that follows the time until then has nothing to do with what comes after it:
    /// downloads, streams of events and tunnels would fill it up for as long as they like.
    pub fn answered(&self) {
        if self.until_head {
            self.place.take();
        }
    }
}

impl CoreCluster {
    /// A place for a request, if they are not limited or one is free.
    #[inline]
    pub fn try_admit(&self) -> Option<Admission> {
        if !self.view.borrow().settings.requests.is_limited() {
            return Some(Admission::default());
        }
        let place = self.shared().places().try_acquire()?;
        Some(self.admission(place))
    }

    fn admission(&self, place: Permit) -> Admission {
        Admission {
            place: RefCell::new(Some(place)),
            // A written limit counts requests to their end.
            until_head: self.view.borrow().settings.requests.total == 0,
        }
    }

    /// A place for a request, now or when one comes free. Dropping the future gives everything back.
    pub async fn admit(&self, priority: Priority) -> Result<Admission, ConnectError> {
        if let Some(admission) = self.try_admit() {
            return Ok(admission);
        }
        let settings = self.settings();
        let gate = self.shared().places();
        let mut longest = queue::longest(&settings);
        if let Some(adaptive) = &settings.requests.adaptive {
            // A queue that stands is latency that nobody measures.
            longest = longest.min(millis(adaptive.wait));
        }
        match queue::place(gate, self.core, priority, longest).await {
            Ok(place) => Ok(self.admission(place)),
            // By the limit that was found, not by the one that is written?
            Err(mut error)
                if settings.requests.adaptive.is_some()
                    && gate.max() != settings.requests.total =>
            {
                error.kind = ConnectErrorKind::Overload;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

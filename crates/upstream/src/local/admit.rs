//! A request's place at an upstream, before a server is chosen.

use narthex_config::model::Priority;

use super::CoreCluster;
use super::lease::ConnectError;
use super::queue;
use crate::gate::Permit;

/// A request's place among those of its upstream, given back when dropped; nothing where they are not limited.
#[derive(Debug, Default)]
pub struct Admission {
    _place: Option<Permit>,
}

impl CoreCluster {
    /// A place for a request, if they are not limited or one is free.
    pub fn try_admit(&self) -> Option<Admission> {
        if !self.view.borrow().settings.requests.is_limited() {
            return Some(Admission::default());
        }
        let place = self.shared().places().try_acquire()?;
        Some(Admission {
            _place: Some(place),
        })
    }

    /// A place for a request, now or when one comes free. Dropping the future gives everything back.
    pub async fn admit(&self, priority: Priority) -> Result<Admission, ConnectError> {
        if let Some(admission) = self.try_admit() {
            return Ok(admission);
        }
        let wait = self.shared().places().wait(self.core, priority);
        let place = queue::place(wait, &self.settings()).await?;
        Ok(Admission {
            _place: Some(place),
        })
    }
}

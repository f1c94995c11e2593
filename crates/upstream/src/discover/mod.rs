//! Servers by name.

mod dns;
mod hold;
mod system;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use dns::Discovery;
pub use system::NameServers;

use crate::fleet::Fleet;

/// How long a start waits for the first answers.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);

impl Fleet {
    /// Starts resolving the names of the fleet's servers, now and whenever the fleet changes, by the system's
    /// configuration (`/etc/hosts`, `/etc/resolv.conf`), on a thread of its own. Waits at most 2 s for the names that are
    /// configured already; those without an answer by then are resolved later. Ends when the result is dropped.
    pub fn start_discovery(self: &Arc<Self>) -> io::Result<Discovery> {
        let discovery = Discovery::start(self, NameServers::System)?;
        discovery.wait_for_answers(FIRST_ANSWERS);
        Ok(discovery)
    }
}

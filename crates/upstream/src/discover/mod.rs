//! Servers that are not written: names, and lists that are kept elsewhere.
//!
//! Everything here runs on one thread with a small tokio runtime of its own, for the resolver and the HTTP client need one.
//! Nothing on the data path waits for it: it hands what it finds to the upstreams, which make new server sets, which cores
//! notice by their version. A source that fails takes no server away.

mod backoff;
mod consul;
pub(crate) mod delta;
mod docker;
mod etcd;
mod file;
mod follow;
mod hold;
mod http;
mod inotify;
mod named;
mod names;
mod sink;
mod source;
pub(crate) mod srv;
mod system;
#[cfg(test)]
mod tests;
mod thread;

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use system::NameServers;
pub use thread::Discovery;

use crate::fleet::Fleet;

/// How long a start waits for the first answers.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);

impl Fleet {
    /// Starts learning the fleet's servers, now and whenever the fleet changes, on a thread of its own. Waits at most 2 s
    /// for what is configured already; what has no answer by then comes later. Ends when the result is dropped.
    pub fn start_discovery(self: &Arc<Self>) -> io::Result<Discovery> {
        let discovery = Discovery::start(self)?;
        discovery.wait_for_answers(FIRST_ANSWERS);
        Ok(discovery)
    }
}

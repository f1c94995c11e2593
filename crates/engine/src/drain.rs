//! A graceful stop: nobody new, everybody in flight to the end, the idle told with their next answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::listeners::Closing;
use crate::workers::{Worker, Workers};

/// Between two looks at the connections that are left.
const LOOK: Duration = Duration::from_millis(20);
/// When nothing is in flight, idle clients have this long to send a last request and be told of the close.
const QUIET: Duration = Duration::from_millis(500);

/// Whoever asked for an upgrade gets the answer within this time, before the process may end.
const LAST_ANSWER: Duration = Duration::from_millis(200);

/// How to drain.
#[derive(Debug)]
pub(crate) struct Drain {
    /// The longest it takes.
    pub(crate) grace: Duration,
    /// Idle clients close when they like: a successor serves, so there is no hurry.
    pub(crate) idle_may_stay: bool,
    /// Hears that nobody new is accepted any more.
    pub(crate) left: Option<oneshot::Sender<()>>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Nothing was in flight any more.
    Done,
    /// The grace was over first; so many connections were cut.
    GraceOver(usize),
}

/// What is left on all cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Left {
    connections: usize,
    busy: usize,
}

/// Drains and says how it ended.
pub(crate) async fn drain(workers: Arc<Workers>, sockets: Closing, how: Drain) -> Drained {
    let deadline = Instant::now() + how.grace;
    let drained = async {
        // First, so that answers that leave from now on tell their clients.
        let told = workers.each(|_| |worker: &_| tell(worker)).await;
        if told.is_err() || sockets.close(&workers).await.is_err() {
            // The supervisor ends the process for it.
            return Drained::Done;
        }
        if let Some(left) = how.left {
            // Nobody need wait for it.
            let _ = left.send(());
            sleep(LAST_ANSWER).await;
        }
        until_quiet(&workers, how.idle_may_stay).await
    };
    match tokio::time::timeout_at(deadline, drained).await {
        Ok(drained) => drained,
        Err(_) => Drained::GraceOver(left(&workers).await.connections),
    }
}

fn tell(worker: &Rc<Worker>) {
    worker.proxy.drain();
}

async fn until_quiet(workers: &Workers, idle_may_stay: bool) -> Drained {
    let mut quiet_since = None;
    loop {
        let left = left(workers).await;
        if left.connections == 0 {
            return Drained::Done;
        }
        let now = Instant::now();
        quiet_since = if left.busy == 0 && !idle_may_stay {
            quiet_since.or(Some(now))
        } else {
            None
        };
        if quiet_since.is_some_and(|since| now.duration_since(since) >= QUIET) {
            return Drained::Done;
        }
        sleep(LOOK).await;
    }
}

async fn left(workers: &Workers) -> Left {
    let per_core = workers
        .each(|_| {
            |worker: &Rc<Worker>| Left {
                connections: worker.proxy.connections(),
                busy: worker.proxy.in_flight(),
            }
        })
        .await
        .unwrap_or_default();
    per_core.iter().fold(Left::default(), |sum, core| Left {
        connections: sum.connections + core.connections,
        busy: sum.busy + core.busy,
    })
}

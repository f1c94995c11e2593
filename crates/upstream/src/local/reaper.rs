//! The task that watches a core's idle connections: a server's close is noticed when it happens, not at the next use.

use std::rc::Weak;
use std::task::Poll;

use narthex_net::rt;

use super::CoreFleet;

/// Between two sweeps while connections die, in milliseconds: a sweep costs a look at every idle connection.
const PAUSE_MS: u64 = 50;
/// Between two sweeps for age, in milliseconds.
const AGE_MS: u64 = 1_000;

pub(super) async fn run(fleet: Weak<CoreFleet>) {
    loop {
        let Some(core) = fleet.upgrade() else { return };
        let closed = core.sweep();
        let idle = core.idle() > 0;
        core.watched.set(idle || closed > 0);
        drop(core);
        if closed > 0 {
            // Wake-ups during the pause are lost, so another sweep follows it.
            rt::sleep_until(rt::now_ms().saturating_add(PAUSE_MS)).await;
        } else {
            let deadline = if idle {
                rt::now_ms().saturating_add(AGE_MS)
            } else {
                0
            };
            let _ = rt::timeout_at(deadline, woken()).await;
        }
    }
}

/// Completes at the next wake-up, by whomever.
async fn woken() {
    let mut asked = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut asked, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

impl CoreFleet {
    fn sweep(&self) -> usize {
        self.tidy();
        let now = rt::now_ms();
        let clusters: Vec<_> = self.clusters.borrow().values().cloned().collect();
        clusters.iter().map(|c| c.sweep(now)).sum()
    }
}

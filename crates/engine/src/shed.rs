//! The watch over memory: how far to go to get below the cap, and whom to end when nothing else helps.

use std::cmp::Reverse;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::plane::{Holding, Shared, Stage};
use crate::workers::{Worker, Workers};

/// Between two looks at our memory. Each look goes a stage further while we are above the cap.
const LOOK: Duration = Duration::from_millis(100);
/// Shedding ends when we are this much below the cap, in percent: no flapping.
const RELIEF: u64 = 5;
/// Above the cap by this part of it, there is no time for one stage after the other.
const URGENT: u64 = 8;
/// Looks without aborts after some: the allocator gives memory back a second after it is freed.
const REST: u32 = 15;
/// Large enough for the allocator to give a block of its own. Bytes.
const LARGE_BLOCK: usize = 32 << 20;
/// Exchanges that a core names at one look.
const NAMED: usize = 1024;
/// Longest wait for a core's answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a look sees, in bytes.
#[derive(Debug, Clone, Copy)]
struct Figures {
    /// 0: none.
    cap: u64,
    /// Of the process, by the kernel's account.
    resident: u64,
    /// In buffers, by our own account.
    buffered: u64,
}

impl Figures {
    fn used(self) -> u64 {
        self.resident.max(self.buffered)
    }

    /// Where shedding ends.
    fn mark(self) -> u64 {
        self.cap - self.cap / 100 * RELIEF
    }
}

/// Decides from look to look.
#[derive(Debug)]
struct Policy {
    stage: Stage,
    rest: u32,
}

impl Policy {
    /// Goes on from `stage`: the watch may have been started again.
    fn at(stage: Stage) -> Self {
        Self { stage, rest: 0 }
    }

    /// One look. Returns how many bytes are to be freed by aborting exchanges.
    fn look(&mut self, now: Figures) -> u64 {
        let used = now.used();
        self.rest = self.rest.saturating_sub(1);
        if now.cap == 0 || used <= now.mark() {
            self.stage = Stage::Calm;
            return 0;
        }
        if used <= now.cap {
            return 0;
        }
        let urgent = used > now.cap.saturating_add(now.cap / URGENT);
        self.stage = if urgent {
            Stage::Abort
        } else {
            self.stage.next()
        };
        if self.stage == Stage::Abort {
            self.excess(now)
        } else {
            0
        }
    }

    /// Aborting is for what aborting can mend: if the buffers, all of them, are less than what is too much, something else
    /// holds the memory.
    fn excess(&mut self, now: Figures) -> u64 {
        let excess = now.used() - now.mark();
        if self.rest > 0 || now.buffered < excess {
            return 0;
        }
        self.rest = REST;
        excess
    }
}

/// Sheds load while our memory is above the cap, which follows reloads.
pub(crate) async fn watch(shared: Arc<Shared>, workers: Arc<Workers>) {
    let mut policy = Policy::at(shared.memory().stage());
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let memory = shared.memory();
        let figures = Figures {
            cap: memory.cap(),
            resident: resident().unwrap_or(0),
            buffered: memory.buffered(),
        };
        let before = policy.stage;
        let to_free = policy.look(figures);
        if policy.stage != before {
            memory.set_stage(policy.stage);
            tell(before, policy.stage, figures);
            if before < Stage::CloseIdle && policy.stage >= Stage::CloseIdle {
                let told = workers.each(|_| |worker: &Rc<Worker>| worker.proxy.close_idle());
                // A core that does not answer has ended, which the supervisor sees, or is late.
                drop(tokio::time::timeout(PATIENCE, told).await);
            }
        }
        if to_free > 0 {
            abort(&workers, to_free).await;
        }
        if policy.stage > Stage::Calm {
            remind_allocator();
        }
    }
}

fn tell(before: Stage, now: Stage, figures: Figures) {
    let Figures {
        cap,
        resident,
        buffered,
    } = figures;
    match (before, now) {
        (_, Stage::Calm) => tracing::info!(resident, buffered, cap, "below the memory cap again"),
        (Stage::Calm, _) => tracing::warn!(
            resident,
            buffered,
            cap,
            stage = now.word(),
            "over the memory cap: new connections are refused"
        ),
        _ => tracing::warn!(
            resident,
            buffered,
            cap,
            stage = now.word(),
            "still over the memory cap"
        ),
    }
}

/// Ends the largest exchanges of all cores, until they would free so many bytes.
async fn abort(workers: &Workers, bytes: u64) {
    let named = workers.each(|_| |worker: &Rc<Worker>| worker.proxy.largest(NAMED));
    let Ok(Ok(named)) = tokio::time::timeout(PATIENCE, named).await else {
        tracing::error!("a core does not say what its exchanges hold; none is aborted");
        return;
    };
    let mut chosen = choose(named, bytes);
    let count: usize = chosen.iter().map(Vec::len).sum();
    if count == 0 {
        return;
    }
    tracing::warn!(
        exchanges = count,
        bytes,
        "over the memory cap: the exchanges that hold most are aborted"
    );
    let told = workers.each(|core| {
        let chosen = chosen.get_mut(usize::from(core)).map(std::mem::take);
        move |worker: &Rc<Worker>| worker.proxy.abort(&chosen.unwrap_or_default())
    });
    drop(tokio::time::timeout(PATIENCE, told).await);
}

/// Of what every core named, the largest that hold `bytes` together; by core.
fn choose(named: Vec<Vec<Holding>>, bytes: u64) -> Vec<Vec<Holding>> {
    let mut chosen = vec![Vec::new(); named.len()];
    let mut all: Vec<(usize, Holding)> = (0..)
        .zip(named)
        .flat_map(|(core, list)| list.into_iter().map(move |holding| (core, holding)))
        .collect();
    all.sort_by_key(|(_, holding)| Reverse(holding.bytes));
    let mut left = bytes;
    for (core, holding) in all {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(holding.bytes as u64);
        if let Some(list) = chosen.get_mut(core) {
            list.push(holding);
        }
    }
    chosen
}

/// The allocator gives freed memory back when it is used again after a while; and a process that refuses everybody may not
/// use it at all, and so never get below its cap. A large block that nobody touches is taken and freed.
fn remind_allocator() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE_BLOCK)));
}

/// Our resident set in bytes: the second number of `/proc/self/statm`, less what is shared with files.
pub(crate) fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    private(&text)?.checked_mul(rustix::param::page_size() as u64)
}

fn private(statm: &str) -> Option<u64> {
    let mut numbers = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let resident = numbers.next()?.ok()?;
    let shared = numbers.next()?.ok()?;
    resident.checked_sub(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(policy: &mut Policy, resident: u64, buffered: u64) -> (Stage, u64) {
        let figures = Figures {
            cap: 1000,
            resident,
            buffered,
        };
        let to_free = policy.look(figures);
        (policy.stage, to_free)
    }

    #[test]
    fn one_stage_after_the_other() {
        let mut policy = Policy::at(Stage::Calm);
        assert_eq!(look(&mut policy, 1000, 900), (Stage::Calm, 0));
        assert_eq!(look(&mut policy, 1001, 900), (Stage::Refuse, 0));
        assert_eq!(look(&mut policy, 1001, 900), (Stage::CloseIdle, 0));
        assert_eq!(look(&mut policy, 1001, 900), (Stage::EndKeepAlive, 0));
        assert_eq!(look(&mut policy, 1001, 900), (Stage::Abort, 51));
    }

    #[test]
    fn either_figure_is_enough() {
        let mut policy = Policy::at(Stage::Calm);
        assert_eq!(look(&mut policy, 10, 1001).0, Stage::Refuse);
        let mut policy = Policy::at(Stage::Calm);
        assert_eq!(look(&mut policy, 1001, 10).0, Stage::Refuse);
    }

    #[test]
    fn far_above_the_cap_everything_happens_at_once() {
        let mut policy = Policy::at(Stage::Calm);
        assert_eq!(look(&mut policy, 1125, 1000).0, Stage::Refuse);
        let mut policy = Policy::at(Stage::Calm);
        assert_eq!(look(&mut policy, 1126, 1000), (Stage::Abort, 176));
    }

    #[test]
    fn shedding_ends_only_well_below_the_cap() {
        let mut policy = Policy::at(Stage::Calm);
        for _ in 0..3 {
            look(&mut policy, 1001, 0);
        }
        assert_eq!(look(&mut policy, 1000, 0), (Stage::EndKeepAlive, 0));
        assert_eq!(look(&mut policy, 951, 0), (Stage::EndKeepAlive, 0));
        assert_eq!(look(&mut policy, 950, 0), (Stage::Calm, 0));
        assert_eq!(look(&mut policy, 951, 0), (Stage::Calm, 0), "no flapping");
        assert_eq!(look(&mut policy, 1001, 0), (Stage::Refuse, 0));
    }

    #[test]
    fn what_aborts_cannot_mend_they_do_not_try() {
        let mut policy = Policy::at(Stage::Calm);
        assert_eq!(look(&mut policy, 2000, 1049), (Stage::Abort, 0));
        assert_eq!(look(&mut policy, 2000, 1050), (Stage::Abort, 1050));
    }

    #[test]
    fn after_aborts_memory_has_time_to_come_back() {
        let mut policy = Policy::at(Stage::Calm);
        assert_eq!(look(&mut policy, 1200, 1000), (Stage::Abort, 250));
        for _ in 1..REST {
            assert_eq!(look(&mut policy, 1200, 1000), (Stage::Abort, 0));
        }
        assert_eq!(look(&mut policy, 1200, 1000), (Stage::Abort, 250));
    }

    #[test]
    fn no_cap_is_no_shedding() {
        let mut policy = Policy::at(Stage::Calm);
        let to_free = policy.look(Figures {
            cap: 0,
            resident: u64::MAX,
            buffered: u64::MAX,
        });
        assert_eq!((policy.stage, to_free), (Stage::Calm, 0));
    }

    #[test]
    fn the_largest_of_all_cores_go_first() {
        let named = vec![holdings(&[500, 20]), holdings(&[80, 70, 60])];
        let sizes = |bytes| -> Vec<Vec<usize>> {
            let chosen = choose(named.clone(), bytes);
            let sizes = |list: &Vec<Holding>| list.iter().map(|h| h.bytes).collect();
            chosen.iter().map(sizes).collect()
        };
        assert_eq!(sizes(1), [vec![500], vec![]]);
        assert_eq!(sizes(500), [vec![500], vec![]]);
        assert_eq!(sizes(501), [vec![500], vec![80]]);
        assert_eq!(sizes(700), [vec![500], vec![80, 70, 60]]);
        assert_eq!(sizes(9000), [vec![500, 20], vec![80, 70, 60]]);
    }

    fn holdings(sizes: &[usize]) -> Vec<Holding> {
        sizes.iter().map(|&bytes| Holding::of(bytes)).collect()
    }

    #[test]
    fn our_own_pages_are_counted() {
        assert_eq!(private("900 500 200 1 0 300 0"), Some(300));
        assert_eq!(private("900"), None);
        assert!(resident().unwrap() > 0);
    }
}

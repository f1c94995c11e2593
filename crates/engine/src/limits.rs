//! Limits that the configuration leaves to the machine, and the watch over memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use narthex_config::model::{Config, MemoryCap};
use narthex_net::limits::memory_limit;

use crate::plane::Shared;

/// Between two looks at our memory.
const LOOK: Duration = Duration::from_millis(200);
/// Shedding ends when we are this much below the cap, in percent: no flapping.
const RELIEF: u64 = 5;
/// Connections that a process may have whose number of open files nobody limits.
const UNBOUNDED: u64 = 1 << 20;

/// Fills in the number of client connections, if the configuration leaves it open: 80% of half the open files, because a
/// client may need a second one for its server.
pub(crate) fn decide(config: &mut Config, open_files: u64) {
    if config.connections_max == 0 {
        config.connections_max = connections(open_files);
    }
}

fn connections(open_files: u64) -> usize {
    let half = open_files.min(2 * UNBOUNDED) / 2;
    usize::try_from(half * 8 / 10).unwrap_or(usize::MAX).max(1)
}

/// The cap in bytes; 0 is none.
pub(crate) fn memory_cap(cap: MemoryCap) -> u64 {
    match cap {
        MemoryCap::Bytes(bytes) => bytes,
        MemoryCap::Percent(percent) => {
            memory_limit().map_or(0, |limit| limit / 100 * u64::from(percent))
        }
    }
}

/// Sheds load while our memory is above the cap. `cap` follows reloads.
pub(crate) async fn watch_memory(shared: Arc<Shared>, cap: Arc<AtomicU64>) {
    let mut shedding = false;
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let Some(used) = resident() else { continue };
        let cap = cap.load(Ordering::Relaxed);
        let now = sheds(shedding, used, cap);
        if now != shedding {
            shedding = now;
            shared.set_shedding(now);
            if now {
                tracing::warn!(
                    used,
                    cap,
                    "over the memory cap: new connections are refused"
                );
            } else {
                tracing::info!(used, cap, "below the memory cap again");
            }
        }
    }
}

fn sheds(shedding: bool, used: u64, cap: u64) -> bool {
    let threshold = if shedding {
        cap / 100 * (100 - RELIEF)
    } else {
        cap
    };
    cap != 0 && used > threshold
}

/// Our resident set in bytes: the second number of `/proc/self/statm`, less what is shared with files.
fn resident() -> Option<u64> {
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

    #[test]
    fn connections_are_two_fifths_of_the_open_files() {
        assert_eq!(connections(1000), 400);
        assert_eq!(connections(1), 1);
        assert_eq!(connections(u64::MAX), 838_860);
        let mut config = Config {
            connections_max: 7,
            ..Config::default()
        };
        decide(&mut config, 1000);
        assert_eq!(config.connections_max, 7);
        config.connections_max = 0;
        decide(&mut config, 1000);
        assert_eq!(config.connections_max, 400);
    }

    #[test]
    fn shedding_ends_only_well_below_the_cap() {
        assert!(!sheds(false, 100, 100));
        assert!(sheds(false, 101, 100));
        assert!(sheds(true, 96, 100));
        assert!(!sheds(true, 95, 100));
        assert!(!sheds(true, u64::MAX, 0), "no cap");
    }

    #[test]
    fn our_own_pages_are_counted() {
        assert_eq!(private("900 500 200 1 0 300 0"), Some(300));
        assert_eq!(private("900"), None);
        assert!(resident().unwrap() > 0);
    }
}

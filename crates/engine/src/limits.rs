//! Limits that the configuration leaves to the machine.

use narthex_config::model::{Config, MemoryCap};
use narthex_net::limits::memory_limit;

/// Connections that a process may have whose number of open files nobody limits.
const UNBOUNDED: u64 = 1 << 20;

/// Open files that are neither a client's nor its server's nor a kept connection of a check: checks under way, logs, listeners.
const OTHER_FILES: u64 = 2_048;

/// Fills in the number of client connections, if the configuration leaves it open: 80% of half the open files, because a
/// client may need a second one for its server.
pub(crate) fn decide(config: &mut Config, open_files: u64) {
    if config.connections_max == 0 {
        config.connections_max = connections(open_files);
    }
}

/// Connections that health checks may keep: half of what the clients and their servers leave of the open files, so that who
/// lowers `connections max` has more of them. 0 leaves it to the checks.
pub(crate) fn checks_kept(connections_max: usize, open_files: u64) -> usize {
    let clients = (connections_max as u64).saturating_mul(2);
    let left = open_files
        .min(2 * UNBOUNDED)
        .saturating_sub(clients)
        .saturating_sub(OTHER_FILES);
    usize::try_from(left / 2).unwrap_or(usize::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_keep_half_of_what_is_left() {
        assert_eq!(checks_kept(1_000, 20_000), 7_976);
        assert_eq!(checks_kept(8_000, 20_000), 976);
        assert_eq!(checks_kept(20_000, 20_000), 0);
        assert_eq!(checks_kept(1, 0), 0);
        assert_eq!(checks_kept(usize::MAX, u64::MAX), 0);
    }

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
}

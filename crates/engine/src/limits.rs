//! Limits that the configuration leaves to the machine.

use narthex_config::model::{Config, MemoryCap};
use narthex_net::limits::memory_limit;

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
}

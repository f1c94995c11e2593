//! The process's own figures, read from `/proc` when asked for, under the names that every Prometheus client uses.

use std::fs;

/// Kernel ticks per second in `/proc/*/stat`: part of the Linux ABI on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What `/proc` says; a figure that cannot be read is absent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ProcessFigures {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) start_unix_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

impl ProcessFigures {
    pub(super) fn read() -> Self {
        let mut figures = Self::default();
        figures.take_stat(&read("/proc/self/stat"), &read("/proc/stat"));
        figures.take_status(&read("/proc/self/status"));
        figures.max_fds = max_fds(&read("/proc/self/limits"));
        // the directory's own descriptor is in the listing
        figures.open_fds = fs::read_dir("/proc/self/fd")
            .ok()
            .map(|dir| (dir.count() as u64).saturating_sub(1));
        figures
    }

    fn take_stat(&mut self, own: &str, system: &str) {
        // the command may hold spaces and parentheses: fields are counted from behind its last one
        let Some((_, rest)) = own.rsplit_once(')') else {
            return;
        };
        let field = |number: usize| {
            rest.split_ascii_whitespace()
                .nth(number - 3)
                .and_then(|text| text.parse::<f64>().ok())
        };
        if let (Some(user), Some(kernel)) = (field(14), field(15)) {
            self.cpu_seconds = Some((user + kernel) / TICKS_PER_SECOND);
        }
        let boot = system
            .lines()
            .find_map(|line| line.strip_prefix("btime "))
            .and_then(|text| text.trim().parse::<f64>().ok());
        if let (Some(boot), Some(start)) = (boot, field(22)) {
            self.start_unix_seconds = Some(boot + start / TICKS_PER_SECOND);
        }
    }

    fn take_status(&mut self, status: &str) {
        for line in status.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let number = value
                .split_ascii_whitespace()
                .next()
                .and_then(|text| text.parse::<u64>().ok());
            match key {
                "VmRSS" => self.resident_bytes = number.map(|kib| kib.saturating_mul(1024)),
                "VmSize" => self.virtual_bytes = number.map(|kib| kib.saturating_mul(1024)),
                "Threads" => self.threads = number,
                _ => {}
            }
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// `None` for "unlimited" too.
fn max_fds(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_figures() {
        let figures = ProcessFigures::read();
        assert!(figures.resident_bytes.unwrap() > 100_000);
        assert!(figures.virtual_bytes >= figures.resident_bytes);
        assert!(figures.threads.unwrap() >= 1);
        assert!(figures.open_fds.unwrap() >= 3);
        assert!(figures.start_unix_seconds.unwrap() > 1_000_000_000.0);
        assert!(figures.cpu_seconds.is_some());
    }

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let mut figures = ProcessFigures::default();
        let own = "7 (a) b (c)) S 1 1 1 0 -1 4 0 0 0 0 250 150 0 0 20 0 1 0 1000 1 1";
        figures.take_stat(own, "cpu 1 2\nbtime 5000\n");
        assert_eq!(figures.cpu_seconds, Some(4.0));
        assert_eq!(figures.start_unix_seconds, Some(5010.0));
    }

    #[test]
    fn limits_may_be_unlimited() {
        assert_eq!(
            max_fds("Limit\nMax open files            1024      4096    files\n"),
            Some(1024)
        );
        assert_eq!(
            max_fds("Max open files            unlimited   unlimited   files\n"),
            None
        );
        assert_eq!(max_fds(""), None);
    }
}

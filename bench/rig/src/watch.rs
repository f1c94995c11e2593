//! What the kernel says of other processes: CPU time to the nanosecond, and resident memory.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sums over processes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sample {
    /// CPU time of every thread, ns.
    pub cpu_ns: u64,
    /// Clock ticks in user space.
    pub user: u64,
    /// Clock ticks in the kernel.
    pub system: u64,
    /// Resident pages.
    pub pages: u64,
}

/// Looks at processes now.
pub fn sample(pids: &[u32]) -> Sample {
    let mut sum = Sample::default();
    for pid in pids {
        sum.cpu_ns += cpu_ns(*pid);
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
            // After the name, which may hold anything: state is field 3 of the manual, utime 14, stime 15, rss 24.
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let fields: Vec<u64> = rest
                .split_whitespace()
                .map(|f| f.parse().unwrap_or(0))
                .collect();
            let at = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
            sum.user += at(14);
            sum.system += at(15);
            sum.pages += at(24);
        }
    }
    sum
}

/// The scheduler's own account, of all threads.
fn cpu_ns(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    threads
        .flatten()
        .filter_map(|t| fs::read_to_string(t.path().join("schedstat")).ok())
        .filter_map(|s| s.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Sockets are files: as many as we may.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

//! What the kernel says of a process: its children, its threads' CPU time, its memory.

use std::fs;

/// A process and everything it started.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        at += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|c| c.parse::<u32>().ok()),
            );
        }
    }
    all
}

/// CPU time of each thread of these processes so far, ns.
pub fn thread_times(pids: &[u32]) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    for pid in pids {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let id = thread.file_name().to_string_lossy().parse().unwrap_or(0);
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let ns = text
                .split_whitespace()
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            out.push((id, ns));
        }
    }
    out
}

/// Resident memory of these processes, bytes.
pub fn resident(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        line.trim().split(' ').next()?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum::<u64>() * 1024
}

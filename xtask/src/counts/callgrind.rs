//! User-space instructions per request, counted by valgrind's callgrind: exact and repeatable.

use std::process::Command;

use super::{Workbench, counted};
use crate::served::Served;
use crate::{apt, sh};

/// Counts over about `requests` requests.
pub fn per_request(bench: &Workbench, requests: u64) -> Result<f64, String> {
    apt::ensure(&[("valgrind", "valgrind"), ("callgrind_control", "valgrind")])?;
    let out = bench.path("callgrind");
    let instrument = [
        "valgrind".to_owned(),
        "--quiet".into(),
        "--tool=callgrind".into(),
        "--instr-atstart=no".into(),
        format!("--callgrind-out-file={}.%p", out.display()),
    ];
    let (mut rig, proxy) = bench.start(&instrument)?;
    let pid = proxy.pid();
    let requests = counted(
        &mut rig,
        &proxy,
        requests,
        || control(&["-i", "on"], pid),
        || control(&["-i", "off"], pid).and_then(|()| control(&["-d"], pid)),
    )?;
    stop(proxy);
    drop(rig);
    Ok(total(bench)? / requests)
}

/// `callgrind_control`: it prints much and fails rarely.
fn control(args: &[&str], pid: u32) -> Result<(), String> {
    sh::output(
        Command::new("callgrind_control")
            .args(args)
            .arg(pid.to_string()),
    )
    .map(drop)
}

/// Under valgrind a graceful stop takes long, and its instructions are not wanted.
fn stop(proxy: Served) {
    proxy.kill();
}

/// The dump with instructions in it.
fn total(bench: &Workbench) -> Result<f64, String> {
    let files = std::fs::read_dir(&bench.work).map_err(|e| e.to_string())?;
    files
        .flatten()
        .filter(|f| f.file_name().to_string_lossy().starts_with("callgrind"))
        .filter_map(|f| std::fs::read(f.path()).ok())
        .map(|bytes| totals_line(&String::from_utf8_lossy(&bytes)))
        .max_by(f64::total_cmp)
        .filter(|total| *total > 0.0)
        .ok_or_else(|| "callgrind wrote no count".into())
}

fn totals_line(text: &str) -> f64 {
    text.lines()
        .filter_map(|l| {
            l.strip_prefix("totals:")
                .or_else(|| l.strip_prefix("summary:"))
        })
        .filter_map(|l| l.split_whitespace().next()?.parse::<f64>().ok())
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_totals_line_is_found() {
        let text = "events: Ir\nsummary: 12\nfn=x\n1 12\ntotals: 345\n";
        assert!((super::totals_line(text) - 345.0).abs() < 1e-9);
    }
}

//! Parts that are tests of `crates/e2e` in their long form: the tests assert counts, print what they measured, and say how long
//! it may take here.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use super::{Part, Size};
use crate::{apt, sh};

/// Name servers that are not ours (package `bind9`), for `heal_discovery`.
pub const NEEDS: [apt::Need; 2] = [("named", "bind9"), ("nsupdate", "bind9-dnsutils")];

/// Rows of the fault scorecard: a file of tests, and words of their names.
const FAULTS: [(&str, &[&str]); 4] = [
    (
        "heal_attempts",
        &[
            "with_2_workers::killed_origin",
            "with_2_workers::black_hole",
            "with_2_workers::keep_alive_close",
        ],
    ),
    (
        "heal_health",
        &["slow_server", "flapping_server", "all_down_then_up"],
    ),
    ("heal_discovery", &["dns_"]),
    ("heal_limits", &["with_2_workers::op_"]),
];

/// Servers that die, vanish, are slow, flap, come back; name servers in every mood; ports and descriptors that run out.
pub fn faults(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    apt::ensure(&NEEDS)?;
    let mut part = Part::new("faults");
    for (file, names) in FAULTS {
        tests(&mut part, narthex, work, size, file, names)?;
    }
    Ok(part)
}

/// Binary upgrades and reloads under load.
pub fn upgrade(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    let mut part = Part::new("upgrade");
    let name = "upgrades_and_reloads_under_load";
    tests(&mut part, narthex, work, size, "heal_upgrade", &[name])?;
    Ok(part)
}

/// The cache on disk: killed under load again and again, and how soon it is as good as before.
pub fn cache(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    let mut part = Part::new("cache");
    for (file, name) in [
        ("cache_warm", "as_good_as_before_in_a_moment"),
        ("cache_crash", "killed_again_and_again"),
    ] {
        tests(&mut part, narthex, work, size, file, &[name])?;
    }
    Ok(part)
}

/// Runs tests one after the other and takes the rows that they print (`crates/e2e/src/kit/card.rs`).
fn tests(
    part: &mut Part,
    narthex: &Path,
    work: &Path,
    size: &Size,
    file: &str,
    names: &[&str],
) -> Result<(), String> {
    let mut cargo = sh::cargo();
    cargo
        .args(["test", "--release", "-p", "narthex-e2e", "--test", file])
        .args(["--", "--test-threads=1", "--nocapture"])
        .args(names)
        .env("NARTHEX_BIN", narthex)
        .env("NARTHEX_E2E_FULL", "1")
        .env("NARTHEX_E2E_RATE", format!("{:.0}", size.rate))
        .stdout(Stdio::piped());
    let log = work.join(format!("{file}.log"));
    let mut child = cargo.spawn().map_err(|e| e.to_string())?;
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line.map_err(|e| e.to_string())?;
            take(part, &line);
            said.push_str(&line);
            said.push('\n');
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    sh::write(&log, &said)?;
    if !status.success() {
        part.faults
            .push(format!("{file}: {status}; see {}", log.display()));
    }
    Ok(())
}

/// `card| what | how much | at most`, after whatever else stands in the line; without the last it is only shown.
fn take(part: &mut Part, line: &str) {
    let Some((_, row)) = line.split_once("card| ") else {
        return;
    };
    let mut words = row.split(" | ").map(str::trim);
    let (Some(what), Some(much)) = (words.next(), words.next()) else {
        return;
    };
    let most = words.next().unwrap_or_default();
    let much = much.trim_end_matches('|').trim();
    match (much.parse::<f64>(), most.parse::<f64>()) {
        (Ok(is), Ok(may)) => {
            part.row(what, format!("{much} (at most {most})"));
            if is > may {
                part.faults.push(format!("{what}: {much}, at most {most}"));
            }
        }
        _ => part.row(what, much),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_and_judged() {
        let mut part = Part::new("x");
        take(&mut part, "test a ... card| failed | 3, 2 |");
        take(&mut part, "card| ejected after, ms | 12.5 | 2000.0");
        take(&mut part, "card| longest, ms | 2001.0 | 2000.0");
        take(&mut part, "test a ... ok");
        let rows: Vec<_> = part.rows.iter().map(|(_, much)| much.as_str()).collect();
        assert_eq!(
            rows,
            ["3, 2", "12.5 (at most 2000.0)", "2001.0 (at most 2000.0)"]
        );
        assert_eq!(part.faults, ["longest, ms: 2001.0, at most 2000.0"]);
    }
}

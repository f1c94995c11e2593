//! `cargo xtask counts`: user-space instructions and syscalls per small request, against a stored baseline.
//!
//! Counts don't depend on how busy the machine is, so a test can hold them.

mod baseline;
mod callgrind;
mod syscalls;

use std::path::{Path, PathBuf};

use crate::args::Args;
use crate::bench::{self, ALL, ORIGIN, Peer, Scenario};
use crate::rig::Rig;
use crate::served::Served;
use crate::sh;
use crate::totals::Checked;
use baseline::{Baseline, Counts};

/// How much more than its baseline a count may be.
const INSTRUCTIONS_MORE: f64 = 0.03;
/// Syscalls depend on how many events one turn of the loop finds.
const SYSCALLS_MORE: f64 = 0.08;
/// Budget of the product (release and dist): what is aimed at. Said beside the figure; the baseline is what is held.
const BUDGET: Counts = Counts {
    instructions: Some(9_000.0),
    syscalls: Some(4.3),
};

/// Does it.
pub fn run(mut args: Args) -> Result<(), String> {
    let profile = args.text("--profile").unwrap_or_else(|| "release".into());
    let requests = args.number("--requests", 10_000)?;
    let update = args.flag("--update");
    args.end()?;
    if update {
        let counts = measure(&profile, requests)?;
        Baseline::update(&profile, &counts.values())?;
        println!("bench/counts.toml: [{profile}] {:?}", counts.values());
        return Ok(());
    }
    let mut failed = false;
    for (name, result) in guard(&profile, requests) {
        println!("{name}: {result:?}");
        failed |= matches!(result, Checked::Failed(_));
    }
    if failed {
        return Err(format!(
            "more than the baseline. If that is meant: `cargo xtask counts --profile {profile} --update`"
        ));
    }
    Ok(())
}

/// Both counts, held against the baseline of the same profile.
pub fn guard(profile: &str, requests: u64) -> Vec<(String, Checked)> {
    let name = |what: &str| format!("{what} per request ({profile})");
    match measure(profile, requests) {
        Err(why) => vec![(name("instructions and syscalls"), Checked::Failed(why))],
        Ok(counts) => {
            let base = Baseline::read().get(profile);
            vec![
                (
                    name("instructions"),
                    judge(
                        counts.instructions,
                        base.instructions,
                        BUDGET.instructions,
                        INSTRUCTIONS_MORE,
                        profile,
                    ),
                ),
                (
                    name("syscalls"),
                    judge(
                        counts.syscalls,
                        base.syscalls,
                        BUDGET.syscalls,
                        SYSCALLS_MORE,
                        profile,
                    ),
                ),
            ]
        }
    }
}

/// What was measured; a count that could not be had says why.
struct Measured {
    instructions: Result<f64, String>,
    syscalls: Result<f64, String>,
}

impl Measured {
    fn values(&self) -> Counts {
        Counts {
            instructions: self.instructions.clone().ok(),
            syscalls: self.syscalls.clone().ok(),
        }
    }
}

fn measure(profile: &str, requests: u64) -> Result<Measured, String> {
    let narthex = sh::narthex(profile)?;
    let bench = Workbench::new(narthex)?;
    Ok(Measured {
        instructions: callgrind::per_request(&bench, requests),
        syscalls: syscalls::per_request(&bench, requests * 5),
    })
}

fn judge(
    count: Result<f64, String>,
    base: Option<f64>,
    budget: Option<f64>,
    more: f64,
    profile: &str,
) -> Checked {
    let count = match count {
        Ok(count) => count,
        Err(why) => return Checked::Skipped(why),
    };
    let optimised = matches!(profile, "release" | "dist");
    let said = |figure: Option<f64>| figure.map_or("none".into(), |f| format!("{f:.2}"));
    println!(
        "measured {count:.2}; baseline {}; budget {}",
        said(base),
        said(budget.filter(|_| optimised)),
    );
    match base {
        None => Checked::Skipped(format!(
            "{count:.2}, but bench/counts.toml has no [{profile}] to hold it against"
        )),
        Some(base) if count > base * (1.0 + more) => Checked::Failed(format!(
            "{count:.2}, more than {:.0}% above the baseline {base:.2} (bench/counts.toml)",
            more * 100.0
        )),
        Some(_) => Checked::Passed,
    }
}

/// A proxy and a rig, as the bench's scenario `a` has them.
struct Workbench {
    narthex: PathBuf,
    work: PathBuf,
    config: PathBuf,
}

impl Workbench {
    fn new(narthex: PathBuf) -> Result<Self, String> {
        let work = sh::fresh_dir("counts")?;
        bench::certificate(&work)?;
        let config = Peer::Narthex.config(small()?, &work)?;
        Ok(Self {
            narthex,
            work,
            config,
        })
    }

    /// Starts rig and proxy, the proxy under `instrument` (program and arguments; may be empty).
    fn start(&self, instrument: &[String]) -> Result<(Rig, Served), String> {
        let rig = Rig::start("0", ORIGIN)?;
        let plain = Peer::Narthex.command(&self.narthex, &self.config);
        let command = match instrument.split_first() {
            None => plain,
            Some((program, args)) => {
                let mut command = std::process::Command::new(program);
                command
                    .args(args)
                    .arg(plain.get_program())
                    .args(plain.get_args());
                command
            }
        };
        let log = self.work.join("narthex.log");
        let proxy = Served::start(&command, "1", Peer::Narthex.address(), &log)?;
        Ok((rig, proxy))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }
}

/// Warm-up, `attach`, exactly counted requests, `detach`; says how many requests there were.
fn counted(
    rig: &mut Rig,
    proxy: &Served,
    requests: u64,
    mut attach: impl FnMut() -> Result<(), String>,
    mut detach: impl FnMut() -> Result<(), String>,
) -> Result<f64, String> {
    let order = small()?.order;
    rig.order(&format!(
        "{order} target={} warm=0.7 count={requests} steps=1",
        proxy.address
    ))?;
    rig.expect("warm")?;
    attach()?;
    rig.order("go")?;
    rig.expect("done")?;
    detach()?;
    rig.order("go")?;
    let answer = rig.answer()?;
    let failed = answer.get("errors") + answer.get("not_200");
    if failed > 0.0 || answer.get("requests") < requests as f64 {
        return Err(format!(
            "{} of {requests} requests answered, {failed} failed:\n{}",
            answer.get("requests"),
            proxy.tail()
        ));
    }
    Ok(answer.get("requests"))
}

fn small() -> Result<&'static Scenario, String> {
    ALL.iter()
        .find(|s| s.name == "a")
        .ok_or_else(|| "no scenario a".into())
}

/// Where the baseline is.
fn file() -> PathBuf {
    sh::root().join(Path::new("bench/counts.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(count: f64, base: Option<f64>, profile: &str) -> Checked {
        judge(Ok(count), base, Some(9_000.0), 0.03, profile)
    }

    #[test]
    fn a_count_is_held_against_its_baseline() {
        assert_eq!(judged(8_100.0, Some(8_000.0), "release"), Checked::Passed);
        assert!(matches!(
            judged(8_300.0, Some(8_000.0), "release"),
            Checked::Failed(_)
        ));
        // Above the budget, which is said and not held.
        assert_eq!(judged(9_100.0, Some(9_050.0), "release"), Checked::Passed);
        assert_eq!(judged(90_000.0, Some(90_000.0), "dev"), Checked::Passed);
        assert!(matches!(judged(1.0, None, "release"), Checked::Skipped(_)));
        assert!(matches!(
            judge(Err("no valgrind".into()), None, None, 0.1, "dev"),
            Checked::Skipped(_)
        ));
    }
}

//! `cargo xtask bench`: CPU time per request, as a ratio to nginx and HAProxy; hits of the cache to nginx and Varnish.
//!
//! The proxy is pinned on core 1; load generator and origin are one process on core 0. Rounds are interleaved (A B C, C B A,
//! ...), ratios paired per round, medians shown. Absolute figures move with the machine and its mood; ratios hold.

mod outside;
mod peers;
mod scenario;
mod table;

pub use outside::certificate;
pub use peers::{ORIGIN, Peer};
pub use scenario::{ALL, Scenario};

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::rig::{self, Rig};
use crate::served::{Served, two_cores};
use crate::{apt, procfs, sh};
use table::{Round, Rounds};

struct Plan {
    scenarios: Vec<Scenario>,
    peers: Vec<Peer>,
    rounds: usize,
    dur: f64,
    narthex: PathBuf,
    work: PathBuf,
}

/// Does it.
pub fn run(mut args: Args) -> Result<(), String> {
    let scenarios = scenario::chosen(args.word().as_deref())?;
    let rounds = args.number("--rounds", 5)?;
    let dur = args.number("--dur", 2.0)?;
    let profile = args.text("--profile").unwrap_or_else(|| "dist".into());
    let peers = args
        .text("--peers")
        .unwrap_or_else(|| "nginx,haproxy,varnish".into());
    let json = args.text("--json");
    let keep = args.flag("--keep");
    args.end()?;
    if !two_cores() {
        return Err("the bench needs two cores: one for the proxy, one for the rest".into());
    }
    let mut who = vec![Peer::Narthex];
    for name in peers.split(',').filter(|n| !n.is_empty() && *n != "none") {
        let peer = Peer::of(name)?;
        if !scenarios.iter().any(|s| peer.takes_part(s)) {
            continue;
        }
        apt::ensure(&[(peer.program(), peer.name()), ("taskset", "util-linux")])?;
        who.push(peer);
    }
    rig::build()?;
    let plan = Plan {
        scenarios,
        peers: who,
        rounds,
        dur,
        narthex: sh::narthex(&profile)?,
        work: sh::fresh_dir("bench")?,
    };
    outside::prepare(&plan.scenarios)?;
    outside::certificate(&plan.work)?;
    print!("{}", preface(&plan, &profile)?);
    let mut results = Vec::new();
    for s in &plan.scenarios {
        let rounds = measure(&plan, s)?;
        print!("{}", table::markdown(s, &rounds));
        results.push((s.name, rounds));
    }
    print!("{}", effective(&plan)?);
    if let Some(file) = json {
        sh::write(Path::new(&file), &as_json(&results))?;
    }
    if !keep {
        let _ = std::fs::remove_dir_all(&plan.work);
    }
    Ok(())
}

/// What was measured on what.
fn preface(plan: &Plan, profile: &str) -> Result<String, String> {
    let first = plan.scenarios.first().ok_or("no scenario")?;
    // A file that cannot be served should be known before minutes of measuring.
    let config = Peer::Narthex.config(first, &plan.work)?;
    sh::output(Command::new(&plan.narthex).arg("check").arg(&config))?;
    let mut out = String::new();
    for peer in &plan.peers {
        let _ = writeln!(out, "- {}", peer.version(&plan.narthex));
    }
    let kernel = sh::read(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default();
    let cpus = sh::read(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let _ = writeln!(
        out,
        "- Linux {}, {model}, {} cores; profile `{profile}`; {} rounds of {} s",
        kernel.trim(),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        plan.rounds,
        plan.dur
    );
    Ok(out)
}

/// The effective configuration of every variant that was measured.
fn effective(plan: &Plan) -> Result<String, String> {
    let mut out = String::new();
    let mut seen = Vec::new();
    for s in &plan.scenarios {
        let variant = (s.workers, s.log, s.cache, s.grpc);
        if seen.contains(&variant) {
            continue;
        }
        seen.push(variant);
        let config = Peer::Narthex.config(s, &plan.work)?;
        let text = sh::output(
            Command::new(&plan.narthex)
                .args(["config", "show", "--effective"])
                .arg(&config),
        )?;
        let _ = write!(
            out,
            "\n<details><summary>Effective configuration ({} worker(s), access log {}, cache {}, gRPC {})</summary>\n\n```kdl\n{}\n```\n\n</details>\n",
            s.workers,
            if s.log { "on" } else { "off" },
            if s.cache { "on" } else { "off" },
            if s.grpc { "on" } else { "off" },
            text.trim_end()
        );
    }
    Ok(out)
}

fn measure(plan: &Plan, s: &Scenario) -> Result<Vec<Rounds>, String> {
    let pinned = s.workers == 1;
    let mut rig = Rig::start(if pinned { "0" } else { "" }, ORIGIN)?;
    let mut running = Vec::new();
    let grpc = s
        .grpc
        .then(|| outside::grpc_server(&plan.work))
        .transpose()?;
    for peer in plan.peers.iter().filter(|p| p.takes_part(s)) {
        running.push((*peer, peer.start(s, &plan.work, &plan.narthex)?));
    }
    let mut all: Vec<Rounds> = running
        .iter()
        .map(|(peer, _)| (peer.name().to_owned(), Vec::new()))
        .collect();
    // Idle connections grow a process once: a second round would measure nothing.
    let rounds = if s.is_idle() { 1 } else { plan.rounds };
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..running.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let (Some((peer, proxy)), Some((_, rounds))) = (running.get(at), all.get_mut(at))
            else {
                continue;
            };
            eprint!(
                "\r{} round {}/{} {}      ",
                s.name,
                round + 1,
                plan.rounds,
                peer.name()
            );
            rounds.push(if s.is_outside() {
                Round {
                    answer: outside::one(*peer, proxy, s, (plan.dur, &plan.work))?,
                    balance: 1.0,
                }
            } else {
                one(&mut rig, proxy, s, plan.dur)?
            });
        }
    }
    eprint!("\r{}\r", " ".repeat(40));
    drop(rig);
    for (_, proxy) in running {
        proxy.stop();
    }
    if let Some(server) = grpc {
        server.stop();
    }
    Ok(all)
}

fn one(rig: &mut Rig, proxy: &Served, s: &Scenario, dur: f64) -> Result<Round, String> {
    let pids = proxy.pids();
    let before = procfs::thread_times(&pids);
    let answer = rig.ask(&format!(
        "{} target={} secs={dur} {}",
        s.order,
        proxy.address,
        rig::watch(&pids)
    ))?;
    let after = procfs::thread_times(&pids);
    Ok(Round {
        answer,
        balance: balance(&before, &after, s.workers),
    })
}

/// CPU time of the busiest worker over the mean. The workers are the threads that worked most.
fn balance(before: &[(u64, u64)], after: &[(u64, u64)], workers: usize) -> f64 {
    let mut spent: Vec<u64> = after
        .iter()
        .map(|(id, ns)| {
            let was = before
                .iter()
                .find(|(b, _)| b == id)
                .map_or(0, |(_, ns)| *ns);
            ns.saturating_sub(was)
        })
        .collect();
    spent.sort_unstable_by(|a, b| b.cmp(a));
    spent.truncate(workers);
    let sum: u64 = spent.iter().sum();
    let busiest = spent.first().copied().unwrap_or(0);
    busiest as f64 * workers as f64 / (sum.max(1)) as f64
}

fn as_json(results: &[(&str, Vec<Rounds>)]) -> String {
    let scenarios: Vec<String> = results
        .iter()
        .map(|(name, proxies)| {
            let proxies: Vec<String> = proxies
                .iter()
                .map(|(proxy, rounds)| {
                    let rounds: Vec<String> = rounds.iter().map(|r| r.answer.json()).collect();
                    format!("\"{proxy}\":[{}]", rounds.join(","))
                })
                .collect();
            format!("\"{name}\":{{{}}}", proxies.join(","))
        })
        .collect();
    format!("{{{}}}\n", scenarios.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_looks_at_the_workers_only() {
        let before = [(1, 0), (2, 100), (3, 5)];
        let after = [(1, 10), (2, 1_100), (3, 1_005)];
        assert!((balance(&before, &after, 2) - 1.0).abs() < 1e-9);
        assert!((balance(&before, &after, 1) - 1.0).abs() < 1e-9);
        let skewed = [(1, 0), (2, 3_100), (3, 1_005)];
        assert!((balance(&before, &skewed, 2) - 1.5).abs() < 1e-9);
    }
}

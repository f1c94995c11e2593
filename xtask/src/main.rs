//! `cargo xtask`: the project's own chores. The standard library only, so that it builds in seconds.

mod apt;
mod args;
mod bench;
mod browser;
mod cache_judge;
mod counts;
mod docs;
mod fuzz;
mod grpc;
mod judges;
mod procfs;
mod rig;
mod scorecard;
mod served;
mod sh;
mod test;
mod totals;

use std::process::ExitCode;

const HELP: &str = "\
The project's chores.

  cargo xtask test       [--only-cargo]                        every test; ends with one line of totals
  cargo xtask bench      [SCENARIOS] [--rounds N] [--dur S] [--profile P] [--keep]
                                                               CPU per request against nginx, HAProxy and Varnish
  cargo xtask counts     [--profile P] [--requests N] [--update]
                                                               instructions and syscalls per request, against a baseline
  cargo xtask scorecard  [--quick] [--profile P] [--seconds S] [--rate N] [--part NAME]
                                                               what has a time in it: reload soak, no request twice,
                                                               idle connections, checks, the cache (stampede, purge
                                                               storm, many objects); at full length faults, upgrade
  cargo xtask fuzz       [TARGET] [--seconds N]                fuzz one target, or each in turn (needs nightly)
  cargo xtask docs       [--check]                             generated pages: written, or compared
  cargo xtask judges [--profile NAME]                          outside judges of HTTP/1.1 (downloads them)
  cargo xtask cache-judge [--profile NAME] [--verbose] [--proxy URL --origin-port N]
                                                               the public tests of HTTP caches (downloads them)

bench:  SCENARIOS are a, afix, b, c1, c64, d, j, i, a-log, a-2w, hit1k, hit100k, hit10m, separated by commas; all without.
        --peers nginx,haproxy,varnish (or none)   --json FILE   --keep leaves the configurations and logs
counts: profiles have baselines of their own in bench/counts.toml; --update rewrites the one measured.
Profiles are cargo's: dev, release, dist (what ships; the default of bench and scorecard).";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(chore) = words.next() else {
        println!("{HELP}");
        return ExitCode::from(2);
    };
    let args = args::Args::new(words);
    let done = match chore.as_str() {
        "test" => test::run(args),
        "bench" => bench::run(args),
        "counts" => counts::run(args),
        "scorecard" => scorecard::run(args),
        "fuzz" => fuzz::run(args),
        "docs" => docs::run(args),
        "judges" => judges::run(args),
        "cache-judge" => cache_judge::run(args),
        "help" | "-h" | "--help" => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => Err(format!("there is no chore `{other}`\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {chore}: {why}");
            ExitCode::FAILURE
        }
    }
}

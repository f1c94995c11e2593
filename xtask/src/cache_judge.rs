//! The outside judge of the cache: `http-cache-tests` (cache-tests.fyi), with `narthex proxy --cache=rfc9111` between its client
//! and its origin. What it finds is compared with a list in the repository.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::served::Served;
use crate::totals::Checked;
use crate::{apt, sh};

/// From npm, as tested.
const PACKAGE: &str = "http-cache-tests";
const VERSION: &str = "0.4.5";

const SUITE: &str = include_str!("cache_judge/suite.mjs");

/// Required tests of this edition that later ones have turned round. First those that no cache can pass: an origin closes the
/// connection, and the suite wants a field in the answer that only the origin could have sent. Then those that take an answer for
/// stale where RFC 9111 5.1 counts the first `Age` or none.
const TURNED_ROUND: [&str; 11] = [
    "stale-close-must-revalidate",
    "stale-close-proxy-revalidate",
    "stale-close-no-cache",
    "stale-close-s-maxage=2",
    "age-parse-nonnumeric",
    "age-parse-negative",
    "age-parse-float",
    "age-parse-prefix-twoline",
    "age-parse-dup-0",
    "age-parse-dup-0-twoline",
    "age-parse-dup-old",
];

/// Of the tests of optimal behaviour, so many in a hundred pass at least.
const OPTIMAL: usize = 95;

/// Tests that do not pass, and why.
const LIST: &str = "crates/e2e/cache-tests.toml";

/// `cargo xtask cache-judge`: the judge alone. `--proxy URL`: judges something else, whose origin is at `--origin-port`;
/// `--verbose`: a line per test.
pub fn run(mut args: Args) -> Result<(), String> {
    let profile = args.text("--profile").unwrap_or_else(|| "dev".into());
    let proxy = args.text("--proxy");
    let port = args.number("--origin-port", 0)?;
    let verbose = args.flag("--verbose");
    args.end()?;
    ensure()?;
    let results = match proxy {
        Some(url) => {
            if port == 0 {
                return Err(
                    "`--proxy` needs `--origin-port`, where it finds the suite's origin".into(),
                );
            }
            let _origin = origin(port, &sh::fresh_dir("cache-judge")?)?;
            client(&url)?
        }
        None => judged(&sh::narthex(&profile)?)?,
    };
    if verbose {
        for result in &results {
            println!("{result:?}");
        }
    }
    verdict(&results, &list()?).map(|line| println!("{line}"))
}

/// As one check of `cargo xtask test`.
pub fn check(narthex: &Path) -> Checked {
    let done = ensure()
        .and_then(|()| judged(narthex))
        .and_then(|results| verdict(&results, &list()?));
    match done {
        Ok(line) => {
            println!("{line}");
            Checked::Passed
        }
        Err(why) => Checked::Failed(why),
    }
}

fn place() -> PathBuf {
    sh::target_dir().join("judges").join(PACKAGE)
}

/// Makes sure that the suite is there.
fn ensure() -> Result<(), String> {
    apt::ensure(&[("node", "nodejs"), ("npm", "npm")])?;
    let place = place();
    std::fs::create_dir_all(&place).map_err(|e| format!("cannot make {}: {e}", place.display()))?;
    let script = place.join("suite.mjs");
    std::fs::write(&script, SUITE)
        .map_err(|e| format!("cannot write {}: {e}", script.display()))?;
    let package = place
        .join("node_modules")
        .join(PACKAGE)
        .join("package.json");
    let wanted = format!("\"version\": \"{VERSION}\"");
    let is_there = place.join("node_modules/node-fetch").is_dir()
        && std::fs::read_to_string(package).is_ok_and(|text| text.contains(&wanted));
    if is_there {
        return Ok(());
    }
    eprintln!("installing {PACKAGE} {VERSION} (from npm)");
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"])
        .args(["--silent", "--no-save", "--prefix", "."])
        .arg(format!("{PACKAGE}@{VERSION}"))
        .current_dir(&place);
    sh::output(&mut npm).map(|_| ())
}

/// What the suite says of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Judged {
    group: String,
    kind: String,
    id: String,
    verdict: String,
    said: String,
}

/// All tests, through the cache.
fn judged(narthex: &Path) -> Result<Vec<Judged>, String> {
    let work = sh::fresh_dir("cache-judge")?;
    let port = free_port()?;
    let origin = origin(port, &work)?;
    let address = loopback(free_port()?);
    let mut command = Command::new(narthex);
    command
        .args(["proxy", "--cache=rfc9111", "--listen"])
        .arg(address.to_string())
        .arg("--to")
        .arg(origin.address.to_string())
        .args(["--access-log", "off"]);
    let proxy = Served::start(&command, "", address, &work.join("narthex.log"))?;
    let results = client(&format!("http://{address}"));
    proxy.stop();
    origin.stop();
    results
}

fn origin(port: u16, work: &Path) -> Result<Served, String> {
    let mut serve = node();
    serve.args(["serve", &port.to_string()]);
    Served::start(&serve, "", loopback(port), &work.join("origin.log"))
}

fn client(url: &str) -> Result<Vec<Judged>, String> {
    let said = sh::output(node().args(["run", url]))?;
    let results: Vec<Judged> = said.lines().filter_map(judged_line).collect();
    if results.len() < 300 {
        return Err(format!(
            "the suite says too little ({} tests): {said}",
            results.len()
        ));
    }
    Ok(results)
}

fn judged_line(line: &str) -> Option<Judged> {
    let mut cells = line.split('\t').map(str::to_owned);
    Some(Judged {
        group: cells.next()?,
        kind: cells.next()?,
        id: cells.next()?,
        verdict: cells.next()?,
        said: cells.next()?,
    })
}

fn node() -> Command {
    let mut node = Command::new("node");
    node.args(["--no-warnings", "suite.mjs"])
        .current_dir(place());
    node
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn free_port() -> Result<u16, String> {
    TcpListener::bind(loopback(0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| format!("no free port: {e}"))
}

/// Reasons by test.
type List = BTreeMap<String, String>;

fn list() -> Result<List, String> {
    let file = sh::root().join(LIST);
    let text = std::fs::read_to_string(&file).map_err(|e| format!("cannot read {LIST}: {e}"))?;
    parse_list(&text)
}

/// `id = "reason"` per line; comments and headings of tables are passed over.
fn parse_list(text: &str) -> Result<List, String> {
    let mut list = List::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', '[']) {
            continue;
        }
        let (id, reason) = line
            .split_once(" = ")
            .ok_or_else(|| format!("{LIST}: not `id = \"reason\"`: {line}"))?;
        let id = id.trim().trim_matches('"');
        let reason = reason.trim().trim_matches('"');
        if reason.is_empty() || list.insert(id.to_owned(), reason.to_owned()).is_some() {
            return Err(format!("{LIST}: `{id}` needs one reason"));
        }
    }
    Ok(list)
}

/// How many of a kind.
#[derive(Default)]
struct Count {
    all: usize,
    good: usize,
    /// Neither passed nor failed: the suite could not judge it (its setup, or a test that it depends on), or no longer would.
    open: usize,
}

fn count<'r>(results: impl Iterator<Item = &'r Judged>) -> Count {
    results.fold(Count::default(), |mut count, result| {
        count.all += 1;
        count.good += usize::from(matches!(result.verdict.as_str(), "pass" | "yes"));
        count.open += usize::from(result.is_open());
        count
    })
}

impl Judged {
    fn is_open(&self) -> bool {
        let is_over = self.verdict == "fail" && TURNED_ROUND.contains(&self.id.as_str());
        is_over || matches!(self.verdict.as_str(), "setup" | "dependency")
    }

    /// What is wrong with it, if anything is.
    fn complaint(&self, is_listed: bool) -> Option<String> {
        let (id, passes) = (&self.id, self.verdict == "pass");
        // Required is required: only what the suite itself could not judge, or has turned round, may be listed.
        let may_fail = self.kind == "optimal" || self.is_open();
        match (passes, is_listed) {
            (true, true) => Some(format!("`{id}` passes: unlist it")),
            (false, true) if may_fail => None,
            (true, false) => None,
            (false, _) => Some(format!(
                "{} `{id}`: {}: {}",
                self.kind, self.verdict, self.said
            )),
        }
    }
}

/// The line to show; or what is wrong: a test that does not pass and is not listed, a required one that fails, one that is
/// listed and should not be, too few of the optimal.
fn verdict(results: &[Judged], list: &List) -> Result<String, String> {
    let mut wrong: Vec<String> = results
        .iter()
        .filter(|r| r.kind != "check")
        .filter_map(|r| r.complaint(list.contains_key(&r.id)))
        .collect();
    for id in list.keys() {
        if !results.iter().any(|r| r.id == *id && r.kind != "check") {
            wrong.push(format!("`{id}` is listed, and no test"));
        }
    }
    let of = |kind: &str| count(results.iter().filter(|r| r.kind == kind));
    let (required, optimal, check) = (of("required"), of("optimal"), of("check"));
    if optimal.good.saturating_mul(100) < optimal.all.saturating_mul(OPTIMAL) {
        wrong.push(format!("less than {OPTIMAL}% of the optimal tests pass"));
    }
    let line = format!(
        "{PACKAGE} {VERSION}: required {}/{} ({} not judged), optimal {}/{}, check {} yes of {}",
        required.good,
        required.all,
        required.open,
        optimal.good,
        optimal.all,
        check.good,
        check.all,
    );
    if wrong.is_empty() {
        Ok(line)
    } else {
        Err(format!("{line}\n  {}", wrong.join("\n  ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these lines, and so many optimal tests that pass.
    fn results(lines: &[&str], passing: usize) -> Vec<Judged> {
        let more = (0..passing).map(|n| format!("g optimal o{n} pass x"));
        lines
            .iter()
            .map(|&line| line.to_owned())
            .chain(more)
            .filter_map(|line| judged_line(&line.replace(' ', "\t")))
            .collect()
    }

    fn listed(text: &str) -> List {
        parse_list(text).unwrap_or_default()
    }

    #[test]
    fn what_does_not_pass_is_listed_or_fails_the_run() {
        let lines = [
            "g required r pass x",
            "g check c no x",
            "g optimal slow fail x",
            "g required dependent dependency x",
            "g required stale-close-no-cache fail x",
        ];
        let text =
            "# why\n[optimal]\nslow = \"a\"\n\"dependent\" = \"b\"\nstale-close-no-cache = \"c\"";
        let good = verdict(&results(&lines, 30), &listed(text));
        assert_eq!(
            good.as_deref(),
            Ok(
                "http-cache-tests 0.4.5: required 1/3 (2 not judged), optimal 30/31, check 0 yes of 1"
            )
        );
        for missing in ["slow", "\"dependent\"", "stale-close-no-cache"] {
            let fewer = text.replace(missing, "# ");
            assert!(verdict(&results(&lines, 30), &listed(&fewer)).is_err());
        }
        for more in ["r", "o1", "gone", "c"] {
            let list = listed(&format!("{text}\n{more} = \"d\""));
            assert!(verdict(&results(&lines, 30), &list).is_err(), "{more}");
        }
        // Listed or not, a required test does not fail.
        for verdict_of in ["fail", "retry", "untested"] {
            let line = format!("g required x {verdict_of} x");
            let mut lines = lines.to_vec();
            lines.push(&line);
            let list = listed(&format!("{text}\nx = \"d\""));
            assert!(verdict(&results(&lines, 30), &list).is_err());
        }
    }

    #[test]
    fn nineteen_of_twenty_optimal_tests_pass_at_least() {
        let list = listed("slow = \"a reason\"");
        let lines = ["g optimal slow fail x"];
        assert!(verdict(&results(&lines, 19), &list).is_ok());
        assert!(verdict(&results(&lines, 18), &list).is_err());
    }

    #[test]
    fn a_list_has_reasons() {
        for bad in ["a", "a = \"\"", "a = \"x\"\na = \"y\""] {
            assert!(parse_list(bad).is_err(), "{bad}");
        }
    }
}

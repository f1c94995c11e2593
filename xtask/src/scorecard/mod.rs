//! `cargo xtask scorecard`: what has a time in it. Full length on request; `cargo xtask test` runs the same code at reduced
//! counts. Only counts pass or fail (failed requests, resets, duplicates, bytes); times are reported, against a quiet stretch
//! of the same run.

mod admin;
mod cache;
mod checks;
mod duplicates;
mod e2e;
mod http;
mod idle;
mod soak;

pub use e2e::NEEDS;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::served::Served;
use crate::sh;
use crate::totals::Checked;

/// How much of everything.
#[derive(Debug, Clone)]
pub struct Size {
    /// Length of the reload soak, s.
    pub seconds: f64,
    /// Requests per second beside it.
    pub rate: f64,
    /// Reloads per second.
    pub reloads: f64,
    /// Size of the long downloads, as the origin understands it.
    pub download: &'static str,
    /// How long one of them should take, s.
    pub download_secs: f64,
    /// Origins killed.
    pub kills: usize,
    /// Milliseconds between them.
    pub kill_gap: u64,
    /// Idle connections.
    pub idle: usize,
    /// Most bytes one of them may take.
    pub idle_bytes: f64,
    /// Upstreams that are checked, of 20 servers each.
    pub checked: usize,
    /// Length of the look at it, s.
    pub check_seconds: f64,
    /// Clients that ask for the same at once.
    pub crowd: usize,
    /// Workers that they ask.
    pub crowd_workers: &'static [usize],
    /// Length of each look at hits, s.
    pub hit_seconds: f64,
    /// Hits per second beside purges; 0: a quarter of what it can do.
    pub hit_rate: f64,
    /// Objects of the large store.
    pub objects: u64,
    /// Most bytes one of them may take beside its body and head.
    pub object_bytes: f64,
}

impl Size {
    fn full(seconds: f64) -> Self {
        Self {
            seconds,
            rate: 5_000.0,
            reloads: 1.0,
            download: "64m",
            download_secs: 15.0,
            kills: 10,
            kill_gap: 1_000,
            idle: 9_000,
            idle_bytes: 629.0,
            checked: 1_000,
            check_seconds: 20.0,
            crowd: 10_000,
            crowd_workers: &[1, 2],
            hit_seconds: seconds / 6.0,
            hit_rate: 0.0,
            objects: 1_000_000,
            object_bytes: 300.0,
        }
    }

    /// For CI, which may run it with the dev profile on a busy machine.
    fn quick() -> Self {
        Self {
            seconds: 6.0,
            rate: 500.0,
            reloads: 2.0,
            download: "4m",
            download_secs: 3.0,
            kills: 10,
            kill_gap: 150,
            idle: 1_000,
            // Resident memory comes in pages and in steps of the allocator: with few connections that weighs more.
            idle_bytes: 4_096.0,
            checked: 20,
            check_seconds: 3.0,
            crowd: 500,
            crowd_workers: &[2],
            hit_seconds: 0.5,
            hit_rate: 500.0,
            objects: 2_000,
            // As with idle connections.
            object_bytes: 4_096.0,
        }
    }
}

/// One part's outcome: what it found, and whether that is right.
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Rows of a table: what, and how much.
    pub rows: Vec<(String, String)>,
    /// What is wrong.
    pub faults: Vec<String>,
    /// The configuration it ran on, whole.
    pub config: PathBuf,
}

impl Part {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            rows: Vec::new(),
            faults: Vec::new(),
            config: PathBuf::new(),
        }
    }

    fn row(&mut self, what: &str, much: impl ToString) {
        self.rows.push((what.to_owned(), much.to_string()));
    }

    /// A row that must be zero.
    fn zero(&mut self, what: &str, much: f64) {
        self.row(what, much);
        if much != 0.0 {
            self.faults.push(format!("{what}: {much}, must be 0"));
        }
    }
}

type Runner = fn(&Path, &Path, &Size) -> Result<Part, String>;

const PARTS: &[(&str, Runner)] = &[
    ("reload soak", soak::run),
    ("no request twice", duplicates::run),
    ("idle connections", idle::run),
    ("checks", checks::run),
    ("stampede", cache::stampede::run),
    ("purge storm", cache::storm::run),
    ("many objects", cache::many::run),
];

/// At full length only: in short form they are tests, which run anyway.
const LONG_PARTS: &[(&str, Runner)] = &[
    ("faults", e2e::faults),
    ("upgrade", e2e::upgrade),
    ("cache", e2e::cache),
];

/// Does it.
pub fn run(mut args: Args) -> Result<(), String> {
    let quick = args.flag("--quick");
    let profile = args.text("--profile").unwrap_or_else(|| "dist".into());
    let seconds = args.number("--seconds", 60.0)?;
    let part = args.text("--part");
    let rate = args.number("--rate", 0.0)?;
    args.end()?;
    let mut size = if quick {
        Size::quick()
    } else {
        Size::full(seconds)
    };
    if rate > 0.0 {
        size.rate = rate;
    }
    let long = if quick { &[] } else { LONG_PARTS };
    let names: Vec<&str> = PARTS.iter().chain(long).map(|(name, _)| *name).collect();
    if let Some(part) = part.as_deref().filter(|part| !names.contains(part)) {
        return Err(format!(
            "there is no part `{part}` here; there are: {}",
            names.join(", ")
        ));
    }
    let narthex = sh::narthex(&profile)?;
    let mut faults = 0;
    for (name, runner) in PARTS.iter().chain(long) {
        if part.as_deref().is_some_and(|part| part != *name) {
            continue;
        }
        let work = sh::fresh_dir(&format!("scorecard/{}", name.replace(' ', "-")))?;
        let part = runner(&narthex, &work, &size)?;
        faults += part.faults.len();
        print!("{}", table(&part, &narthex));
    }
    if faults == 0 {
        Ok(())
    } else {
        Err(format!("{faults} faults"))
    }
}

/// Every part at reduced counts.
pub fn quick(narthex: &Path) -> Vec<(String, Checked)> {
    let size = Size::quick();
    PARTS
        .iter()
        .map(|(name, runner)| {
            let work = sh::fresh_dir(&format!("scorecard/{}", name.replace(' ', "-")));
            let result = match work.and_then(|work| runner(narthex, &work, &size)) {
                Err(why) => Checked::Failed(why),
                Ok(part) => {
                    for (what, much) in &part.rows {
                        println!("{}: {what}: {much}", part.name);
                    }
                    if part.faults.is_empty() {
                        Checked::Passed
                    } else {
                        Checked::Failed(part.faults.join("; "))
                    }
                }
            };
            ((*name).to_owned(), result)
        })
        .collect()
}

fn table(part: &Part, narthex: &Path) -> String {
    use std::fmt::Write as _;
    let mut out = format!("\n### {}\n\n| | |\n|---|---|\n", part.name);
    for (what, much) in &part.rows {
        let _ = writeln!(out, "| {what} | {much} |");
    }
    for fault in &part.faults {
        let _ = writeln!(out, "\nFAULT: {fault}");
    }
    if part.config.as_os_str().is_empty() {
        return out;
    }
    let shown = sh::output(
        Command::new(narthex)
            .args(["config", "show", "--effective"])
            .arg(&part.config),
    );
    let _ = write!(
        out,
        "\n<details><summary>Effective configuration</summary>\n\n```kdl\n{}\n```\n\n</details>\n",
        shown.unwrap_or_else(|why| why).trim_end()
    );
    out
}

/// Starts the proxy on a configuration text.
fn start(narthex: &Path, work: &Path, text: &str, port: u16) -> Result<(Served, PathBuf), String> {
    start_on("", narthex, work, text, port)
}

/// The same, on the given cores.
fn start_on(
    cores: &str,
    narthex: &Path,
    work: &Path,
    text: &str,
    port: u16,
) -> Result<(Served, PathBuf), String> {
    let config = work.join("narthex.kdl");
    sh::write(&config, text)?;
    let mut command = Command::new(narthex);
    command.args(["run", "--config"]).arg(&config);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let proxy = Served::start(&command, cores, address, &work.join("narthex.log"))?;
    Ok((proxy, config))
}

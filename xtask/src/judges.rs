//! `cargo xtask judges`: outside judges of HTTP/1.1. They are downloaded, so this is no part of the tests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::args::Args;
use crate::bench::{ALL, ORIGIN, Peer};
use crate::rig::Rig;
use crate::served::Served;
use crate::sh;

/// Everything the scanner knows of HTTP/1.1. Some of it is asked for by name only: it keeps state between requests.
const CHECKS: &str = "cl-te,te-cl,te-te,h2c,cl-edge,cl-0,0-cl,parser-discrepancy";

/// Does it: the scanner `smugglex` against a running proxy. `--profile`: which build is judged; the one that ships, if none
/// is named.
pub fn run(mut args: Args) -> Result<(), String> {
    let profile = args.text("--profile").unwrap_or_else(|| "release".into());
    args.end()?;
    let tools = sh::target_dir().join("judges");
    let smugglex = tools.join("bin/smugglex");
    if !smugglex.is_file() {
        sh::run(
            sh::cargo()
                .args(["install", "--quiet", "--locked", "smugglex", "--root"])
                .arg(&tools),
        )?;
    }
    let narthex = sh::narthex(&profile)?;
    let work = sh::fresh_dir("judges-work")?;
    let scenario = ALL.first().ok_or("no scenario")?;
    let rig = Rig::start("", ORIGIN)?;
    let proxy = scenario_proxy(&narthex, &work, scenario)?;
    println!("--- smugglex: it must find nothing");
    let said = sh::output(
        Command::new(&smugglex)
            .args(["--no-color", "--json", "--timeout", "4", "--checks", CHECKS])
            .arg(format!("http://{}/", proxy.address)),
    );
    let alive = answers(&proxy);
    proxy.stop();
    drop(rig);
    verdict(&said?)?;
    if alive {
        Ok(())
    } else {
        Err("the proxy does not answer any more".into())
    }
}

/// What the scanner found, from its JSON: nothing is expected, of as many checks as were asked for.
fn verdict(said: &str) -> Result<(), String> {
    let compact: String = said.split_whitespace().collect();
    let asked = CHECKS.split(',').count();
    let done = compact.matches("\"check_type\":").count();
    if compact.contains("\"vulnerable\":true") {
        return Err(format!("smugglex found something:\n{said}"));
    }
    if done < asked {
        return Err(format!(
            "smugglex did {done} checks of {asked}; it says:\n{said}"
        ));
    }
    println!("smugglex: {done} checks, 0 findings");
    Ok(())
}

fn scenario_proxy(
    narthex: &Path,
    work: &Path,
    scenario: &crate::bench::Scenario,
) -> Result<Served, String> {
    let config = Peer::Narthex.config(scenario, work)?;
    let command = Peer::Narthex.command(narthex, &config);
    Served::start(
        &command,
        "",
        Peer::Narthex.address(),
        &work.join("narthex.log"),
    )
}

/// Does a plain request still get its answer?
fn answers(proxy: &Served) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(proxy.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

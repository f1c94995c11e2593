//! `cargo xtask judges`: outside judges of HTTP/1.1. They are downloaded, so this is no part of the tests.

use std::path::Path;
use std::process::Command;

use crate::args::Args;
use crate::bench::{ALL, ORIGIN, Peer};
use crate::rig::Rig;
use crate::served::Served;
use crate::sh;

/// Does it: the scanner `smugglex` against a running proxy.
pub fn run(args: Args) -> Result<(), String> {
    args.end()?;
    let tools = sh::target_dir().join("judges");
    let smugglex = tools.join("bin/smugglex");
    if !smugglex.is_file() {
        sh::run(
            sh::cargo()
                .args(["install", "--quiet", "smugglex", "--root"])
                .arg(&tools),
        )?;
    }
    let narthex = sh::narthex("release")?;
    let work = sh::fresh_dir("judges-work")?;
    let scenario = ALL.first().ok_or("no scenario")?;
    let rig = Rig::start("", ORIGIN)?;
    let proxy = scenario_proxy(&narthex, &work, scenario)?;
    println!("--- smugglex: it must find nothing");
    let said = sh::output(Command::new(&smugglex).arg(format!("http://{}/", proxy.address)));
    let alive = rig_answers(&proxy);
    proxy.stop();
    drop(rig);
    let said = said?;
    println!("{said}");
    if !alive {
        return Err("the proxy does not answer any more".into());
    }
    if said.to_ascii_lowercase().contains("vulnerable: true") {
        return Err("smugglex found something".into());
    }
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

fn rig_answers(proxy: &Served) -> bool {
    std::net::TcpStream::connect(proxy.address).is_ok()
}

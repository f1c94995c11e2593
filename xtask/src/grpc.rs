//! The library of gRPC that the tests speak with, Python's, in an environment of its own below the target directory.

use std::process::Command;

use crate::{apt, sh};

/// From PyPI, as tested.
const PACKAGES: [&str; 2] = ["grpcio==1.85.3", "grpcio-health-checking==1.85.1"];

/// Makes sure that it is there; `Err` says how to get it.
pub fn ensure() -> Result<(), String> {
    let place = sh::target_dir().join("grpc-python");
    let python = place.join("bin/python3");
    let works = || {
        let mut import = Command::new(&python);
        import.args(["-c", "import grpc, grpc_health.v1.health"]);
        sh::output(&mut import).is_ok()
    };
    if works() {
        return Ok(());
    }
    // The package depends on Python itself.
    apt::ensure(&[("python3", "python3-venv")])?;
    eprintln!("installing {} (from PyPI)", PACKAGES.join(" "));
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&place);
    sh::output(&mut venv)
        .map_err(|why| format!("{why}\n(Debian: apt-get install python3-venv)"))?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ])
    .args(PACKAGES);
    sh::output(&mut pip).map(|_| ())
}

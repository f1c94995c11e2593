//! Debian packages, installed when they are missing and we may.

use std::process::{Command, Stdio};

use crate::sh;

/// What a chore needs: the program looked for, and the package that has it.
pub type Need = (&'static str, &'static str);

/// Makes sure that the programs are there. `Err` says in one sentence which are not and how to get them.
pub fn ensure(needs: &[Need]) -> Result<(), String> {
    let packages = missing(needs);
    if packages.is_empty() {
        return Ok(());
    }
    let by_hand = format!(
        "missing: {0}; install by `apt-get install {0}`",
        packages.join(" ")
    );
    let Some(mut install) = apt_get() else {
        return Err(format!(
            "{by_hand} (no apt-get here, or neither root nor sudo)"
        ));
    };
    eprintln!("installing {} (Debian packages)", packages.join(" "));
    if let Some(mut update) = apt_get() {
        // Fails without a network; the install may still find what it needs.
        let _ = update.args(["-qq", "update"]).status();
    }
    install
        .args(["-qq", "-y", "--no-install-recommends", "install"])
        .args(&packages);
    match install.status() {
        Ok(status) if status.success() && missing(needs).is_empty() => Ok(()),
        Ok(status) => Err(format!("{by_hand} (apt-get ended with {status})")),
        Err(error) => Err(format!("{by_hand} ({error})")),
    }
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    needs
        .iter()
        .filter(|(program, _)| sh::tool(program).is_none())
        .map(|(_, package)| *package)
        .collect()
}

/// `apt-get` as root, never asking anything. Output goes to standard error.
fn apt_get() -> Option<Command> {
    let apt = sh::tool("apt-get")?;
    let mut command = if is_root() {
        Command::new(apt)
    } else {
        let sudo = sh::tool("sudo")?;
        let mut command = Command::new(sudo);
        command
            .args(["-n", "DEBIAN_FRONTEND=noninteractive"])
            .arg(apt);
        command
    };
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // A package's own service must not start: the peers are run by hand, on ports of ours.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Some(command)
}

/// Are we root?
pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|l| l.strip_prefix("Uid:"))
            .and_then(|ids| ids.split_whitespace().nth(1))
            == Some("0")
    })
}

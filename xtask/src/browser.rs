//! The browser that judges, Debian's Chromium, and what drives it: `playwright-core` on Node, in a place of its own below the target
//! directory.

use std::process::Command;

use crate::{apt, sh};

/// From the npm registry, as tested.
const VERSION: &str = "1.65.1";

/// Makes sure that both are there; `Err` says how to get them.
pub fn ensure() -> Result<(), String> {
    apt::ensure(&[("chromium", "chromium"), ("node", "nodejs"), ("npm", "npm")])?;
    let place = sh::target_dir().join("browser-node");
    let described = place.join("node_modules/playwright-core/package.json");
    let wanted = format!("\"version\": \"{VERSION}\"");
    if std::fs::read_to_string(&described).is_ok_and(|text| text.contains(&wanted)) {
        return Ok(());
    }
    std::fs::create_dir_all(&place).map_err(|why| format!("{}: {why}", place.display()))?;
    eprintln!("installing playwright-core {VERSION} (from npm)");
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(&place)
        .arg(format!("playwright-core@{VERSION}"));
    sh::output(&mut npm).map(|_| ())
}

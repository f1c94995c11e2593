//! A real browser: Chromium, driven by `playwright-core` on Node (`browser.mjs`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SCRIPT: &str = include_str!("browser.mjs");

/// Where `playwright-core` is: of `NARTHEX_BROWSER_MODULES`, else where `cargo xtask test` puts it. A file beside `node_modules`.
fn modules() -> PathBuf {
    if let Some(path) = std::env::var_os("NARTHEX_BROWSER_MODULES") {
        return path.into();
    }
    // <target>/<profile>/deps/<test>
    let exe = std::env::current_exe().expect("own path");
    let target = exe.ancestors().nth(3).expect("target directory");
    let place = target.join("browser-node");
    assert!(
        place.join("node_modules/playwright-core").exists(),
        "there is no {}/node_modules/playwright-core: run `cargo xtask test`, which puts it there, or name a file beside another \
         one in NARTHEX_BROWSER_MODULES",
        place.display()
    );
    place.join("package.json")
}

/// Lets a browser look at these origins; what it found. `dir`: for its profile.
#[track_caller]
pub fn look(dir: &Path, origin: &str, of_http1: &str) -> serde_json::Value {
    let script = dir.join("browser.mjs");
    std::fs::write(&script, SCRIPT).expect("the script");
    let out = Command::new("node")
        .arg(&script)
        .args(["/usr/bin/chromium", origin, of_http1])
        .arg(dir.join("profile"))
        .env("NARTHEX_BROWSER_MODULES", modules())
        // What a user's environment says of proxies is not for us.
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .env_remove("HTTP_PROXY")
        .env_remove("HTTPS_PROXY")
        .stdin(Stdio::null())
        .output()
        .expect("node");
    assert!(out.status.success(), "{}", super::proxy::say(&out));
    serde_json::from_slice(&out.stdout).expect("what it found")
}

//! A real browser: Chromium, driven by `playwright-core` on Node (`browser.mjs`).

use std::path::Path;
use std::process::{Command, Stdio};

use super::grpc::installed;

/// Names a file beside the `node_modules` that has `playwright-core`.
const MODULES: &str = "NARTHEX_BROWSER_MODULES";
const SCRIPT: &str = include_str!("browser.mjs");

/// Lets a browser look at these origins; what it found. `dir`: for its profile.
#[track_caller]
pub fn look(dir: &Path, origin: &str, of_http1: &str) -> serde_json::Value {
    let script = dir.join("browser.mjs");
    std::fs::write(&script, SCRIPT).expect("the script");
    let out = Command::new("node")
        .arg(&script)
        .args(["/usr/bin/chromium", origin, of_http1])
        .arg(dir.join("profile"))
        .env(MODULES, installed(MODULES, "browser-node/package.json"))
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

//! Running other programs, and where things are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The root of the repository.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The one target directory that everything is built in.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        None => root().join("target"),
    }
}

/// The cargo that runs this chore, at the root, without a terminal's colours.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root())
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null());
    // Set by cargo for this program alone; a cargo that inherits them would rebuild what they fingerprint.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            cargo.env_remove(name);
        }
    }
    cargo.env_remove("CARGO_MANIFEST_DIR");
    cargo.env_remove("CARGO_MANIFEST_PATH");
    cargo
}

/// A tool by name, looked for where root would look, too.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// A command as it would be typed, for messages.
pub fn said(command: &Command) -> String {
    let mut out = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        out.push(' ');
        out.push_str(&arg.to_string_lossy());
    }
    out
}

/// Runs it; its output is ours.
pub fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|e| format!("cannot run `{}`: {e}", said(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}` failed: {status}", said(command)))
    }
}

/// Runs it and gives what it wrote to standard output.
pub fn output(command: &mut Command) -> Result<String, String> {
    let out = command
        .stderr(Stdio::piped())
        .output()
        .map_err(|e| format!("cannot run `{}`: {e}", said(command)))?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        Err(format!(
            "`{}` failed: {}\n{}{}",
            said(command),
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        ))
    }
}

/// Builds the proxy with a profile of cargo's (`dev`, `release`, `dist`) and says where it is.
pub fn narthex(profile: &str) -> Result<PathBuf, String> {
    let begin = Instant::now();
    run(cargo().args([
        "build",
        "--quiet",
        "-p",
        "narthex",
        "--bin",
        "narthex",
        "--profile",
        profile,
    ]))?;
    let directory = if profile == "dev" { "debug" } else { profile };
    let binary = target_dir().join(directory).join("narthex");
    if binary.is_file() {
        eprintln!(
            "narthex ({profile}): built in {:.0} s",
            begin.elapsed().as_secs_f64()
        );
        Ok(binary)
    } else {
        Err(format!("cargo built no {}", binary.display()))
    }
}

/// A directory below the target directory, emptied.
pub fn fresh_dir(name: &str) -> Result<PathBuf, String> {
    let dir = target_dir().join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    Ok(dir)
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// Writes a file.
pub fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(dir) = path.parent() {
        let _ = std::fs::create_dir_all(dir);
    }
    std::fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// Files that a process may have open at most.
pub fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"));
    let hard = line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok());
    hard.unwrap_or(1_024)
}

/// Lets time pass; a measurement has a duration.
#[expect(
    clippy::disallowed_methods,
    reason = "measurements last a given time, and other processes announce nothing"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Asks again every few milliseconds until `done`, at most `limit`.
pub fn eventually(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        pause(Duration::from_millis(5));
    }
    true
}

//! `cargo xtask fuzz`: the targets of `fuzz/`, by cargo-fuzz and a nightly toolchain. The corpus is replayed by
//! `cargo xtask test` on stable; this chore looks for more.

use std::process::Command;

use crate::args::Args;
use crate::sh;

const KINDLY: &str = "\
Fuzzing needs a nightly toolchain and cargo-fuzz (libFuzzer wants the compiler's unstable instrumentation):

    rustup toolchain install nightly --profile minimal
    cargo install cargo-fuzz

Without them, `cargo xtask test` still replays the whole corpus on stable.";

/// Does it.
pub fn run(mut args: Args) -> Result<(), String> {
    let seconds: u64 = args.number("--seconds", 60)?;
    let target = args.word();
    args.end()?;
    let known = targets()?;
    let wanted = match target {
        None => known,
        Some(one) if known.contains(&one) => vec![one],
        Some(other) => {
            return Err(format!(
                "no target `{other}`; there are {}",
                known.join(", ")
            ));
        }
    };
    ready()?;
    let mut found = Vec::new();
    for name in wanted {
        println!("--- {name}: {seconds} s");
        if let Err(why) = sh::run(&mut fuzz(&name, seconds)) {
            found.push(format!("{name}: {why}"));
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "{}\nthe inputs are in fuzz/artifacts; put each into fuzz/corpus/<target> with its fix",
            found.join("\n")
        ))
    }
}

/// Names of the programs in `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>, String> {
    let dir = sh::root().join("fuzz/fuzz_targets");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .map_err(|e| format!("cannot read {}: {e}", dir.display()))?
        .flatten()
        .filter_map(|f| Some(f.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn ready() -> Result<(), String> {
    let nightly = sh::output(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]));
    let fuzz = sh::tool("cargo-fuzz");
    if nightly.is_ok() && fuzz.is_some() {
        Ok(())
    } else {
        Err(KINDLY.into())
    }
}

/// New inputs go to a directory of their own: the corpus holds what a person has looked at.
fn fuzz(target: &str, seconds: u64) -> Command {
    let grown = sh::target_dir().join("fuzz-corpus").join(target);
    let _ = std::fs::create_dir_all(&grown);
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo", "fuzz", "run", target])
        .arg(&grown)
        .arg(sh::root().join("fuzz/corpus").join(target))
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .args(["-max_len=16384", "-timeout=10", "-print_final_stats=1"])
        .current_dir(sh::root())
        .env("CARGO_TARGET_DIR", sh::target_dir().join("fuzz"))
        // This chore's own cargo must not speak for the nightly one.
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    let dictionary = sh::root()
        .join("fuzz/dictionaries")
        .join(format!("{target}.dict"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    command
}

//! The bench rig (`bench/rig`): built on demand, driven by lines.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::{served, sh};

/// Its manifest.
pub fn manifest() -> PathBuf {
    sh::root().join("bench/rig/Cargo.toml")
}

/// Where it is built: beside the rest.
pub fn target_dir() -> PathBuf {
    sh::target_dir().join("rig")
}

/// Builds it.
pub fn build() -> Result<PathBuf, String> {
    sh::run(
        sh::cargo()
            .args([
                "build",
                "--quiet",
                "--release",
                "--locked",
                "--manifest-path",
            ])
            .arg(manifest())
            .arg("--target-dir")
            .arg(target_dir()),
    )?;
    Ok(target_dir().join("release/rig"))
}

/// A running load generator (and origin).
pub struct Rig {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What it answered: numbers by name.
#[derive(Debug, Clone, Default)]
pub struct Answer(HashMap<String, f64>);

impl Answer {
    /// Of these.
    pub fn of(numbers: &[(&str, f64)]) -> Self {
        let named = |(name, n): &(&str, f64)| ((*name).to_owned(), *n);
        Self(numbers.iter().map(named).collect())
    }

    /// A number; 0 if it is not there.
    pub fn get(&self, key: &str) -> f64 {
        self.0.get(key).copied().unwrap_or(0.0)
    }

    /// Everything as one JSON object.
    pub fn json(&self) -> String {
        let mut keys: Vec<_> = self.0.iter().collect();
        keys.sort_by_key(|(k, _)| k.as_str());
        let pairs: Vec<String> = keys.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        format!("{{{}}}", pairs.join(","))
    }

    fn parse(line: &str) -> Result<Self, String> {
        let rest = line
            .strip_prefix("ok ")
            .ok_or_else(|| format!("the rig says: {}", line.trim()))?;
        Ok(Self(
            rest.split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?)))
                .collect(),
        ))
    }
}

impl Rig {
    /// Starts it on the given cores, with an origin there.
    pub fn start(cores: &str, origin: &str) -> Result<Self, String> {
        let mut command = Command::new(build()?);
        command.args(["load", "--origin", origin]);
        let mut child = served::pin(&command, cores)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start the rig: {e}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("the rig has no output")?;
        let mut rig = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        rig.expect("ready")?;
        Ok(rig)
    }

    /// Waits for a word.
    pub fn expect(&mut self, word: &str) -> Result<(), String> {
        let line = self.line()?;
        if line.trim() == word {
            Ok(())
        } else {
            Err(format!(
                "the rig should say `{word}`, and says: {}",
                line.trim()
            ))
        }
    }

    /// Gives a command without waiting for its answer.
    pub fn order(&mut self, command: &str) -> Result<(), String> {
        let input = self.input.as_mut().ok_or("the rig has ended")?;
        writeln!(input, "{command}")
            .and_then(|()| input.flush())
            .map_err(|e| format!("the rig does not listen: {e}"))
    }

    /// Waits for the answer to an order.
    pub fn answer(&mut self) -> Result<Answer, String> {
        Answer::parse(&self.line()?)
    }

    /// Both.
    pub fn ask(&mut self, command: &str) -> Result<Answer, String> {
        self.order(command)?;
        self.answer()
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(0) | Err(_) => Err("the rig has ended".into()),
            Ok(_) => Ok(line),
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Process ids as the rig wants them.
pub fn watch(pids: &[u32]) -> String {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    format!("watch={}", pids.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_numbers_by_name() {
        let a = Answer::parse("ok requests=12 p50_us=3.5\n").unwrap();
        assert!((a.get("requests") - 12.0).abs() < 1e-9);
        assert!((a.get("p50_us") - 3.5).abs() < 1e-9);
        assert_eq!(a.json(), r#"{"p50_us":3.5,"requests":12}"#);
        assert!(Answer::parse("error no").is_err());
    }
}

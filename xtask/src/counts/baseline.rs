//! The stored counts: `bench/counts.toml`, a table per profile.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::sh;

/// Counts per request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// User-space instructions.
    pub instructions: Option<f64>,
    /// Syscalls.
    pub syscalls: Option<f64>,
}

/// All profiles.
#[derive(Debug, Default)]
pub struct Baseline(BTreeMap<String, Counts>);

const HEAD: &str = "\
# Counts per small request (128 B, 64 keep-alive clients), by build profile; `cargo xtask test` holds `release` to them.
# Written by `cargo xtask counts --profile P --update`: a commit that raises one says why.
";

impl Baseline {
    /// Reads the file; empty if there is none.
    pub fn read() -> Self {
        Self::parse(&sh::read(&super::file()).unwrap_or_default())
    }

    /// The counts of a profile.
    pub fn get(&self, profile: &str) -> Counts {
        self.0.get(profile).copied().unwrap_or_default()
    }

    /// Replaces those of a profile that were measured.
    pub fn update(profile: &str, new: &Counts) -> Result<(), String> {
        let mut all = Self::read();
        let old = all.get(profile);
        all.0.insert(
            profile.to_owned(),
            Counts {
                instructions: new.instructions.or(old.instructions),
                syscalls: new.syscalls.or(old.syscalls),
            },
        );
        sh::write(&super::file(), &all.text())
    }

    fn parse(text: &str) -> Self {
        let mut all = Self::default();
        let mut profile = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                name.clone_into(&mut profile);
            } else if let Some((key, value)) = line.split_once('=') {
                let counts = all.0.entry(profile.clone()).or_default();
                let value = value.trim().parse().ok();
                match key.trim() {
                    "instructions" => counts.instructions = value,
                    "syscalls" => counts.syscalls = value,
                    _ => {}
                }
            }
        }
        all
    }

    fn text(&self) -> String {
        let mut out = String::from(HEAD);
        for (profile, counts) in &self.0 {
            let _ = writeln!(out, "\n[{profile}]");
            if let Some(n) = counts.instructions {
                let _ = writeln!(out, "instructions = {n:.0}");
            }
            if let Some(n) = counts.syscalls {
                let _ = writeln!(out, "syscalls = {n:.2}");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut all = Baseline::default();
        let counts = Counts {
            instructions: Some(8_123.0),
            syscalls: Some(4.21),
        };
        all.0.insert("release".into(), counts);
        let again = Baseline::parse(&all.text());
        assert_eq!(again.get("release"), counts);
        assert_eq!(again.get("dev"), Counts::default());
    }
}

//! What the tests of loading share.
#![allow(dead_code)] // each test uses a part

use std::path::Path;

use narthex_config::source::{Entry, FileSystem};
use narthex_config::{Environment, Loaded, load_text};

/// A few files in memory.
pub struct Files;

impl FileSystem for Files {
    fn read(&self, path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
        let bytes: &[u8] = match path.to_str().unwrap_or_default() {
            "pages/5xx.html" => b"<h1>sorry</h1>\n",
            "pages/404.json" => b"{}",
            "a.pem" | "a.key" | "b.pem" | "b.key" | "ca.pem" | "crl.pem" | "a.ocsp" => {
                b"-----BEGIN"
            }
            path if path.starts_with("/etc/narthex/") => b"-----BEGIN",
            "empty.pem" => b" \n",
            "/run/secrets/tickets" => b"0123456789abcdef0123456789abcdef0123456789abcdef\n",
            "/run/secrets/token" => b"from-a-file\n",
            "/run/secrets/empty" => b"\n",
            "sites/a.kdl" => b"version 1\nsite \"a.example\" { proxy \"127.0.0.1:3000\" }\n",
            "sites/broken.kdl" => b"site \"b.example\" { porxy \"127.0.0.1:3000\" }\n",
            _ => return Err(std::io::ErrorKind::NotFound.into()),
        };
        Ok(bytes[..bytes.len().min(limit as usize)].to_vec())
    }

    fn list(&self, directory: &Path) -> std::io::Result<Vec<Entry>> {
        match directory.to_str() {
            Some("sites") => Ok(["a.kdl", "broken.kdl"]
                .map(|n| Entry {
                    name: n.to_owned(),
                    is_dir: false,
                })
                .to_vec()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

/// Four cores, `TOKEN` set, the files above.
pub fn environment<R>(run: impl FnOnce(&Environment<'_>) -> R) -> R {
    let var = |name: &str| (name == "TOKEN").then(|| "hunter2-from-env".to_owned());
    run(&Environment {
        cores: 4,
        var: &var,
        files: &Files,
        unbuilt: true,
    })
}

/// Loads a text.
pub fn read(text: &str) -> Loaded {
    environment(|env| load_text("narthex.kdl", text, env))
}

/// Every problem, one a line.
pub fn lines(loaded: &Loaded) -> String {
    loaded
        .problems
        .iter()
        .map(|p| {
            format!(
                "{} {}: {} ({})\n",
                loaded.sources.place(p.span),
                p.code,
                p.message,
                p.help.clone().unwrap_or_default()
            )
        })
        .collect()
}

//! From a file to a checked configuration, or every problem with it at once.

use std::fmt::Write as _;
use std::path::Path;

use crate::check::Problems;
use crate::lower;
use crate::lower::context::Context;
use crate::model::Config;
use crate::problem::{Problem, Severity};
use crate::source::{FileSystem, Loader, Sources};

pub use crate::lower::context::Environment;

/// What loading gave.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, unless there is an error.
    pub config: Option<Config>,
    /// Errors and warnings, in the order of the files.
    pub problems: Vec<Problem>,
    /// The texts that problems point into.
    pub sources: Sources,
}

impl Loaded {
    /// Whether there are warnings or errors of this severity.
    pub fn has(&self, severity: Severity) -> bool {
        self.problems.iter().any(|p| p.severity == severity)
    }
}

/// Lets the loader borrow a file system.
#[derive(Clone, Copy)]
struct Borrowed<'a>(&'a dyn FileSystem);

impl FileSystem for Borrowed<'_> {
    fn read(&self, path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
        self.0.read(path, limit)
    }
    fn list(&self, directory: &Path) -> std::io::Result<Vec<crate::source::Entry>> {
        self.0.list(directory)
    }
}

/// Loads a file and everything it includes.
pub fn load(path: &Path, env: &Environment<'_>) -> Loaded {
    finish(Loader::new(Borrowed(env.files)).load(path), env)
}

/// Loads a text that has no file. `name` stands in problems, decides between KDL and JSON (`.json`), and is where included
/// files are looked for.
pub fn load_text(name: &str, text: impl Into<String>, env: &Environment<'_>) -> Loaded {
    finish(Loader::new(Borrowed(env.files)).load_text(name, text), env)
}

fn finish(read: crate::source::Loaded, env: &Environment<'_>) -> Loaded {
    let mut problems = Problems::default();
    problems.unbuilt = env.unbuilt;
    for problem in read.problems {
        problems.push(problem);
    }
    let mut ctx = Context {
        problems,
        env,
        sources: &read.sources,
        on_demand: false,
    };
    let config = lower::lower(&mut ctx, &read.document);
    let errors = ctx.problems.errors();
    let problems = ctx.problems.finish();
    let mut sources = read.sources;
    mask_secrets(&problems, &mut sources);
    Loaded {
        config: (errors == 0).then_some(config),
        problems,
        sources,
    }
}

/// Problems are shown with their line, and a secret that was written itself must not be.
fn mask_secrets(problems: &[Problem], sources: &mut Sources) {
    for problem in problems.iter().filter(|p| p.code == "literal-secret") {
        let (start, end) = (problem.span.start as usize, problem.span.end as usize);
        let Some(source) = sources.files.get_mut(problem.span.file.0 as usize) else {
            continue;
        };
        let Some(secret) = source.text.get(start..end) else {
            continue;
        };
        // As long as before, line breaks included: every place in the file stays where it is.
        let mask = |b| if b == b'\n' { '\n' } else { '*' };
        let masked: String = secret.bytes().map(mask).collect();
        source.text.replace_range(start..end, &masked);
    }
}

/// The command line of `narthex proxy`, without a file.
#[derive(Debug, Clone, Default)]
pub struct Quick<'a> {
    /// `--listen`, e.g. `:8080`; `8080` will do.
    pub listen: &'a str,
    /// `--to`, once or more: `127.0.0.1:3000`, `http://127.0.0.1:3000`, `3000`, or an `unix:` path.
    pub to: &'a [String],
    /// `--workers`.
    pub workers: Option<usize>,
    /// `--access-log`: `json` or `combined`; off without it.
    pub access_log: Option<&'a str>,
    /// `--cache`: its profile.
    pub cache: Option<&'a str>,
    /// `--cache-disk`: a directory, and a size.
    pub cache_disk: Option<(&'a str, &'a str)>,
    /// `--tls`.
    pub tls: Option<QuickTls<'a>>,
}

/// `narthex proxy --tls`: HTTPS beside the plain address, with certificates of the internal authority.
#[derive(Debug, Clone, Default)]
pub struct QuickTls<'a> {
    /// `--https`, written as `--listen` is.
    pub listen: &'a str,
    /// `--name`, once or more, beside `localhost`.
    pub names: &'a [String],
    /// Where the authority is kept; the usual place without it.
    pub storage: Option<&'a str>,
}

impl Quick<'_> {
    /// The file that says the same.
    pub fn text(&self) -> String {
        let quoted = lower::text::quoted;
        let mut out = String::from("version 1\n");
        if let Some(workers) = self.workers {
            let _ = writeln!(out, "workers {workers}");
        }
        let _ = writeln!(
            out,
            "access-log {}",
            quoted(self.access_log.unwrap_or("off"))
        );
        if let Some((directory, size)) = self.cache_disk {
            let (directory, size) = (quoted(directory), quoted(size));
            let _ = writeln!(out, "cache {{ disk {directory} size={size} }}");
        }
        let _ = writeln!(out, "listen {}", quoted(&listen_address(self.listen)));
        let (mut hosts, mut source) = (String::new(), "");
        if let Some(tls) = &self.tls {
            let _ = writeln!(
                out,
                "listen {} {{ tls }}",
                quoted(&listen_address(tls.listen))
            );
            if let Some(storage) = tls.storage {
                let _ = writeln!(out, "acme {{ storage {} }}", quoted(storage));
            }
            hosts.push_str("\"localhost\" ");
            for name in tls.names.iter().filter(|name| *name != "localhost") {
                hosts.extend([&quoted(name), " "]);
            }
            source = "    tls \"internal\"\n";
        }
        let servers: Vec<String> = self
            .to
            .iter()
            .map(|to| quoted(&server_address(to)))
            .collect();
        let cache = self.cache.map_or(String::new(), |profile| {
            format!("    cache profile={}\n", quoted(profile))
        });
        let _ = writeln!(
            out,
            "site {hosts}\"*\" {{\n{source}{cache}    proxy {}\n}}",
            servers.join(" ")
        );
        out
    }
}

/// Builds the configuration of `narthex proxy`, by the same way as a file.
pub fn quick(quick: &Quick<'_>, env: &Environment<'_>) -> Loaded {
    load_text("command line", quick.text(), env)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && !text.starts_with('+')
}

fn listen_address(text: &str) -> String {
    match text.strip_prefix("localhost:") {
        Some(port) if is_port(port) => format!("127.0.0.1:{port}"),
        _ if is_port(text) => format!(":{text}"),
        _ => text.to_owned(),
    }
}

fn server_address(text: &str) -> String {
    let plain = text
        .strip_prefix("http://")
        .map_or(text, |rest| rest.trim_end_matches('/'));
    if plain != text && !plain.contains(':') {
        return format!("{plain}:80");
    }
    match plain.strip_prefix(':').unwrap_or(plain) {
        port if is_port(port) => format!("127.0.0.1:{port}"),
        _ => plain.to_owned(),
    }
}

//! Where the configuration comes from, read the same way at the start and at every reload.

use std::fmt;
use std::path::PathBuf;

use narthex_config::Environment;
use narthex_config::model::Config;
use narthex_config::problem::{Problem, render_human, render_json};
use narthex_config::source::{RealFiles, Sources};
use narthex_proxy::tls::Finding;

use crate::command::Refused;

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file (and what it includes).
    File(PathBuf),
    /// A text that was made here, with a name for messages.
    Text {
        /// Shown in messages.
        name: String,
        /// KDL.
        text: String,
    },
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// Warnings as a person reads them; may be empty.
    pub warnings: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text { name, .. } => f.write_str(name),
        }
    }
}

/// What loading gave, good or bad: the configuration if there is one, and what to say.
#[derive(Debug)]
pub struct Outcome {
    /// The configuration, unless there is an error.
    pub config: Option<Config>,
    /// Errors and warnings as a person reads them; empty when there is none.
    pub human: String,
    /// The same for machines.
    pub machine: serde_json::Value,
    /// Could the file be read at all?
    pub readable: bool,
}

impl Source {
    /// Reads and checks it, and tells all.
    pub fn examine(&self) -> Outcome {
        let var = |name: &str| std::env::var(name).ok();
        let environment = Environment {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            var: &var,
            files: &RealFiles,
            unbuilt: false,
        };
        let (loaded, readable) = match self {
            Self::File(path) => (
                narthex_config::load(path, &environment),
                std::fs::File::open(path).is_ok(),
            ),
            Self::Text { name, text } => (
                narthex_config::load_text(name, text.as_str(), &environment),
                true,
            ),
        };
        let mut loaded = loaded;
        if let Some(config) = &loaded.config {
            let found = narthex_proxy::tls::examine(config);
            let fatal = found.iter().any(|f| f.fatal);
            let problems = found.iter().map(|f| problem(f, &loaded.sources));
            loaded.problems.extend(problems);
            if fatal {
                loaded.config = None;
            }
        }
        Outcome {
            human: if loaded.problems.is_empty() {
                String::new()
            } else {
                render_human(&loaded.problems, &loaded.sources)
            },
            machine: render_json(&loaded.problems, &loaded.sources),
            config: loaded.config,
            readable,
        }
    }

    /// Reads and checks it.
    pub fn load(&self) -> Result<Checked, Refused> {
        let outcome = self.examine();
        match outcome.config {
            Some(config) => Ok(Checked {
                config,
                warnings: outcome.human,
            }),
            None => Err(Refused {
                problems: outcome.human,
                details: outcome.machine,
            }),
        }
    }
}

/// What is wrong with a file of TLS, where it was written.
fn problem(found: &Finding, sources: &Sources) -> Problem {
    let span = sources
        .line_span(&found.origin.file, found.origin.line)
        .unwrap_or_default();
    let what = match &found.problem.path {
        Some(path) => format!("{}: {}", path.display(), found.problem.what),
        None => found.problem.what.clone(),
    };
    let problem = if found.fatal {
        Problem::error("bad-certificate", span, what)
    } else {
        Problem::warning("certificate-date", span, what)
    };
    problem.with_help(found.problem.remedy.clone())
}

/// A configuration with every default that applies, as KDL. Secrets are shown by reference.
pub fn effective(config: &Config) -> String {
    narthex_config::effective::render(config)
}

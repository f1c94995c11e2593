//! The configuration: never a panic, every problem has a place, formatting is a fixed point, and the effective configuration
//! of what is accepted is accepted.

use std::path::PathBuf;

use narthex_config::problem::{Severity, render_human, render_json};
use narthex_config::source::{FileId, MemoryFiles};
use narthex_config::{Environment, load_text, syntax};

/// The target.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut problems = Vec::new();
    let _ = syntax::parse(FileId(0), text, &mut problems);
    for problem in &problems {
        assert!((problem.span.end as usize) <= text.len(), "{problem:?}");
        assert!(problem.span.start <= problem.span.end, "{problem:?}");
    }
    if problems.is_empty() {
        formatted(text);
    }
    for name in ["fuzz.kdl", "fuzz.json"] {
        loaded(name, text);
    }
}

fn formatted(text: &str) {
    let once = syntax::format(text).unwrap_or_else(|p| panic!("parses and isn't formatted: {p:?}"));
    let twice = syntax::format(&once).unwrap_or_else(|p| panic!("formatted, and broken: {p:?}"));
    assert_eq!(once, twice, "formatting is not a fixed point");
}

fn loaded(name: &str, text: &str) {
    let files = MemoryFiles::new(Vec::<(PathBuf, Vec<u8>)>::new());
    let env = Environment {
        cores: 2,
        var: &|name| (name == "SET").then(|| "value".to_owned()),
        files: &files,
        unbuilt: true,
    };
    let loaded = load_text(name, text, &env);
    assert_eq!(
        loaded.config.is_none(),
        loaded.has(Severity::Error),
        "an error and a configuration, or neither"
    );
    let _ = render_human(&loaded.problems, &loaded.sources);
    let _ = render_json(&loaded.problems, &loaded.sources);
    for problem in &loaded.problems {
        let (line, column) = loaded.sources.line_col(problem.span);
        assert!(line > 0 && column > 0, "{problem:?}");
    }
    if let Some(config) = &loaded.config {
        let effective = narthex_config::effective::render(config);
        let again = load_text("effective.kdl", effective.as_str(), &env);
        assert!(
            again.config.is_some(),
            "the effective configuration is refused:\n{}\n{effective}",
            render_human(&again.problems, &again.sources)
        );
    }
}

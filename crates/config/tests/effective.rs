//! The effective configuration is a file that loads to the same model.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by failing
#![allow(clippy::format_collect)] // short texts

mod common;

use common::{environment, lines, read};
use narthex_config::model::{Config, Origin};
use narthex_config::{effective, load_text};

/// The model without the places it came from.
fn placeless(mut config: Config) -> Config {
    for listener in &mut config.listeners {
        listener.origin = Origin::default();
    }
    for upstream in &mut config.upstreams {
        upstream.origin = Origin::default();
    }
    for site in &mut config.sites {
        site.origin = Origin::default();
        for route in &mut site.routes {
            route.origin = Origin::default();
        }
    }
    config
}

fn check(name: &str, config: Config) {
    let text = effective::render(&config);
    let again = environment(|env| load_text("narthex.kdl", text.clone(), env));
    let Some(reloaded) = again.config else {
        panic!("{name}: {}\n{text}", lines(&again))
    };
    assert_eq!(placeless(config), placeless(reloaded), "{name}:\n{text}");
    assert_eq!(
        text,
        effective::render(&placeless_again(&text)),
        "{name}: rendering is not a fixed point"
    );
    assert_eq!(
        narthex_config::syntax::format(&text).unwrap_or_else(|_| panic!("{name}: not formatted")),
        text,
        "{name}: not canonical"
    );
}

fn placeless_again(text: &str) -> Config {
    read(text).config.unwrap()
}

#[test]
fn every_good_file_survives() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for directory in [root.join("tests/golden"), root.join("../../examples")] {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "kdl") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let input = text.split("// ---- expect").next().unwrap();
            if let Some(config) = read(input).config {
                check(&path.display().to_string(), config);
                count += 1;
            }
        }
    }
    assert!(count >= 30, "only {count} files with a model");
}

#[test]
fn secrets_stay_references() {
    let text = "version 1\nadmin \"0.0.0.0:9180\" token=\"env:TOKEN\"\nlisten \":80\"\nsite \"*\" { proxy \"127.0.0.1:1\" }";
    let loaded = read(text);
    let config = loaded.config.unwrap();
    assert_eq!(
        config.admin[0].token.as_ref().unwrap().expose(),
        "hunter2-from-env"
    );
    let shown = format!(
        "{}{}{config:?}",
        effective::render(&config),
        effective::json(&config)
    );
    assert!(shown.contains("env:TOKEN"));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_secret_written_itself_is_not_shown() {
    let text = "version 1\nadmin \"0.0.0.0:80000\" token=\"hunter2\" mdoe=\"0600\"\nsite \"*\" { proxy \"a\" }";
    let loaded = read(text);
    let (problems, sources) = (&loaded.problems, &loaded.sources);
    let human = narthex_config::problem::render_human(problems, sources);
    let machine = narthex_config::problem::render_json(problems, sources);
    assert!(human.contains("by reference"), "{human}");
    assert!(
        !format!("{human}{machine:?}").contains("hunter2"),
        "{human}"
    );
}

//! The examples of the repository load.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by failing
#![allow(clippy::format_collect)] // short texts

mod common;

use common::{environment, lines};
use narthex_config::{Quick, QuickTls, load_text, quick};

#[test]
fn examples_load_without_a_word() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "kdl") {
            let text = std::fs::read_to_string(&path).unwrap();
            let loaded = environment(|env| load_text("narthex.kdl", text, env));
            assert!(
                loaded.problems.is_empty(),
                "{}:\n{}",
                path.display(),
                lines(&loaded)
            );
            assert!(loaded.config.is_some());
            count += 1;
        }
    }
    assert!(count >= 2);
}

#[test]
fn quick_is_a_file() {
    let to = ["http://127.0.0.1:3000/".to_owned(), "3001".to_owned()];
    let loaded = environment(|env| {
        quick(
            &Quick {
                listen: "8080",
                to: &to,
                workers: Some(2),
                access_log: Some("json"),
                cache: Some("safe"),
                cache_disk: Some(("/var/cache/narthex", "1GiB")),
                tls: None,
            },
            env,
        )
    });
    assert!(loaded.problems.is_empty(), "{}", lines(&loaded));
    let config = loaded.config.unwrap();
    assert_eq!(
        (config.workers, config.listeners[0].name.as_str()),
        (2, ":8080")
    );
    let servers: Vec<_> = config.upstreams[0]
        .servers
        .iter()
        .map(|s| s.name.as_str())
        .collect();
    assert_eq!(servers, ["127.0.0.1:3000", "127.0.0.1:3001"]);
    assert_eq!(config.access_logs.len(), 1);
    assert_eq!(config.cache.disk.map(|disk| disk.size), Some(1 << 30));
}

#[test]
fn quick_with_tls_is_a_file() {
    let names = ["localhost".to_owned(), "a.test".to_owned()];
    let quick = Quick {
        listen: ":8080",
        to: &["3000".to_owned()],
        tls: Some(QuickTls {
            listen: "8443",
            names: &names,
            storage: Some("/state"),
        }),
        ..Quick::default()
    };
    assert_eq!(
        quick.text(),
        "version 1\naccess-log \"off\"\nlisten \":8080\"\nlisten \":8443\" { tls }\n\
         acme { storage \"/state\" }\n\
         site \"localhost\" \"a.test\" \"*\" {\n    tls \"internal\"\n    proxy \"127.0.0.1:3000\"\n}\n"
    );
    let loaded = environment(|env| narthex_config::quick(&quick, env));
    assert!(loaded.problems.is_empty(), "{}", lines(&loaded));
}

#[test]
fn quick_without_a_log_has_none() {
    let loaded = environment(|env| {
        quick(
            &Quick {
                listen: ":8080",
                to: &["127.0.0.1:1".to_owned()],
                ..Quick::default()
            },
            env,
        )
    });
    let config = loaded.config.unwrap();
    assert_eq!(
        (
            config.workers,
            config.sites[0].access_log,
            config.access_logs.len()
        ),
        (4, None, 0)
    );
}

#[test]
fn quick_says_what_is_wrong() {
    let loaded = environment(|env| {
        quick(
            &Quick {
                listen: ":8080",
                to: &["https://x".to_owned()],
                ..Quick::default()
            },
            env,
        )
    });
    assert!(loaded.config.is_none());
    assert!(
        lines(&loaded).contains("TLS to servers is not built yet"),
        "{}",
        lines(&loaded)
    );
}

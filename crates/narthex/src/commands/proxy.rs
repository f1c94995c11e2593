//! `narthex proxy`: the five-second use.

use narthex_config::Quick;
use narthex_engine::Source;

use crate::args::{AccessLogArg, CacheArg, ProxyArgs};
use crate::exit::{Exit, say};
use crate::serve::{Serve, serve};

/// Serves what the command line says.
pub fn run(args: &ProxyArgs) -> Exit {
    let text = text(args);
    if args.print {
        say(text);
        return Exit::Ok;
    }
    let source = Source::Text {
        name: "the command line".to_owned(),
        text,
    };
    serve(Serve {
        source,
        default_admin: false,
        upgradable: true,
        welcome: None,
        log_level: None,
    })
}

/// The file that says the same.
fn text(args: &ProxyArgs) -> String {
    let quick = Quick {
        listen: &args.listen,
        to: &args.to,
        workers: args.workers.map(usize::from),
        access_log: match args.access_log {
            AccessLogArg::Json => Some("json"),
            AccessLogArg::Combined => Some("combined"),
            AccessLogArg::Off => None,
        },
        cache: args.cache.map(|profile| match profile {
            CacheArg::Safe => "safe",
            CacheArg::Rfc9111 => "rfc9111",
        }),
    };
    let mut text = quick.text();
    if let Some(admin) = &args.admin {
        text.extend(["admin ", &quoted(admin), "\n"]);
    }
    text
}

/// A KDL string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.extend(["\\u{", &format!("{:x}", u32::from(c)), "}"]),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(admin: Option<&str>) -> ProxyArgs {
        ProxyArgs {
            listen: "127.0.0.1:8080".to_owned(),
            to: vec!["127.0.0.1:3000".to_owned(), "127.0.0.1:3001".to_owned()],
            workers: Some(2),
            access_log: AccessLogArg::Json,
            admin: admin.map(str::to_owned),
            cache: None,
            print: false,
        }
    }

    #[test]
    fn the_text_is_a_configuration() {
        let source = Source::Text {
            name: "test".to_owned(),
            text: text(&args(Some("127.0.0.1:9180"))),
        };
        let outcome = source.examine();
        let config = outcome
            .config
            .unwrap_or_else(|| panic!("{}", outcome.human));
        assert_eq!(
            (config.workers, config.listeners.len(), config.admin.len()),
            (2, 1, 1)
        );
        assert_eq!(
            config
                .upstreams
                .iter()
                .map(|u| u.servers.len())
                .sum::<usize>(),
            2
        );
    }

    #[test]
    fn an_address_cannot_add_to_the_text() {
        let source = Source::Text {
            name: "test".to_owned(),
            text: text(&args(Some("x\"\nlisten \":1"))),
        };
        assert!(source.examine().config.is_none());
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u{a}\"");
    }
}

//! `narthex proxy`: the five-second use.

use std::fmt::Write as _;
use std::path::PathBuf;

use narthex_config::{Quick, QuickTls};
use narthex_engine::Source;

use crate::args::{AccessLogArg, CacheArg, ProxyArgs};
use crate::exit::{Exit, complain, say};
use crate::serve::{Serve, serve};

/// Serves what the command line says.
pub fn run(args: &ProxyArgs) -> Exit {
    let storage = match storage(args) {
        Ok(storage) => storage,
        Err(why) => {
            complain(why);
            return Exit::Usage;
        }
    };
    let disk = match args.cache_disk.as_deref().map(cache_disk).transpose() {
        Ok(disk) => disk,
        Err(why) => {
            complain(why);
            return Exit::Usage;
        }
    };
    let text = text(args, storage.as_deref(), disk.as_ref());
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
        // Standard output is the access log's.
        hint: args
            .tls
            .then(|| welcome(args, storage.as_deref().unwrap_or(USUAL_STORAGE))),
        log_level: None,
    })
}

/// Where `acme` keeps what it has when nobody says.
const USUAL_STORAGE: &str = "/var/lib/narthex";

/// Where the authority is kept; `None`: at the usual place, or there is none.
fn storage(args: &ProxyArgs) -> Result<Option<String>, String> {
    if !args.tls {
        return Ok(None);
    }
    let chosen = match &args.storage {
        Some(written) => std::path::absolute(written)
            .map_err(|error| format!("--storage {}: {error}", written.display()))?,
        None if is_root() => return Ok(None),
        None => {
            let set = |name| {
                std::env::var_os(name)
                    .filter(|v| !v.is_empty())
                    .map(PathBuf::from)
            };
            let base = set("XDG_STATE_HOME")
                .filter(|path| path.is_absolute())
                .or_else(|| set("HOME").map(|home| home.join(".local/state")));
            base.ok_or("where should the authority of --tls be kept? add --storage DIRECTORY")?
                .join("narthex")
        }
    };
    match chosen.into_os_string().into_string() {
        Ok(text) => Ok(Some(text)),
        Err(path) => Err(format!(
            "{} is no text: name another directory with --storage",
            path.display()
        )),
    }
}

/// What is kept on disk when nobody says.
const USUAL_SIZE: &str = "10GiB";

/// `--cache-disk`: a directory, whole, and a size.
fn cache_disk(written: &str) -> Result<(String, String), String> {
    let (directory, size) = match written.rsplit_once(':') {
        Some((directory, size)) if size.starts_with(|c: char| c.is_ascii_digit()) => {
            (directory, size)
        }
        _ => (written, USUAL_SIZE),
    };
    let whole = std::path::absolute(directory)
        .map_err(|error| format!("--cache-disk {directory}: {error}"))?;
    Ok((whole.to_string_lossy().into_owned(), size.to_owned()))
}

/// Whose home would be root's is a service: it keeps its things where the files' do.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// What is served, and how clients come to believe it.
fn welcome(args: &ProxyArgs, storage: &str) -> String {
    let https = url("https", &args.https);
    let mut out = format!("serving {https}  (HTTP/1.1 and HTTP/2");
    for name in &args.names {
        out.extend([", ", name]);
    }
    out.push_str(")\n");
    if !args.listen.starts_with("unix:") {
        let http = url("http", &args.listen);
        let _ = writeln!(
            out,
            "    and {http}  (HTTP/1.1, and HTTP/2 by prior knowledge)"
        );
    }
    let _ = write!(
        out,
        "Its authority is this machine's own. Clients trust it by its root:\n\
         \x20   narthex trust --storage {0} > narthex.pem\n\
         \x20   curl --cacert narthex.pem {https}\n",
        shell(storage)
    );
    out
}

/// The address as a client on this machine writes it. Certificates are for names, so it is a name.
fn url(scheme: &str, listen: &str) -> String {
    let port = listen.rsplit_once(':').map_or(listen, |(_, port)| port);
    let usual = if scheme == "https" { "443" } else { "80" };
    if port == usual {
        format!("{scheme}://localhost/")
    } else {
        format!("{scheme}://localhost:{port}/")
    }
}

/// One word for a shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The file that says the same.
fn text(args: &ProxyArgs, storage: Option<&str>, disk: Option<&(String, String)>) -> String {
    let to: Vec<String> = args.servers.iter().chain(&args.to).cloned().collect();
    let quick = Quick {
        listen: &args.listen,
        to: &to,
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
        cache_disk: disk.map(|(directory, size)| (directory.as_str(), size.as_str())),
        tls: args.tls.then(|| QuickTls {
            listen: &args.https,
            names: &args.names,
            storage,
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
            servers: Vec::new(),
            listen: "127.0.0.1:8080".to_owned(),
            tls: false,
            https: ":8443".to_owned(),
            names: Vec::new(),
            storage: None,
            to: vec!["127.0.0.1:3000".to_owned(), "127.0.0.1:3001".to_owned()],
            workers: Some(2),
            access_log: AccessLogArg::Json,
            admin: admin.map(str::to_owned),
            cache: None,
            cache_disk: None,
            print: false,
        }
    }

    #[test]
    fn the_text_is_a_configuration() {
        let source = Source::Text {
            name: "test".to_owned(),
            text: text(&args(Some("127.0.0.1:9180")), None, None),
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
            text: text(&args(Some("x\"\nlisten \":1")), None, None),
        };
        assert!(source.examine().config.is_none());
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u{a}\"");
    }

    #[test]
    fn a_cache_on_disk_has_a_directory_and_a_size() {
        let read = |written| cache_disk(written).unwrap();
        let whole = |directory: &str, size: &str| (directory.to_owned(), size.to_owned());
        assert_eq!(read("/a/b:5GiB"), whole("/a/b", "5GiB"));
        assert_eq!(read("/a:b"), whole("/a:b", USUAL_SIZE));
        let (directory, _) = read("here");
        assert!(directory.starts_with('/') && directory.ends_with("/here"));
        let args = ProxyArgs {
            cache: Some(CacheArg::Safe),
            ..args(None)
        };
        let source = Source::Text {
            name: "test".to_owned(),
            text: text(&args, None, Some(&whole("/a", "5GiB"))),
        };
        let config = source.examine().config.unwrap();
        assert_eq!(config.cache.disk.unwrap().size, 5 << 30);
    }

    #[test]
    fn https_beside_the_plain_address() {
        let args = ProxyArgs {
            tls: true,
            names: vec!["app.test".to_owned()],
            servers: vec!["3000".to_owned()],
            to: Vec::new(),
            ..args(None)
        };
        let source = Source::Text {
            name: "test".to_owned(),
            text: text(&args, Some("/x y"), None),
        };
        let outcome = source.examine();
        let config = outcome
            .config
            .unwrap_or_else(|| panic!("{}", outcome.human));
        let tls: Vec<bool> = config.listeners.iter().map(|l| l.tls.is_some()).collect();
        assert_eq!(tls, [false, true]);
        assert_eq!(config.acme.storage, PathBuf::from("/x y"));
        assert_eq!(config.sites[0].hosts.len(), 3);
        let said = welcome(&args, "/x y");
        for part in [
            "https://localhost:8443/",
            "http://localhost:8080/",
            "trust --storage '/x y'",
            "app.test",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(url("https", "[::1]:443"), "https://localhost/");
        assert_eq!(shell("it's"), "'it'\\''s'");
    }
}

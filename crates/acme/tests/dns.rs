//! Names proven by DNS: a real name server that takes signed updates (Debian: `bind9`), and a program.

#![allow(clippy::unwrap_used)] // helpers of tests may end them

mod kit;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use kit::*;
use narthex_acme::challenge::dns01::Writer;
use narthex_acme::challenge::{Algorithm, Kind, Tsig};
use narthex_acme::encoding::base64;
use narthex_e2e::kit::pebble::{Running, listening};
use narthex_e2e::kit::proxy::free_port;

const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgbG9uZyBlbm91Z2g=";

/// A primary of `a.example` and `sub.a.example` that takes updates signed with the key `narthex`.
struct Named {
    addr: SocketAddr,
    _dir: tempfile::TempDir,
    _process: Running,
}

/// What it says, in short.
fn dig(port: u16, kind: &str, name: &str) -> String {
    let port = port.to_string();
    let said = Command::new("dig")
        .args(["+short", "@127.0.0.1", "-p", &port, kind, name])
        .output()
        .unwrap();
    String::from_utf8(said.stdout).unwrap()
}

impl Named {
    fn start(algorithm: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let at = dir.path().display();
        for zone in ["a.example", "sub.a.example"] {
            let text = format!(
                "$TTL 60\n@ IN SOA ns.{zone}. ops.{zone}. 1 60 60 60 60\n@ IN NS ns.{zone}.\nns IN A 127.0.0.1\n"
            );
            std::fs::write(dir.path().join(zone), text).unwrap();
        }
        let zone = |name: &str| {
            format!(
                "zone \"{name}\" {{ type primary; file \"{at}/{name}\"; update-policy {{ grant narthex zonesub TXT; }}; }};\n"
            )
        };
        let config = format!(
            "options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             recursion no; pid-file none; session-keyfile none; dnssec-validation no; }};\n\
             controls {{ }};\n\
             key \"narthex\" {{ algorithm {algorithm}; secret \"{SECRET}\"; }};\n{}{}",
            zone("a.example"),
            zone("sub.a.example"),
        );
        let file = dir.path().join("named.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("named");
        command.arg("-f").arg("-c").arg(&file);
        let process = Running::start(&mut command, "bind9");
        listening(port);
        // It listens before it has loaded its zones.
        for zone in ["a.example", "sub.a.example"] {
            let begin = std::time::Instant::now();
            while dig(port, "SOA", zone).is_empty() {
                assert!(begin.elapsed() < LONG, "named does not load {zone}");
            }
        }
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            _dir: dir,
            _process: process,
        }
    }

    fn writer(&self, algorithm: Algorithm, secret: &str) -> Writer {
        Writer::Update {
            server: self.addr.to_string(),
            zone: None,
            tsig: Some(Tsig {
                name: "narthex".into(),
                algorithm,
                secret: base64(secret).unwrap(),
            }),
        }
    }
}

#[test]
fn wildcards_by_signed_updates() {
    let named = Named::start("hmac-sha256");
    let pebble = Pebble::start(Asked {
        strict: true,
        dns: Some(named.addr),
        ..Asked::default()
    });
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let names = [
        "a.example",
        "*.a.example",
        "*.sub.a.example",
        "deep.er.a.example",
    ];
    // Of the kinds that do not fit a wildcard none is tried for one.
    let kinds = [Kind::Dns01];
    let mut wanted = settings(
        vec![authority(&pebble)],
        names.map(|name| public(name, &kinds)).to_vec(),
    );
    wanted.wanted[1] = public(names[1], &[Kind::Http01, Kind::TlsAlpn01, Kind::Dns01]);
    wanted.dns = Some(named.writer(Algorithm::Sha256, SECRET));
    let keeper = Keeper::start(&store(&dir), &plane, wanted);
    for name in names {
        let stored = wait(name, &keeper, || plane.has(name));
        stored.ready(name).unwrap();
    }
    // Nothing stays behind.
    wait("the end", &keeper, || {
        let list = keeper.board.list();
        list.iter()
            .all(|e| e.expires.is_some() && e.failures == 0)
            .then_some(())
    });
    for name in ["a.example", "sub.a.example", "deep.er.a.example"] {
        let record = format!("_acme-challenge.{name}");
        let left = dig(named.addr.port(), "TXT", &record);
        assert_eq!(left, "", "{record}");
    }
}

#[tokio::test]
async fn every_hash_and_every_refusal() {
    let record = "_acme-challenge.a.example";
    for (name, algorithm) in [
        ("hmac-sha256", Algorithm::Sha256),
        ("hmac-sha384", Algorithm::Sha384),
        ("hmac-sha512", Algorithm::Sha512),
    ] {
        let named = Named::start(name);
        let writer = named.writer(algorithm, SECRET);
        writer.put(record, "value").await.unwrap();
        writer.take(record, "value").await.unwrap();
        writer.take(record, "value").await.unwrap();
    }
    let named = Named::start("hmac-sha256");
    let refused = |writer: Writer, record: &'static str| async move {
        writer.put(record, "value").await.unwrap_err().to_string()
    };
    let wrong = named.writer(Algorithm::Sha256, "d3Jvbmc=");
    let why = refused(wrong, record).await;
    assert!(why.contains("NOTAUTH") && why.contains("secret"), "{why}");
    let unsigned = Writer::Update {
        server: named.addr.to_string(),
        zone: Some("a.example".into()),
        tsig: None,
    };
    let why = refused(unsigned, record).await;
    assert!(why.contains("REFUSED"), "{why}");
    let right = named.writer(Algorithm::Sha256, SECRET);
    let why = refused(right, "_acme-challenge.b.test").await;
    assert!(why.contains("has no zone"), "{why}");
    let gone = Writer::Update {
        server: format!("127.0.0.1:{}", free_port()),
        zone: None,
        tsig: None,
    };
    let why = refused(gone, record).await;
    assert!(why.contains("Connection refused"), "{why}");
}

#[test]
fn a_wildcard_by_a_program() {
    let pebble = Pebble::start(Asked::default());
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("hook");
    let log = dir.path().join("log");
    let names = pebble.names();
    std::fs::write(
        &program,
        format!(
            "#!/bin/bash\nset -e\necho \"$1 $2\" >> {log}\n\
             if [ \"$1\" = add ]; then P=/set-txt; B=\"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\"; \
             else P=/clear-txt; B=\"{{\\\"host\\\":\\\"$2.\\\"}}\"; fi\n\
             exec 3<>/dev/tcp/127.0.0.1/{names}\n\
             printf 'POST %s HTTP/1.0\\r\\nContent-Length: %d\\r\\n\\r\\n%s' $P ${{#B}} \"$B\" >&3\ncat <&3 >/dev/null\n",
            log = log.display()
        ),
    )
    .unwrap();
    let mut wanted = settings(
        vec![authority(&pebble)],
        vec![public("*.a.example", &[Kind::Dns01])],
    );
    wanted.dns = Some(Writer::Program(vec![
        "/bin/bash".into(),
        program.display().to_string(),
    ]));
    let keeper = Keeper::start(&store(&dir), &plane, wanted);
    wait("a certificate", &keeper, || plane.has("*.a.example"));
    assert_eq!(
        std::fs::read_to_string(&log).unwrap(),
        "add _acme-challenge.a.example\nremove _acme-challenge.a.example\n"
    );
}

#[test]
fn a_wildcard_without_anybody_who_writes_records_says_so() {
    let pebble = Pebble::start(Asked::default());
    let plane = Arc::new(Plane::default());
    let dir = tempfile::tempdir().unwrap();
    let wanted = settings(
        vec![authority(&pebble)],
        vec![public("*.a.example", &[Kind::Http01])],
    );
    let keeper = Keeper::start(&store(&dir), &plane, wanted);
    let why = wait("a failure", &keeper, || {
        keeper.board.list().into_iter().find_map(|e| e.last_error)
    });
    assert_eq!(
        why,
        "*.a.example can be proven by dns-01 only, which is not set up"
    );
}

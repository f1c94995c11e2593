//! Sessions: where they open, and where they must not (TL-01).

use std::sync::Arc;

use proptest::prelude::*;
use rustls::ClientConfig;
use rustls::server::ProducesTickets;
use rustls::version::{TLS12, TLS13};

use super::kit::*;
use crate::tls::server::{ClientAuth, ClientCa, Policy, Profile, ServerTls, UnknownName};
use crate::tls::tickets::{KEYS, ROTATION_S, TicketKeys, Ticketer};

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn other_policy() -> Policy {
    Policy {
        alpn: vec![b"http/1.1".to_vec()],
        ..Policy::default()
    }
}

fn with_clients() -> Policy {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, &CA.pem).unwrap();
    Policy {
        clients: ClientAuth::Optional(ClientCa::load(&path, None).unwrap()),
        ..plain_policy()
    }
}

fn server(keys: &Arc<TicketKeys>, a: Policy, b: Policy) -> Server {
    let mut parts = parts(vec![("a.example", a), ("b.example", b)]);
    parts.tickets = Arc::clone(keys);
    Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo)
}

fn keys() -> Arc<TicketKeys> {
    TicketKeys::random(real_now_s(), ROTATION_S)
}

#[test]
fn a_session_is_resumed_on_every_core_and_after_a_reload() {
    let keys = keys();
    for version in VERSIONS {
        let config = Arc::new(client(Some(version)));
        let first = server(&keys, plain_policy(), plain_policy());
        assert!(!first.exchange(&config, "a.example").resumed);
        assert!(first.exchange(&config, "a.example").resumed);
        // Another core, with other tables.
        let second = server(&keys, plain_policy(), other_policy());
        assert!(second.exchange(&config, "a.example").resumed);
    }
}

#[test]
fn a_session_crosses_processes_with_its_keys_only() {
    for version in VERSIONS {
        let (old, new, stranger) = (keys(), keys(), keys());
        assert!(new.import(&old.export()));
        let config = Arc::new(client(Some(version)));
        let policy = plain_policy;
        server(&old, policy(), policy()).exchange(&config, "a.example");
        assert!(
            server(&new, policy(), policy())
                .exchange(&config, "a.example")
                .resumed
        );
        // What the new process has sealed opens in the old one.
        assert!(
            server(&old, policy(), policy())
                .exchange(&config, "a.example")
                .resumed
        );
        assert!(
            !server(&stranger, policy(), policy())
                .exchange(&config, "a.example")
                .resumed
        );
    }
}

/// A client that asks for `b.example` with the session that it got from `a.example`.
fn confused(config: &ClientConfig) -> Arc<ClientConfig> {
    #[derive(Debug)]
    struct OneName(Arc<rustls::client::ClientSessionMemoryCache>);
    use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
    use rustls::pki_types::ServerName;
    fn one() -> ServerName<'static> {
        "one.example".try_into().unwrap()
    }
    impl ClientSessionStore for OneName {
        fn set_kx_hint(&self, _: ServerName<'static>, group: rustls::NamedGroup) {
            self.0.set_kx_hint(one(), group);
        }
        fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
            self.0.kx_hint(&one())
        }
        fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
            self.0.set_tls12_session(one(), value);
        }
        fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
            self.0.tls12_session(&one())
        }
        fn remove_tls12_session(&self, _: &ServerName<'static>) {
            self.0.remove_tls12_session(&one());
        }
        fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
            self.0.insert_tls13_ticket(one(), value);
        }
        fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
            self.0.take_tls13_ticket(&one())
        }
    }
    let mut config = config.clone();
    let store = rustls::client::ClientSessionMemoryCache::new(8);
    config.resumption = rustls::client::Resumption::store(Arc::new(OneName(Arc::new(store))));
    Arc::new(config)
}

#[test]
fn a_session_of_one_name_or_policy_opens_nothing_elsewhere() {
    let keys = keys();
    for version in VERSIONS {
        for (a, b) in [
            (plain_policy(), plain_policy()),
            (plain_policy(), other_policy()),
            (plain_policy(), with_clients()),
            (with_clients(), plain_policy()),
        ] {
            let server = server(&keys, a, b);
            let config = confused(&client(Some(version)));
            server.exchange(&config, "a.example");
            assert!(server.exchange(&config, "a.example").resumed);
            assert!(!server.exchange(&config, "b.example").resumed);
        }
    }
}

#[test]
fn a_session_from_before_client_certificates_were_asked_for_opens_nothing() {
    let keys = keys();
    for version in VERSIONS {
        let config = Arc::new(client(Some(version)));
        server(&keys, plain_policy(), plain_policy()).exchange(&config, "a.example");
        let after = server(&keys, with_clients(), plain_policy());
        let made = after.exchange(&config, "a.example");
        assert!(!made.resumed);
        assert!(made.client.is_none());
    }
}

#[test]
fn policies_differ_by_everything_in_them() {
    let policies = [
        plain_policy(),
        other_policy(),
        with_clients(),
        Policy::default(),
        Policy {
            profile: Profile::Modern,
            ..plain_policy()
        },
        Policy {
            // The same bytes, cut in another place.
            alpn: vec![b"h2http/".to_vec(), b"1.1".to_vec()],
            ..Policy::default()
        },
    ];
    let mut ids: Vec<_> = policies.iter().map(|p| p.id().to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), policies.len());
    assert_eq!(plain_policy().id(), plain_policy().id());
}

#[test]
fn one_name_has_one_policy() {
    let both = vec![
        ("a.example", plain_policy()),
        ("A.example.", other_policy()),
    ];
    let problem = ServerTls::new(parts(both)).unwrap_err();
    assert!(
        problem.to_string().contains("two TLS policies"),
        "{problem}"
    );
    let tls = {
        let mut parts = parts(vec![
            ("*.example", plain_policy()),
            ("a.example", other_policy()),
        ]);
        parts.unknown_name = UnknownName::Default;
        ServerTls::new(parts).unwrap()
    };
    assert_eq!(tls.policy_of(Some("a.example")), Some(other_policy().id()));
    assert_eq!(
        tls.policy_of(Some("x.y.example")),
        Some(plain_policy().id())
    );
    assert_eq!(tls.policy_of(Some("example")), None);
    assert_eq!(tls.policy_of(None), None);
}

#[test]
fn keys_turn_and_are_forgotten() {
    let keys = TicketKeys::random(1_000_000, 100);
    let ticketer = Ticketer::new(Arc::clone(&keys), plain_policy().id());
    let ticket = ticketer.encrypt(b"session").unwrap();
    let opens = || ticketer.decrypt(&ticket).as_deref() == Some(b"session");
    assert!(!keys.advance(1_000_099));
    for turn in 1..KEYS as u64 {
        assert!(keys.advance(1_000_000 + turn * 100));
        assert!(opens());
    }
    assert!(keys.advance(1_000_000 + KEYS as u64 * 100));
    assert!(!opens());
    // A clock that is set back does not stop the ring for long.
    assert!(keys.advance(500));
}

#[test]
fn nodes_with_one_secret_open_each_others_tickets() {
    let secret = [7; 48];
    let (a, b) = (
        TicketKeys::shared(&secret, 1_000_050, 100).unwrap(),
        // Its clock is ahead, over the edge of a rotation.
        TicketKeys::shared(&secret, 1_000_120, 100).unwrap(),
    );
    let id = plain_policy().id();
    let (a, b) = (Ticketer::new(a, id), Ticketer::new(b, id));
    for (from, to) in [(&a, &b), (&b, &a)] {
        let ticket = from.encrypt(b"session").unwrap();
        assert_eq!(to.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    }
    let other = TicketKeys::shared(&[8; 48], 1_000_050, 100).unwrap();
    let ticket = a.encrypt(b"session").unwrap();
    assert_eq!(Ticketer::new(other, id).decrypt(&ticket), None);
    assert!(TicketKeys::shared(&[7; 31], 0, 100).is_err());
}

#[test]
fn what_is_imported_is_looked_at() {
    let keys = keys();
    let good = keys.export();
    for bad in [
        &[][..],
        &[1],
        &[2; 41],
        &good[..good.len() - 1],
        &[1; 1 + 4 * 40],
    ] {
        assert!(!keys.import(bad), "{} bytes", bad.len());
    }
    assert_eq!(keys.export(), good);
}

proptest! {
    #[test]
    fn hostile_tickets_open_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let ticketer = Ticketer::new(TicketKeys::random(0, 100), plain_policy().id());
        prop_assert_eq!(ticketer.decrypt(&bytes), None);
        // With the name of a real key too.
        let mut named = ticketer.encrypt(b"session").unwrap();
        named.truncate(16);
        named.extend_from_slice(&bytes);
        prop_assert_eq!(ticketer.decrypt(&named), None);
    }

    #[test]
    fn one_changed_bit_or_byte_less_and_it_stays_shut(
        session in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0..8u8,
    ) {
        let ticketer = Ticketer::new(TicketKeys::random(0, 100), plain_policy().id());
        let ticket = ticketer.encrypt(&session).unwrap();
        prop_assert_eq!(ticketer.decrypt(&ticket), Some(session));
        let mut changed = ticket.clone();
        let at = at.index(ticket.len());
        changed[at] ^= 1 << bit;
        prop_assert_eq!(ticketer.decrypt(&changed), None);
        prop_assert_eq!(ticketer.decrypt(&ticket[..at]), None);
    }
}

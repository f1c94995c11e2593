//! TLS to servers, and challenges of authorities.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::Poll;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::kit::*;
use crate::dial::{DialOptions, Target, dial};
use crate::rt::{now_ms, spawn, yield_now};
use crate::stream::Stream;
use crate::testing::{PATIENCE, on_core};
use crate::tls::challenges::{Challenges, MAX, Refused};
use crate::tls::client::{ClientTls, ClientTlsParts, Connected, Roots, connect};
use crate::tls::server::{Certificate, ServerTls};
use crate::tls::{ACME_TLS, HandshakeError};

fn bundle() -> (tempfile::TempDir, Roots) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, &CA.pem).unwrap();
    (dir, Roots::Bundle(path))
}

fn verified(change: impl FnOnce(&mut ClientTlsParts)) -> Arc<ClientTls> {
    let (_dir, roots) = bundle();
    let mut parts = ClientTlsParts {
        roots,
        alpn: vec![b"http/1.1".to_vec()],
        ..ClientTlsParts::default()
    };
    change(&mut parts);
    Arc::new(ClientTls::new(parts).unwrap())
}

async fn dialled(addr: SocketAddr) -> Stream {
    dial(&Target::Tcp(addr), &DialOptions::default())
        .await
        .unwrap()
}

/// One exchange from a core.
fn ask(addr: SocketAddr, tls: Arc<ClientTls>, name: &'static str) -> Result<Connected, String> {
    on_core(move || async move {
        let stream = dialled(addr).await;
        let (stream, connected) = match connect(stream, &tls, name, now_ms() + 10_000).await {
            Ok(done) => done,
            Err(e) => return Err(format!("{}: {e}", e.reason())),
        };
        stream.send_all(b"hello").await.map_err(|e| e.to_string())?;
        let mut got = [0; 16];
        let n = stream.recv(&mut got).await.map_err(|e| e.to_string())?;
        assert_eq!(&got[..n], b"hello");
        Ok(connected)
    })
}

#[test]
fn servers_are_verified() {
    let server = Server::echo();
    let addr = server.addr;
    let connected = ask(addr, verified(|_| {}), "a.example").unwrap();
    assert_eq!(connected.alpn.as_deref(), Some(&b"http/1.1"[..]));
    ask(addr, verified(|_| {}), "127.0.0.1").unwrap();
    // Somebody else's name, where the certificate does not change with the name.
    let wrong = ask(addr, verified(|_| {}), "127.0.0.2").unwrap_err();
    assert!(wrong.starts_with("certificate: "), "{wrong}");
    // Dialled by address, expected under its name.
    let named = verified(|parts| parts.name = Some("b.example".to_owned()));
    ask(addr, named, "10.1.2.3").unwrap();
    // Authorities of the system do not know ours.
    if let Ok(system) = ClientTls::new(ClientTlsParts::default()) {
        let unknown = ask(addr, Arc::new(system), "a.example").unwrap_err();
        assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    }
    let unsafe_one = verified(|parts| parts.roots = Roots::UnsafeNoVerify);
    ask(addr, unsafe_one, "127.0.0.2").unwrap();
}

#[test]
fn an_expired_certificate_is_refused() {
    let (cert, key) = CA.pem_for(&["a.example"], false, |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let expired = Certificate::from_pem(cert.as_bytes(), key.as_bytes(), None).unwrap();
    let parts = parts(vec![("a.example", plain_policy())]);
    let bundle = crate::tls::server::Bundle::new(vec![Arc::new(expired)]);
    parts.certificates.set(&[("a.example".to_owned(), bundle)]);
    let server = Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo);
    let refused = ask(server.addr, verified(|_| {}), "a.example").unwrap_err();
    assert!(refused.contains("certificate expired"), "{refused}");
    assert_eq!(server.result().unwrap_err().reason(), "peer-refused");
}

#[test]
fn sessions_with_servers_are_resumed() {
    let server = Server::echo();
    let tls = verified(|_| {});
    assert!(
        !ask(server.addr, Arc::clone(&tls), "a.example")
            .unwrap()
            .resumed
    );
    assert!(
        ask(server.addr, Arc::clone(&tls), "a.example")
            .unwrap()
            .resumed
    );
    // Not with the session of another name, nor with other settings.
    assert!(!ask(server.addr, tls, "b.example").unwrap().resumed);
    assert!(
        !ask(server.addr, verified(|_| {}), "a.example")
            .unwrap()
            .resumed
    );
}

#[test]
fn a_silent_server_meets_the_deadline_and_a_plain_one_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let tls = verified(|_| {});
    let silent = on_core(move || async move {
        let stream = dialled(addr).await;
        let deadline = now_ms() + 100;
        connect(stream, &tls, "a.example", deadline)
            .await
            .unwrap_err()
    });
    assert!(matches!(silent, HandshakeError::Deadline));
    let plain = std::thread::spawn(move || {
        // The first one is the silent one's.
        drop(listener.accept().unwrap());
        let (mut socket, _) = listener.accept().unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let failed = ask(addr, verified(|_| {}), "a.example").unwrap_err();
    assert!(failed.starts_with("protocol: "), "{failed}");
    plain.join().unwrap();
}

/// A server that is asked to send something after the handshake, by hand.
fn by_hand(
    tickets: usize,
) -> (
    SocketAddr,
    mpsc::Receiver<StreamOwned<ServerConnection, TcpStream>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let key = CA.certificate(&["a.example"], false);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(crate::tls::provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(
                key.key(),
            ))));
        config.send_tls13_tickets = tickets;
        let (mut socket, _) = listener.accept().unwrap();
        let mut conn = ServerConnection::new(Arc::new(config)).unwrap();
        while conn.is_handshaking() {
            conn.complete_io(&mut socket).unwrap();
        }
        tell.send(StreamOwned::new(conn, socket)).unwrap();
    });
    (addr, told)
}

async fn connected(addr: SocketAddr, tls: &ClientTls) -> Stream {
    let stream = dialled(addr).await;
    let done = connect(stream, tls, "a.example", now_ms() + 10_000).await;
    done.unwrap().0
}

#[test]
fn tickets_that_come_while_a_connection_is_idle_are_no_data() {
    let (addr, told) = by_hand(4);
    let tls = verified(|_| {});
    let (tell, idle) = mpsc::channel();
    let peer = std::thread::spawn(move || {
        // Its tickets have been sent, as a part of the handshake.
        let mut peer = told.recv_timeout(PATIENCE).unwrap();
        idle.recv_timeout(PATIENCE).unwrap();
        peer.write_all(b"x").unwrap();
        peer.flush().unwrap();
        idle.recv_timeout(PATIENCE).unwrap();
    });
    on_core(move || async move {
        let stream = connected(addr, &tls).await;
        // The tickets come in one segment or several; either way they are nothing.
        for _ in 0..3 {
            assert!(stream.is_quiet());
            assert!(stream.is_idle());
        }
        tell.send(()).unwrap();
        let mut got = [0; 4];
        loop {
            stream.readable().await;
            if !stream.is_idle() {
                break;
            }
        }
        assert!(!stream.is_quiet());
        assert_eq!(stream.try_peek(&mut got).unwrap(), 1);
        stream.seen();
        assert!(!stream.is_readable());
        stream.unseen();
        assert!(stream.is_readable());
        assert_eq!(stream.try_recv(&mut got).unwrap(), 1);
        assert_eq!(got[0], b'x');
        assert!(stream.is_quiet());
        tell.send(()).unwrap();
    });
    peer.join().unwrap();
}

#[test]
fn a_watcher_hears_of_data_after_what_was_none() {
    let (addr, told) = by_hand(1);
    let tls = verified(|_| {});
    let (tell, go) = mpsc::channel();
    let peer = std::thread::spawn(move || {
        let mut peer = told.recv_timeout(PATIENCE).unwrap();
        for _ in 0..3 {
            go.recv_timeout(PATIENCE).unwrap();
            peer.conn.refresh_traffic_keys().unwrap();
            peer.conn.complete_io(&mut peer.sock).unwrap();
        }
        go.recv_timeout(PATIENCE).unwrap();
        peer.write_all(b"x").unwrap();
        peer.flush().unwrap();
        go.recv_timeout(PATIENCE).unwrap();
    });
    on_core(move || async move {
        let stream = connected(addr, &tls).await;
        let stream = Rc::new(stream);
        let woken = Rc::new(Cell::new(0));
        let (seen, watched) = (Rc::clone(&woken), Rc::clone(&stream));
        let watcher = spawn(poll_fn(move |_| {
            seen.set(seen.get() + 1);
            if watched.is_idle() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        }));
        while woken.get() == 0 {
            yield_now().await;
        }
        assert!(stream.is_quiet());
        stream.watch(watcher);
        for _ in 0..4 {
            let before = woken.get();
            tell.send(()).unwrap();
            // Others' data, and what is none: each wakes the watcher, which looks and waits on.
            while woken.get() == before {
                yield_now().await;
            }
        }
        assert!(!stream.is_quiet());
        tell.send(()).unwrap();
    });
    peer.join().unwrap();
}

#[test]
fn a_closed_idle_connection_is_not_quiet() {
    let (addr, told) = by_hand(2);
    let tls = verified(|_| {});
    let peer = std::thread::spawn(move || {
        let mut peer = told.recv_timeout(PATIENCE).unwrap();
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        // Open below, closed above.
        let _ = peer.sock.read(&mut [0; 64]);
    });
    on_core(move || async move {
        let stream = connected(addr, &tls).await;
        while stream.is_idle() {
            stream.readable().await;
        }
        assert!(!stream.is_quiet());
        assert!(stream.is_read_ended());
        assert_eq!(stream.try_recv(&mut [0; 4]).unwrap(), 0);
    });
    peer.join().unwrap();
}

#[test]
fn an_authority_is_shown_its_proof_and_nobody_else() {
    let parts = parts(vec![("a.example", plain_policy())]);
    let challenges = Arc::clone(&parts.challenges);
    let server = Server::start(Arc::new(ServerTls::new(parts).unwrap()), echo);
    let proof = CA.certificate(&["new.example"], false);
    let now = real_now_s();
    challenges
        .put_alpn("New.example", proof.key(), now, now + 60)
        .unwrap();
    let mut authority = client(None);
    authority.alpn_protocols = vec![ACME_TLS.to_vec()];
    let authority = Arc::new(authority);
    let mut client = server.tls(&authority, "new.example");
    let (got, end) = read_to_end(&mut client);
    assert!(got.is_empty());
    end.unwrap();
    let shown = client.conn.peer_certificates().unwrap();
    assert_eq!(shown[0], proof.key().cert[0]);
    let answered = server.result().unwrap_err();
    assert!(matches!(answered, HandshakeError::Challenge(name) if name == "new.example"));
    // Another name, a live site, and the same name without acme-tls/1.
    for (config, name, reason) in [
        (&authority, "other.example", "unknown-name"),
        (&authority, "a.example", "alpn"),
        (
            &Arc::new(super::kit::client(None)),
            "new.example",
            "unknown-name",
        ),
    ] {
        server.tls(config, name).write_all(b"x").unwrap_err();
        assert_eq!(server.result().unwrap_err().reason(), reason);
    }
    challenges.remove_alpn("new.example");
    server
        .tls(&authority, "new.example")
        .write_all(b"x")
        .unwrap_err();
    assert_eq!(server.result().unwrap_err().reason(), "unknown-name");
}

#[test]
fn answers_are_for_one_host_and_one_token_and_for_a_time() {
    let challenges = Challenges::new();
    assert!(challenges.is_empty());
    challenges
        .put_http("A.example.", "token", "token.key", 100, 200)
        .unwrap();
    assert_eq!(
        challenges.http("a.example", "token", 199).as_deref(),
        Some("token.key")
    );
    assert_eq!(challenges.http("a.example", "token", 200), None);
    assert_eq!(challenges.http("b.example", "token", 150), None);
    assert_eq!(challenges.http("a.example", "token2", 150), None);
    let long = "x".repeat(513);
    assert_eq!(
        challenges.put_http("a.example", &long, "y", 100, 200),
        Err(Refused::TooLong)
    );
    challenges.remove_http("a.example", "token");
    assert!(challenges.is_empty());
}

#[test]
fn there_is_a_bound_on_answers_and_old_ones_make_room() {
    let challenges = Challenges::new();
    let table: Vec<(String, String, String)> = (0..MAX)
        .map(|i| ("a.example".to_owned(), format!("t{i}"), "answer".to_owned()))
        .collect();
    challenges.put_http_all(&table, 100, 200).unwrap();
    let one_more = |now| challenges.put_http("a.example", "more", "answer", now, 900);
    assert_eq!(one_more(199), Err(Refused::Full));
    assert_eq!(one_more(200), Ok(()));
}

/// Passes on what it gets, one byte at a time.
fn crumble(mut from: TcpStream, mut to: TcpStream) {
    let mut buf = [0; 4096];
    while let Ok(n) = from.read(&mut buf) {
        if n == 0 {
            break;
        }
        for byte in &buf[..n] {
            if to.write_all(std::slice::from_ref(byte)).is_err() {
                return;
            }
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn both_sides_get_everything_byte_by_byte() {
    let server = Server::echo();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let far = server.connect();
    std::thread::spawn(move || {
        let near = listener.accept().unwrap().0;
        near.set_nodelay(true).unwrap();
        let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
        std::thread::spawn(move || crumble(back.0, back.1));
        crumble(near, far);
    });
    let tls = verified(|_| {});
    let got = on_core(move || async move {
        let stream = connected(addr, &tls).await;
        stream.send_all(&noise(20_000)).await.unwrap();
        stream.shutdown_write();
        let (mut all, mut buf) = (Vec::new(), [0; 1_000]);
        loop {
            match stream.recv(&mut buf).await.unwrap() {
                0 => return all,
                n => all.extend_from_slice(&buf[..n]),
            }
        }
    });
    assert!(got == noise(20_000));
}

//! Bytes through a stream that encrypts.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::version::{TLS12, TLS13};

use super::kit::*;
use crate::stream::Stream;
use crate::testing::PATIENCE;

const MUCH: usize = 10 * 1024 * 1024;

fn small() -> Limits {
    Limits {
        send_buffer: Some(4 * 1024),
        ..Limits::default()
    }
}

#[test]
fn ten_mebibytes_both_ways_through_a_tiny_send_buffer() {
    for version in [&TLS12, &TLS13] {
        let server = Server::limited(server_tls(), small(), echo);
        let mut client = server.tls(&Arc::new(client(Some(version))), "a.example");
        client.conn.complete_io(&mut client.sock).unwrap();
        let sent = noise(MUCH);
        let mut got = Vec::new();
        for block in sent.chunks(200_000) {
            client.write_all(block).unwrap();
            client.flush().unwrap();
            let mut back = vec![0; block.len()];
            client.read_exact(&mut back).unwrap();
            got.extend(back);
        }
        assert!(got == sent, "what came back is not what was sent");
    }
}

/// Sends a head and a body together, as the proxy does, whatever is taken of them.
async fn send_two(stream: &Stream, mut head: &[u8], mut body: &[u8], unknown: &mut usize) {
    while head.len() + body.len() > 0 {
        match stream.try_send_two(head, body) {
            Ok(n) => {
                let of_head = n.min(head.len());
                head = &head[of_head..];
                body = &body[n - of_head..];
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                *unknown += 1;
                stream.writable().await;
            }
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn two_pieces_and_every_partial_send() {
    let (tell, told) = mpsc::channel();
    let server = Server::limited(server_tls(), small(), move |stream| {
        let tell = tell.clone();
        async move {
            let all = noise(MUCH);
            let (mut at, mut size, mut waits) = (0, 1, 0);
            while at < all.len() {
                let head = &all[at..(at + size).min(all.len())];
                let body = &all[at + head.len()..(at + head.len() + 3 * size).min(all.len())];
                send_two(&stream, head, body, &mut waits).await;
                at += head.len() + body.len();
                size = (size * 7 + 11) % 90_000 + 1;
            }
            stream.shutdown_write();
            tell.send(waits).unwrap();
            // Until everything has left.
            let mut buf = [0; 64];
            while stream.recv(&mut buf).await.is_ok_and(|n| n > 0) {}
        }
    });
    let mut client = server.tls(&Arc::new(client(None)), "a.example");
    client.conn.complete_io(&mut client.sock).unwrap();
    let (got, end) = read_to_end(&mut client);
    assert!(got == noise(MUCH), "{} of {MUCH} bytes", got.len());
    end.unwrap();
    assert!(
        told.recv_timeout(PATIENCE).unwrap() > 0,
        "no send was ever partial"
    );
}

/// What a server's task is told, one read after the other.
fn reads() -> (Server, mpsc::Receiver<Result<Vec<u8>, ErrorKind>>) {
    let (tell, told) = mpsc::channel();
    let server = Server::start(server_tls(), move |stream| {
        let tell = tell.clone();
        async move {
            let mut buf = [0; 7];
            loop {
                let got = stream.recv(&mut buf).await;
                let last = !matches!(got, Ok(n) if n > 0);
                let _ = tell.send(got.map(|n| buf[..n].to_vec()).map_err(|e| e.kind()));
                if last {
                    return;
                }
            }
        }
    });
    (server, told)
}

#[test]
fn a_small_buffer_gets_everything_and_then_the_end() {
    let (server, told) = reads();
    let mut client = server.tls(&Arc::new(client(None)), "a.example");
    client.write_all(b"0123456789abcdefghij").unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    let parts: Vec<_> = told.iter().take(4).collect();
    assert_eq!(
        parts,
        [
            Ok(b"0123456".to_vec()),
            Ok(b"789abcd".to_vec()),
            Ok(b"efghij".to_vec()),
            Ok(vec![])
        ]
    );
}

#[test]
fn an_end_without_close_notify_is_no_end() {
    let (server, told) = reads();
    let mut client = server.tls(&Arc::new(client(None)), "a.example");
    client.write_all(b"01234").unwrap();
    client.flush().unwrap();
    client.sock.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(b"01234".to_vec()));
    assert_eq!(
        told.recv_timeout(PATIENCE).unwrap(),
        Err(ErrorKind::UnexpectedEof)
    );
}

#[test]
fn a_record_that_was_tampered_with_is_fatal() {
    let (server, told) = reads();
    let mut client = server.tls(&Arc::new(client(None)), "a.example");
    client.write_all(b"01234").unwrap();
    client.flush().unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(b"01234".to_vec()));
    client.conn.writer().write_all(b"never").unwrap();
    let mut record = Vec::new();
    client.conn.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    client.sock.write_all(&record).unwrap();
    assert_eq!(
        told.recv_timeout(PATIENCE).unwrap(),
        Err(ErrorKind::InvalidData)
    );
    let (_, end) = read_to_end(&mut client);
    assert!(end.unwrap_err().to_string().contains("BadRecordMac"));
}

#[test]
fn dropping_says_close_notify() {
    let server = Server::start(server_tls(), |stream| async move {
        stream.send_all(b"bye").await.unwrap();
    });
    let mut client = server.tls(&Arc::new(client(None)), "a.example");
    let (got, end) = read_to_end(&mut client);
    assert_eq!(got, b"bye");
    end.unwrap();
}

#[test]
fn a_reset_says_nothing() {
    let server = Server::start(server_tls(), |stream| async move {
        stream.send_all(b"bye").await.unwrap();
        stream.reset_on_close();
    });
    let mut client = server.tls(&Arc::new(client(None)), "a.example");
    let (_, end) = read_to_end(&mut client);
    end.unwrap_err();
}

#[test]
fn key_updates_are_answered_and_bounded() {
    let server = Server::echo();
    let mut client = server.tls(&Arc::new(client(Some(&TLS13))), "a.example");
    let mut got = [0; 5];
    for _ in 0..100 {
        client.write_all(b"hello").unwrap();
        client.conn.refresh_traffic_keys().unwrap();
        client.write_all(b"again").unwrap();
        client.read_exact(&mut got).unwrap();
        client.read_exact(&mut got).unwrap();
    }
    // A flood of them, without anything in between, is no way to keep a core busy.
    let mut flood = Vec::new();
    for _ in 0..1_000 {
        client.conn.refresh_traffic_keys().unwrap();
        while client.conn.wants_write() {
            client.conn.write_tls(&mut flood).unwrap();
        }
    }
    let _ = client.sock.write_all(&flood);
    let (_, end) = read_to_end(&mut client);
    end.unwrap_err();
}

/// Records of TLS 1.3 as rustls would not make them: with nothing inside.
fn crumbs(client: Tls, n: u64) -> (TcpStream, Vec<u8>) {
    let (conn, socket) = client.into_parts();
    let (first, secrets) = conn.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        panic!("another suite");
    };
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
    let mut all = Vec::new();
    for number in first..first + n {
        let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
        for (to, from) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *to ^= from;
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let header = [23, 3, 3, 0, 17];
        let mut inner = vec![23];
        key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner)
            .unwrap();
        all.extend_from_slice(&header);
        all.extend_from_slice(&inner);
    }
    (socket, all)
}

#[test]
fn records_with_nothing_inside_are_few() {
    let (server, told) = reads();
    let mut config = client(Some(&TLS13));
    config.enable_secret_extraction = true;
    let config = Arc::new(config);
    for (n, expected) in [(30, ErrorKind::UnexpectedEof), (40, ErrorKind::InvalidData)] {
        let mut client = server.tls(&config, "a.example");
        client.write_all(b"01234").unwrap();
        client.flush().unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(b"01234".to_vec()));
        // Tickets are not read: what the client sends is counted from here.
        let (mut socket, bytes) = crumbs(client, n);
        socket.write_all(&bytes).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(expected));
    }
}

//! What an idle connection costs.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use rustls::version::{TLS12, TLS13};

use super::kit::*;
use crate::rt::now_ms;
use crate::stream::Stream;
use crate::testing::on_core;
use crate::tls::accept;
use crate::tls::stream::TlsStream;

#[test]
fn growth_must_be_a_decision() {
    // rustls's connection is most of it.
    assert!(
        size_of::<TlsStream>() <= 1_800,
        "{}",
        size_of::<TlsStream>()
    );
}

#[test]
fn an_idle_connection_owns_no_buffers() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(server_tls(), move |stream| {
        let tell = tell.clone();
        async move {
            let mut buf = [0; 100];
            let mut echoed = 0;
            while echoed < 300_005 {
                let n = stream.recv(&mut buf).await.unwrap();
                stream.send_all(&buf[..n]).await.unwrap();
                echoed += n;
            }
            // All that was announced has been read: the kernel need not be asked whether there is more.
            assert!(!stream.is_readable());
            tell.send(stream.buffered()).unwrap();
        }
    });
    for version in [&TLS12, &TLS13] {
        let mut client = server.tls(&Arc::new(client(Some(version))), "a.example");
        let mut got = vec![0; 30_000];
        for block in noise(300_000).chunks(got.len()) {
            client.write_all(block).unwrap();
            client.read_exact(&mut got).unwrap();
            assert!(got == block);
        }
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut got[..5]).unwrap();
        assert_eq!(told.recv_timeout(crate::testing::PATIENCE).unwrap(), 0);
    }
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Prints figures: `cargo test -p narthex-net --lib measured_1_3 -- --ignored --nocapture`, each alone in its process.
#[test]
#[ignore = "a measurement"]
fn measured_1_2() {
    measure(&TLS12);
}

#[test]
#[ignore = "a measurement"]
fn measured_1_3() {
    measure(&TLS13);
}

fn measure(version: &'static rustls::SupportedProtocolVersion) {
    const N: usize = 1_200;
    crate::limits::raise_nofile();
    let (give, given) = mpsc::channel::<OwnedFd>();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let config = Arc::new(client(Some(version)));
    let clients = std::thread::spawn(move || {
        let mut sockets = Vec::new();
        for _ in 0..N {
            let socket = std::net::TcpStream::connect(addr).unwrap();
            let ours = listener.accept().unwrap().0;
            ours.set_nonblocking(true).unwrap();
            ours.set_nodelay(true).unwrap();
            socket.set_nodelay(true).unwrap();
            give.send(ours.into()).unwrap();
            let mut tls = tls_over(socket, &config, "a.example");
            tls.write_all(b"hello").unwrap();
            tls.read_exact(&mut [0; 5]).unwrap();
            // The client's state goes, its socket stays.
            let (_, socket) = tls.into_parts();
            sockets.push(socket);
        }
        sockets
    });
    on_core(move || async move {
        let tls = server_tls();
        let mut all = Vec::with_capacity(N);
        let mut before = 0;
        for i in 0..N {
            let stream = Stream::new(given.recv().unwrap()).unwrap();
            let accepted = accept(stream, &[], &tls, now_ms() + 10_000, None).await;
            let (stream, _) = accepted.unwrap();
            let mut buf = [0; 16];
            let n = stream.recv(&mut buf).await.unwrap();
            stream.send_all(&buf[..n]).await.unwrap();
            all.push(stream);
            if i == N / 2 {
                before = resident();
            }
        }
        let each = (resident() - before) / (N - N / 2 - 1);
        println!(
            "{}: {each} bytes for each idle connection",
            version_name(version)
        );
    });
    drop(clients.join().unwrap());
}

fn version_name(version: &rustls::SupportedProtocolVersion) -> String {
    format!("{:?}", version.version)
}

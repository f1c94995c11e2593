//! Dialling over loopback.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use socket2::SockRef;

use super::*;
use crate::testing::on_core;

fn dialled(target: Target, options: DialOptions) -> io::Result<Vec<u8>> {
    on_core(move || async move {
        let stream = dial(&target, &options).await?;
        stream.send_all(b"ping").await?;
        let mut buf = [0; 16];
        let n = stream.recv(&mut buf).await?;
        Ok(buf[..n].to_vec())
    })
}

#[test]
fn tcp_with_every_option() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut socket, from) = listener.accept().unwrap();
        let mut buf = [0; 4];
        socket.read_exact(&mut buf).unwrap();
        socket.write_all(&buf).unwrap();
        from.ip()
    });
    let options = DialOptions {
        source: Some("127.0.0.9".parse().unwrap()),
        keepalive: Duration::from_secs(40),
        user_timeout: Duration::from_secs(9),
        mark: None,
    };
    assert_eq!(dialled(target, options).unwrap(), b"ping");
    assert_eq!(server.join().unwrap().to_string(), "127.0.0.9");
}

#[test]
fn options_are_on_the_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    on_core(move || async move {
        let options = DialOptions {
            keepalive: Duration::from_secs(40),
            user_timeout: Duration::from_secs(9),
            ..DialOptions::default()
        };
        let stream = dial(&target, &options).await.unwrap();
        let socket = SockRef::from(stream.socket().unwrap());
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(40)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(10)
        );
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(9))
        );
        let plain = dial(&target, &DialOptions::default()).await.unwrap();
        assert!(!SockRef::from(plain.socket().unwrap()).keepalive().unwrap());
    });
    drop(listener);
}

#[test]
fn refusals_are_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let kind = |target| dialled(target, DialOptions::default()).unwrap_err().kind();
    assert_eq!(kind(Target::Tcp(address)), io::ErrorKind::ConnectionRefused);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    assert_eq!(kind(Target::Unix(path.clone())), io::ErrorKind::NotFound);
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let full = on_core({
        let target = Target::Unix(path.clone());
        move || async move {
            let mut held = Vec::new();
            loop {
                match dial(&target, &DialOptions::default()).await {
                    Ok(stream) if held.len() < 10 => held.push(stream),
                    Ok(_) => panic!("a queue for none takes ten"),
                    Err(e) => return e.kind(),
                }
            }
        }
    });
    assert_eq!(full, io::ErrorKind::ConnectionRefused, "a full queue");
    drop(listener);
    assert_eq!(
        kind(Target::Unix(path)),
        io::ErrorKind::ConnectionRefused,
        "nobody there"
    );
}

#[test]
fn unix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut buf = [0; 4];
        socket.read_exact(&mut buf).unwrap();
        socket.write_all(&buf).unwrap();
    });
    let target = Target::Unix(path.clone());
    assert_eq!(target.to_string(), format!("unix:{}", path.display()));
    assert_eq!(dialled(target, DialOptions::default()).unwrap(), b"ping");
    server.join().unwrap();
}

#[test]
fn a_server_that_closes_at_once_is_an_end_not_a_failed_dial() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let n = on_core(move || async move {
        let stream = dial(&target, &DialOptions::default()).await.unwrap();
        drop(listener.accept().unwrap());
        stream.recv(&mut [0; 8]).await.unwrap()
    });
    assert_eq!(n, 0);
}

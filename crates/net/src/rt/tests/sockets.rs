//! Readiness: what an edge-triggered reactor can get wrong.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use crate::rt::*;
use crate::stream::Stream;
use crate::testing::on_core;

/// A connected pair: ours, non-blocking, and the peer's, blocking.
fn tcp_pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours.into(), peer)
}

fn unix_pair() -> (OwnedFd, UnixStream) {
    let (ours, peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours.into(), peer)
}

fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
}

/// Lets the reactor see what has happened.
async fn turn() {
    sleep_until(now_ms() + 1).await;
}

fn stream() -> (Stream, TcpStream) {
    let (ours, peer) = tcp_pair();
    (Stream::new(ours).unwrap(), peer)
}

#[test]
fn data_and_end_at_once_with_every_buffer_size() {
    for size in [1, 4, 5, 6, 64] {
        on_core(move || async move {
            let (stream, mut peer) = stream();
            peer.write_all(b"hello").unwrap();
            drop(peer);
            let mut got = Vec::new();
            let mut buf = vec![0; size];
            loop {
                let n = stream.recv(&mut buf).await.unwrap();
                if n == 0 {
                    break;
                }
                got.extend_from_slice(&buf[..n]);
            }
            assert_eq!(got, b"hello", "{size}");
            // The end stays the end.
            assert_eq!(stream.try_recv(&mut buf).unwrap(), 0);
            assert!(stream.is_read_ended());
        });
    }
}

#[test]
fn an_end_that_comes_after_a_short_read() {
    on_core(|| async {
        let (stream, mut peer) = stream();
        let mut buf = [0; 64];
        peer.write_all(b"one").unwrap();
        assert_eq!(stream.recv(&mut buf).await.unwrap(), 3);
        assert!(!stream.is_readable(), "a short read means drained");
        // More data, more turns, then the end alone.
        peer.write_all(b"more").unwrap();
        assert_eq!(stream.recv(&mut buf).await.unwrap(), 4);
        turn().await;
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.recv(&mut buf).await.unwrap(), 0);
        // Half-closed: we may still answer.
        assert!(stream.is_read_ended());
        assert!(!stream.is_dead());
        stream.send_all(b"bye").await.unwrap();
        drop(stream);
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bye");
    });
}

#[test]
fn an_end_between_the_event_and_the_short_read() {
    on_core(|| async {
        let (stream, mut peer) = stream();
        peer.write_all(b"data").unwrap();
        stream.readable().await;
        assert!(!stream.is_read_ended());
        // The event told of the data alone; the end arrives before the read.
        peer.shutdown(Shutdown::Write).unwrap();
        let mut buf = [0; 64];
        assert_eq!(stream.recv(&mut buf).await.unwrap(), 4);
        assert_eq!(stream.recv(&mut buf).await.unwrap(), 0);
    });
}

#[test]
fn unannounced_data_costs_no_system_call() {
    on_core(|| async {
        let (stream, mut peer) = stream();
        turn().await;
        peer.write_all(b"x").unwrap();
        let mut buf = [0; 8];
        // It is there, but a call that would find it is not made.
        assert_eq!(
            stream.try_recv(&mut buf).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(stream.try_peek(&mut buf).unwrap(), 1, "a peek always asks");
        assert_eq!(stream.recv(&mut buf).await.unwrap(), 1);
        assert_eq!(
            stream.try_peek(&mut buf).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert!(!stream.is_readable());
    });
}

#[test]
fn a_reset_is_an_error_and_a_death() {
    on_core(|| async {
        let (stream, mut peer) = stream();
        peer.write_all(b"lost").unwrap();
        stream.readable().await;
        reset(peer);
        std::future::poll_fn(|_| stream.poll_dead()).await;
        let mut buf = [0; 64];
        let error = loop {
            match stream.recv(&mut buf).await {
                // The kernel may still give what had arrived.
                Ok(n) => assert_ne!(n, 0, "a reset must not look like an end"),
                Err(e) => break e,
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(stream.is_read_ended());
        assert!(stream.send_all(b"x").await.is_err());
    });
}

#[test]
fn a_reset_wakes_a_reader_a_writer_and_a_watcher() {
    on_core(|| async {
        let woken = Rc::new(Cell::new(0));
        let mut peers = Vec::new();
        for kind in 0..3 {
            let (stream, peer) = stream();
            peers.push(peer);
            let woken = Rc::clone(&woken);
            spawn(async move {
                match kind {
                    0 => assert!(stream.recv(&mut [0; 8]).await.is_err()),
                    1 => {
                        let block = vec![0; 1 << 20];
                        while stream.send_all(&block).await.is_ok() {}
                    }
                    _ => std::future::poll_fn(|_| stream.poll_dead()).await,
                }
                woken.set(woken.get() + 1);
            });
        }
        turn().await;
        assert_eq!(woken.get(), 0);
        peers.into_iter().for_each(reset);
        while woken.get() < 3 {
            turn().await;
        }
    });
}

#[test]
fn we_can_reset_too() {
    let (ours, mut peer) = tcp_pair();
    on_core(move || async move {
        let stream = Stream::new(ours).unwrap();
        stream.reset_on_close();
    });
    assert_eq!(
        peer.read(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

/// A slow reader holds the sender back, and gets every byte.
fn backpressure(ours: OwnedFd, mut peer: impl Read + Send + 'static) {
    const TOTAL: usize = 24 << 20;
    let (start, started) = mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        started.recv().unwrap();
        let mut buf = vec![0; 100_000];
        let (mut seen, mut wrong) = (0, 0);
        loop {
            let n = peer.read(&mut buf).unwrap();
            if n == 0 {
                return (seen, wrong);
            }
            wrong += buf[..n]
                .iter()
                .enumerate()
                .filter(|(i, b)| **b != ((seen + i) % 251) as u8)
                .count();
            seen += n;
        }
    });
    on_core(move || async move {
        let stream = Stream::new(ours).unwrap();
        let data: Vec<u8> = (0..TOTAL).map(|i| (i % 251) as u8).collect();
        stream.writable().await;
        let mut sent = 0;
        loop {
            match stream.try_send(&data[sent..]) {
                Ok(n) => sent += n,
                Err(e) => break assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(
            sent > 0 && sent < TOTAL,
            "the kernel must hold us back: {sent}"
        );
        assert!(!stream.is_writable());
        start.send(()).unwrap();
        stream.send_all(&data[sent..]).await.unwrap();
        stream.shutdown_write();
    });
    assert_eq!(reader.join().unwrap(), (TOTAL, 0));
}

#[test]
fn a_slow_tcp_reader_holds_us_back() {
    let (ours, peer) = tcp_pair();
    backpressure(ours, peer);
}

#[test]
fn a_slow_unix_reader_holds_us_back() {
    let (ours, peer) = unix_pair();
    backpressure(ours, peer);
}

#[test]
fn many_sockets_each_get_their_own() {
    on_core(|| async {
        const PAIRS: usize = 200;
        const ROUNDS: u32 = 20;
        let base = spawn_count();
        let done = Rc::new(Cell::new(0));
        for n in 0..PAIRS {
            let (ours, peer) = unix_pair();
            peer.set_nonblocking(true).unwrap();
            let done = Rc::clone(&done);
            spawn(async move {
                let echo = Stream::new(ours).unwrap();
                let mut buf = [0; 16];
                loop {
                    let n = echo.recv(&mut buf).await.unwrap();
                    if n == 0 {
                        return;
                    }
                    echo.send_all(&buf[..n]).await.unwrap();
                }
            });
            spawn(async move {
                let client = Stream::new(peer.into()).unwrap();
                for round in 0..ROUNDS {
                    let message = (n as u64 * 1_000 + u64::from(round)).to_be_bytes();
                    client.send_all(&message).await.unwrap();
                    let mut got = [0; 16];
                    let n = client.recv(&mut got).await.unwrap();
                    assert_eq!(got[..n], message);
                }
                done.set(done.get() + 1);
            });
        }
        while done.get() < PAIRS || spawn_count() > base {
            turn().await;
        }
        assert_eq!(current_core().panics(), 0);
    });
}

#[test]
fn a_late_event_of_a_closed_socket_is_not_its_successors() {
    on_core(|| async {
        let (ours, mut peer) = unix_pair();
        // A duplicate keeps the old registration alive in the kernel after the stream is gone.
        let duplicate = ours.try_clone().unwrap();
        let old = Stream::new(ours).unwrap();
        turn().await;
        drop(old);
        let (ours, _peer) = unix_pair();
        let new = Stream::new(ours).unwrap();
        peer.write_all(b"for the old one").unwrap();
        turn().await;
        assert!(!new.is_readable());
        assert!(new.is_writable());
        drop(duplicate);
    });
}

#[test]
fn sockets_may_be_dropped_anywhere() {
    on_core(|| async {
        // By a task that ends, by one that panics, by a job, inside another task's poll.
        let base = spawn_count();
        let (kept, _p1) = stream();
        let slot = Rc::new(Cell::new(Some(kept)));
        let (a, _p2) = stream();
        let (b, _p3) = stream();
        spawn(async move { drop(a) });
        spawn(async move {
            let _b = b;
            panic!("with a socket");
        });
        let taken = Rc::clone(&slot);
        spawn(async move { drop(taken.take()) });
        current_core().remote().run(|| drop(stream()));
        turn().await;
        turn().await;
        assert_eq!(spawn_count(), base);
        assert!(slot.take().is_none());
        let (c, mut peer) = stream();
        peer.write_all(b"ok").unwrap();
        assert_eq!(c.recv(&mut [0; 8]).await.unwrap(), 2);
    });
}

#[test]
fn a_watcher_hears_of_what_was_there_before() {
    on_core(|| async {
        let (stream, mut peer) = stream();
        let stream = Rc::new(stream);
        peer.write_all(b"x").unwrap();
        stream.readable().await;
        let woken = Rc::new(Cell::new(0));
        let counting = Rc::clone(&woken);
        let watcher = spawn(std::future::poll_fn(move |_| {
            counting.set(counting.get() + 1);
            std::task::Poll::<()>::Pending
        }));
        yield_now().await;
        stream.watch(watcher);
        turn().await;
        assert_eq!(woken.get(), 2, "readable before the watch");
        assert_eq!(stream.recv(&mut [0; 8]).await.unwrap(), 1);
        stream.watch(watcher);
        turn().await;
        assert_eq!(woken.get(), 2, "quiet");
        drop(peer);
        turn().await;
        turn().await;
        assert_eq!(woken.get(), 3, "closed while watched");
    });
}

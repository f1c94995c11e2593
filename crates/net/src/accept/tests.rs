//! Accepting, against the real kernel.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use super::*;
use crate::rt::spawn;
use crate::stream::Stream;
use crate::testing::{PATIENCE, cloexec, on_core};

fn listener() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

/// Completes when `condition` holds; woken by whatever else wakes the task, and every 16 ms.
async fn wait_for(mut condition: impl FnMut() -> bool) {
    while !condition() {
        rt::sleep_until(rt::now_ms() + 1).await;
    }
}

type Seen = Rc<RefCell<Vec<Accepted>>>;

/// Runs an accept loop as a task; what it accepts and how it ends.
fn start(fd: OwnedFd) -> (AcceptControl, Seen, Rc<Cell<Option<bool>>>) {
    let control = AcceptControl::new();
    let seen: Seen = Rc::default();
    let ended = Rc::new(Cell::new(None));
    let (c, s, e) = (control.clone(), Rc::clone(&seen), Rc::clone(&ended));
    spawn(async move {
        let acceptor = Acceptor::new(fd).unwrap();
        let result = accept_loop(
            acceptor,
            c,
            |accepted| s.borrow_mut().push(accepted),
            |_| {},
        )
        .await;
        e.set(Some(result.is_ok()));
    });
    (control, seen, ended)
}

#[test]
fn gives_the_peer_and_a_socket_ready_for_use() {
    let (fd, address) = listener();
    // Before the registration, so that the readiness must be found by it.
    let mut client = TcpStream::connect(address).unwrap();
    let peer = on_core(move || async move {
        let acceptor = Acceptor::new(fd).unwrap();
        let accepted = acceptor.accept().await.unwrap();
        let socket = SockRef::from(&accepted.fd);
        assert!(socket.nonblocking().unwrap() && cloexec(&accepted.fd));
        Stream::new(accepted.fd)
            .unwrap()
            .send_all(b"hi")
            .await
            .unwrap();
        assert!(acceptor.try_accept().unwrap().is_none());
        accepted.peer
    });
    assert_eq!(peer, Peer::Tcp(client.local_addr().unwrap()));
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hi");
}

#[test]
fn folds_mapped_addresses() {
    let Ok(socket) = TcpListener::bind("[::]:0") else {
        return;
    };
    socket.set_nonblocking(true).unwrap();
    let client = TcpStream::connect(("127.0.0.1", socket.local_addr().unwrap().port())).unwrap();
    let peer = on_core(move || async move {
        Acceptor::new(socket.into())
            .unwrap()
            .accept()
            .await
            .unwrap()
            .peer
    });
    assert_eq!(peer, Peer::Tcp(client.local_addr().unwrap()));
}

#[test]
fn unix_peers_have_no_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = UnixListener::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    let peer = on_core(move || async move {
        Acceptor::new(socket.into())
            .unwrap()
            .accept()
            .await
            .unwrap()
            .peer
    });
    assert_eq!(peer, Peer::Unix);
}

#[test]
fn a_burst_larger_than_a_batch_is_taken_whole() {
    const CLIENTS: usize = 3 * BATCH + 5;
    let (fd, address) = listener();
    rustix::net::listen(&fd, 1024).unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let n = on_core(move || async move {
        let (_control, seen, _) = start(fd);
        wait_for(|| seen.borrow().len() == CLIENTS).await;
        // And one that comes later, after the queue was empty.
        let late = TcpStream::connect(address).unwrap();
        wait_for(|| seen.borrow().len() == CLIENTS + 1).await;
        drop(late);
        seen.borrow().len()
    });
    assert_eq!(n, CLIENTS + 1);
    drop(clients);
}

#[test]
fn pauses_and_resumes() {
    let (fd, address) = listener();
    on_core(move || async move {
        let (control, seen, ended) = start(fd);
        let first = TcpStream::connect(address).unwrap();
        wait_for(|| seen.borrow().len() == 1).await;
        control.pause();
        let second = TcpStream::connect(address).unwrap();
        // Long enough for the event of the second to have been seen and left alone.
        for _ in 0..20 {
            rt::sleep_until(rt::now_ms() + 1).await;
        }
        assert_eq!(seen.borrow().len(), 1);
        control.resume();
        wait_for(|| seen.borrow().len() == 2).await;
        assert_eq!(ended.get(), None);
        drop((first, second));
    });
}

#[test]
fn a_pause_from_within_stops_at_once() {
    let (fd, address) = listener();
    on_core(move || async move {
        let clients: Vec<_> = (0..5)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let control = AcceptControl::new();
        let seen: Seen = Rc::default();
        let (c, s) = (control.clone(), Rc::clone(&seen));
        spawn(async move {
            let pausing = c.clone();
            let on_accept = move |accepted| {
                s.borrow_mut().push(accepted);
                pausing.pause();
            };
            accept_loop(Acceptor::new(fd).unwrap(), c, on_accept, |_| {})
                .await
                .unwrap();
        });
        for n in 1..=5 {
            wait_for(|| seen.borrow().len() >= n).await;
            rt::yield_now().await;
            assert_eq!(seen.borrow().len(), n);
            control.resume();
        }
        drop(clients);
    });
}

#[test]
fn leaves_the_queue_to_others_who_hold_the_socket() {
    let (fd, address) = listener();
    let other = TcpListener::from(fd.try_clone().unwrap());
    on_core(move || async move {
        let (control, seen, ended) = start(fd);
        // The loop has begun.
        wait_for(|| control.0.task.get() != TaskKey::NONE).await;
        control.pause();
        let client = TcpStream::connect(address).unwrap();
        control.leave();
        wait_for(|| ended.get().is_some()).await;
        assert_eq!((ended.get(), seen.borrow().len()), (Some(true), 0));
        drop(client);
    });
    other.set_nonblocking(false).unwrap();
    other.accept().unwrap();
}

/// Clients that hammer a socket while it ends: whoever got through the handshake must get the byte.
fn end_under_load<S: Read>(
    fd: OwnedFd,
    connect: impl Fn() -> io::Result<S> + Clone + Send + 'static,
) {
    let connected = Arc::new(AtomicUsize::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (connected, over, connect) =
                (Arc::clone(&connected), Arc::clone(&over), connect.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut client) = connect() else { continue };
                    connected.fetch_add(1, Ordering::Relaxed);
                    let mut byte = [0];
                    client
                        .read_exact(&mut byte)
                        .expect("a client that was let in was reset");
                }
            })
        })
        .collect();
    on_core(move || async move {
        let acceptor = Acceptor::new(fd).unwrap();
        let control = AcceptControl::new();
        let (served, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let (c, s, e) = (control.clone(), Rc::clone(&served), Rc::clone(&ended));
        spawn(async move {
            let on_accept = |accepted: Accepted| {
                std::fs::File::from(accepted.fd).write_all(b"x").unwrap();
                s.set(s.get() + 1);
            };
            accept_loop(acceptor, c, on_accept, |_| {}).await.unwrap();
            e.set(true);
        });
        wait_for(|| served.get() > 50 && connected.load(Ordering::Relaxed) > 50).await;
        control.end();
        // An end is final.
        control.resume();
        wait_for(|| ended.get()).await;
    });
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn an_end_loses_nobody() {
    let (fd, address) = listener();
    rustix::net::listen(&fd, 1024).unwrap();
    end_under_load(fd, move || TcpStream::connect_timeout(&address, PATIENCE));
    assert_eq!(
        TcpStream::connect(address).unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[test]
fn an_end_of_a_unix_socket_loses_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = UnixListener::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let to = path.clone();
    end_under_load(socket.into(), move || UnixStream::connect(&to));
    assert_eq!(
        UnixStream::connect(&path).unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[test]
fn an_end_serves_the_queue_of_a_paused_loop() {
    let (fd, address) = listener();
    on_core(move || async move {
        let (control, seen, ended) = start(fd);
        control.pause();
        let clients: Vec<_> = (0..100)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        control.end();
        wait_for(|| ended.get().is_some()).await;
        assert_eq!((ended.get(), seen.borrow().len()), (Some(true), 100));
        drop(clients);
    });
}

#[test]
fn rests_when_descriptors_run_out_and_recovers() {
    // The limit is the process's: in a child of its own, which is this test again.
    if std::env::var_os("NARTHEX_TEST_EMFILE").is_none() {
        let me = std::env::current_exe().unwrap();
        let name = "accept::tests::rests_when_descriptors_run_out_and_recovers";
        let out = std::process::Command::new(me)
            .args(["--exact", name, "--test-threads=1"])
            .env("NARTHEX_TEST_EMFILE", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(
            out.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        return;
    }
    let (fd, address) = listener();
    on_core(move || async move {
        let client = TcpStream::connect(address).unwrap();
        let mut hoard = Vec::new();
        let limit = rustix::process::Rlimit {
            current: Some(64),
            maximum: Some(4096),
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        let acceptor = Acceptor::new(fd).unwrap();
        while let Ok(one) = std::fs::File::open("/dev/null") {
            hoard.push(one);
        }
        let control = AcceptControl::new();
        let (rests, accepted) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (c, r, a) = (control.clone(), Rc::clone(&rests), Rc::clone(&accepted));
        spawn(async move {
            let on_exhausted = |e: &io::Error| {
                assert_eq!(e.raw_os_error(), Some(libc::EMFILE));
                r.set(r.get() + 1);
            };
            accept_loop(acceptor, c, |_| a.set(a.get() + 1), on_exhausted)
                .await
                .unwrap();
        });
        let begin = rt::now_ms();
        wait_for(|| rests.get() == 3).await;
        // Each rest but the last has been slept through: a loop that spins would have none of this.
        assert!(
            rt::now_ms() - begin >= 2 * PAUSE_MS - 32,
            "{}",
            rt::now_ms() - begin
        );
        assert_eq!(accepted.get(), 0);
        hoard.clear();
        wait_for(|| accepted.get() == 1).await;
        drop(client);
    });
}

#[test]
fn a_socket_that_does_not_listen_ends_the_loop() {
    let (fd, address) = listener();
    let connected = TcpStream::connect(address).unwrap();
    connected.set_nonblocking(true).unwrap();
    let ended = on_core(move || async move {
        let other = Acceptor::new(fd).unwrap();
        // Makes it readable.
        TcpStream::from(other.accept().await.unwrap().fd)
            .shutdown(Shutdown::Write)
            .unwrap();
        let (_control, _, ended) = start(connected.into());
        wait_for(|| ended.get().is_some()).await;
        ended.get()
    });
    assert_eq!(ended, Some(false));
}

#[test]
fn errors_are_told_apart() {
    use rustix::io::Errno as E;
    for e in [E::MFILE, E::NFILE, E::NOBUFS, E::NOMEM] {
        assert!(
            matches!(AcceptError::of(e), AcceptError::Exhausted(_)),
            "{e}"
        );
    }
    for e in [
        E::CONNABORTED,
        E::PROTO,
        E::PERM,
        E::NETDOWN,
        E::HOSTUNREACH,
        E::TIMEDOUT,
    ] {
        assert!(
            matches!(AcceptError::of(e), AcceptError::Connection(_)),
            "{e}"
        );
    }
    for e in [E::BADF, E::INVAL, E::NOTSOCK] {
        assert!(
            matches!(AcceptError::of(e), AcceptError::Listener(_)),
            "{e}"
        );
    }
}

#[test]
fn hands_over_to_another_core() {
    use crate::balance::Balance;
    let (fd, address) = listener();
    let balance = Balance::new(2);
    let (tell_remote, remote) = mpsc::channel();
    let (served, serve) = mpsc::channel();
    let other_core = std::thread::spawn(move || {
        on_core(move || async move {
            tell_remote.send(current_core().remote()).unwrap();
            rt::sleep_until(rt::now_ms() + 1).await;
            // Until the acceptor's core is done: woken by the hand-overs.
            while serve.try_recv().is_err() {
                rt::sleep_until(rt::now_ms() + 1).await;
            }
        });
    });
    let remote = remote.recv_timeout(PATIENCE).unwrap();
    on_core(move || async move {
        let acceptor = Acceptor::new(fd).unwrap();
        for _ in 0..10 {
            let mut client = TcpStream::connect(address).unwrap();
            let accepted = acceptor.accept().await.unwrap();
            let (thread, counting) = (std::thread::current().id(), Arc::clone(&balance));
            let serve = move |accepted: Accepted| {
                assert_ne!(std::thread::current().id(), thread);
                counting.on_open(1);
                spawn(async move {
                    Stream::new(accepted.fd)
                        .unwrap()
                        .send_all(b"other")
                        .await
                        .unwrap();
                });
            };
            balance.hand_over(1, &remote, accepted, serve).unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "other");
        }
        wait_for(|| balance.open(1) == 10).await;
        served.send(()).unwrap();
    });
    other_core.join().unwrap();
}

#[test]
fn an_ending_socket_keeps_its_queue_and_lets_nobody_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let unix = UnixListener::bind(&path).unwrap();
    unix.set_nonblocking(true).unwrap();
    let (tcp, address) = listener();
    on_core(move || async move {
        let _queued = (
            TcpStream::connect(address).unwrap(),
            UnixStream::connect(&path).unwrap(),
        );
        let (tcp, unix) = (
            Acceptor::new(tcp).unwrap(),
            Acceptor::new(unix.into()).unwrap(),
        );
        assert!(tcp.refuse_newcomers());
        assert!(!unix.refuse_newcomers());
        assert_eq!(
            UnixStream::connect(&path).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        // The SYN is dropped: the kernel would complete a handshake on loopback at once.
        let brief = std::time::Duration::from_millis(50);
        assert_eq!(
            TcpStream::connect_timeout(&address, brief)
                .unwrap_err()
                .kind(),
            io::ErrorKind::TimedOut
        );
        tcp.accept().await.unwrap();
        unix.accept().await.unwrap();
        drop(tcp);
        assert_eq!(
            TcpStream::connect(address).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    });
}

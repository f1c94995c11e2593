//! Listening, against the real kernel: loopback and temporary directories only.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use socket2::SockRef;

use super::*;
use crate::testing::cloexec;

fn tcp(address: &str) -> Listener {
    Listener::new(address, Address::Tcp(address.parse().unwrap()))
}

fn unix_at(path: &Path) -> Listener {
    Listener::new("unix", Address::Unix(path.to_owned()))
}

fn port_of(bound: &Bound) -> SocketAddr {
    let Address::Tcp(address) = bound.address() else {
        panic!("{:?}", bound.address())
    };
    *address
}

fn listen(listener: &Listener, cores: usize) -> Result<Bound, ListenError> {
    bind(listener, cores, &mut Inherited::none())
}

fn accept_blocking(fd: &OwnedFd) -> Socket {
    let socket = Socket::from(fd.try_clone().unwrap());
    socket.set_nonblocking(false).unwrap();
    socket
        .set_read_timeout(Some(crate::testing::PATIENCE))
        .unwrap();
    socket.accept().unwrap().0
}

#[test]
fn one_socket_per_core_on_one_port() {
    let bound = listen(&tcp("127.0.0.1:0"), 3).unwrap();
    assert_eq!(bound.sockets().len(), 3);
    assert!(bound.is_ours());
    let address = port_of(&bound);
    assert_ne!(address.port(), 0);
    for fd in bound.sockets() {
        let socket = SockRef::from(fd);
        assert_eq!(socket.local_addr().unwrap().as_socket(), Some(address));
        assert!(socket.is_listener().unwrap());
        assert!(socket.reuse_port().unwrap());
        assert!(socket.reuse_address().unwrap());
        assert!(cloexec(fd));
        assert!(socket.nonblocking().unwrap());
    }
    TcpStream::connect(address).unwrap();
}

#[test]
fn accepted_sockets_inherit_every_option() {
    let mut listener = tcp("127.0.0.1:0");
    listener.tcp = TcpOptions {
        keepalive: Duration::from_secs(44),
        user_timeout: Duration::from_millis(7_500),
    };
    let bound = listen(&listener, 1).unwrap();
    let _client = TcpStream::connect(port_of(&bound)).unwrap();
    let accepted = accept_blocking(&bound.sockets()[0]);
    assert!(accepted.tcp_nodelay().unwrap());
    assert!(accepted.keepalive().unwrap());
    assert_eq!(
        accepted.tcp_keepalive_time().unwrap(),
        Duration::from_secs(44)
    );
    assert_eq!(
        accepted.tcp_keepalive_interval().unwrap(),
        Duration::from_secs(11)
    );
    assert_eq!(accepted.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
    assert_eq!(
        accepted.tcp_user_timeout().unwrap(),
        Some(Duration::from_millis(7_500))
    );
}

#[test]
fn zero_options_leave_the_kernels() {
    let mut listener = tcp("127.0.0.1:0");
    listener.tcp = TcpOptions {
        keepalive: Duration::ZERO,
        user_timeout: Duration::ZERO,
    };
    let bound = listen(&listener, 1).unwrap();
    let socket = SockRef::from(&bound.sockets()[0]);
    assert!(!socket.keepalive().unwrap());
    assert_eq!(socket.tcp_user_timeout().unwrap(), None);
}

#[test]
fn dual_stack_unless_ipv6_only() {
    let both = match listen(&tcp("[::]:0"), 1) {
        Ok(bound) if port_of(&bound).is_ipv6() => bound,
        // A machine without IPv6: the stand-in is what we asked for.
        other => return assert!(port_of(&other.unwrap()).ip().is_unspecified()),
    };
    TcpStream::connect(("127.0.0.1", port_of(&both).port())).unwrap();
    TcpStream::connect(("::1", port_of(&both).port())).unwrap();

    let mut listener = tcp("[::]:0");
    listener.ipv6_only = true;
    let only = listen(&listener, 1).unwrap();
    TcpStream::connect(("::1", port_of(&only).port())).unwrap();
    TcpStream::connect(("127.0.0.1", port_of(&only).port())).unwrap_err();
}

#[test]
fn any_address_falls_back_to_ipv4_where_ipv6_is_missing() {
    let error = |code| io::Error::from_raw_os_error(code);
    let any = "[::]:80".parse().unwrap();
    let v4 = Some("0.0.0.0:80".parse().unwrap());
    assert_eq!(without_ipv6(any, false, &error(libc::EAFNOSUPPORT)), v4);
    assert_eq!(without_ipv6(any, false, &error(libc::EADDRNOTAVAIL)), v4);
    assert_eq!(without_ipv6(any, true, &error(libc::EAFNOSUPPORT)), None);
    assert_eq!(without_ipv6(any, false, &error(libc::EADDRINUSE)), None);
    assert_eq!(
        without_ipv6(
            "[::1]:80".parse().unwrap(),
            false,
            &error(libc::EAFNOSUPPORT)
        ),
        None
    );
    assert_eq!(
        without_ipv6(
            "127.0.0.1:80".parse().unwrap(),
            false,
            &error(libc::EADDRNOTAVAIL)
        ),
        None
    );
}

#[test]
fn an_address_in_use_is_said_so() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let error = listen(&tcp(&address.to_string()), 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{address} is in use (by another process?); stop it or listen elsewhere")
    );
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_second_narthex_is_noticed_but_a_reload_may_share() {
    let first = listen(&tcp("127.0.0.1:0"), 2).unwrap();
    let again = tcp(&port_of(&first).to_string());
    assert_eq!(
        listen(&again, 2).unwrap_err().kind(),
        io::ErrorKind::AddrInUse
    );
    let beside = bind_beside(&again, 1, &mut Inherited::none()).unwrap();
    assert_eq!(port_of(&beside), port_of(&first));
    drop((first, beside));
    listen(&again, 1).unwrap();
}

#[test]
fn a_restart_is_not_stopped_by_old_connections() {
    let bound = listen(&tcp("127.0.0.1:0"), 1).unwrap();
    let address = port_of(&bound);
    let client = TcpStream::connect(address).unwrap();
    let accepted = accept_blocking(&bound.sockets()[0]);
    drop(bound);
    // Closed from our side first: TIME_WAIT is ours.
    drop(accepted);
    drop(client);
    listen(&tcp(&address.to_string()), 1).unwrap();
}

#[test]
fn errors_say_what_to_do() {
    let tcp = |address: &str, code| {
        ListenError::tcp(address.parse().unwrap(), io::Error::from_raw_os_error(code)).to_string()
    };
    assert!(tcp("0.0.0.0:80", libc::EACCES).contains("CAP_NET_BIND_SERVICE"));
    assert!(!tcp("0.0.0.0:8080", libc::EACCES).contains("CAP_NET_BIND_SERVICE"));
    assert!(tcp("192.0.2.1:80", libc::EADDRNOTAVAIL).contains("no such address"));
    assert!(tcp("[2001:db8::1]:80", libc::EAFNOSUPPORT).contains("0.0.0.0:80"));
    assert!(tcp("1.2.3.4:80", libc::ENOBUFS).starts_with("1.2.3.4:80: cannot listen: "));
    let error = listen(&self::tcp("192.0.2.1:81"), 1)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no such address"), "{error}");
}

#[test]
fn unix_socket_has_its_mode_and_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    for mode in [0o600, 0o660, 0o666] {
        let mut listener = unix_at(&path);
        listener.mode = mode;
        let bound = listen(&listener, 4).unwrap();
        assert_eq!(bound.sockets().len(), 1, "one socket, dealt out");
        let found = std::fs::metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, mode);
        UnixStream::connect(&path).unwrap();
        drop(bound);
        assert!(!path.exists());
    }
}

#[test]
fn unix_file_stays_for_a_successor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let bound = listen(&unix_at(&path), 1).unwrap();
    let successor = bound.sockets()[0].try_clone().unwrap();
    bound.keep_path();
    drop(bound);
    UnixStream::connect(&path).unwrap();
    drop(successor);
    // Now it is stale: the next one takes it over.
    let next = listen(&unix_at(&path), 1).unwrap();
    UnixStream::connect(&path).unwrap();
    // A file that somebody has put in its place is not ours to remove.
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(next);
    UnixStream::connect(&path).unwrap();
}

fn dups(bound: &Bound) -> Vec<OwnedFd> {
    let fds = bound.sockets().iter();
    fds.map(|fd| fd.try_clone().unwrap()).collect()
}

#[test]
fn what_was_bequeathed_is_adopted_and_nothing_is_opened() {
    let old = listen(&tcp("127.0.0.1:0"), 3).unwrap();
    let address = port_of(&old);
    let wanted = tcp(&address.to_string());
    let mut inherited = Inherited::none();
    inherited.bequeath(address.to_string(), dups(&old));
    inherited.bequeath("127.0.0.1:1".to_owned(), dups(&old));
    let new = bind(&wanted, 8, &mut inherited).unwrap();
    assert!(new.is_adopted() && new.is_ours());
    assert_eq!((new.sockets().len(), port_of(&new)), (3, address));
    // A client that waits is served by whoever is left.
    let _client = TcpStream::connect(address).unwrap();
    drop(old);
    let accepted = new.sockets().iter().any(|fd| {
        let socket = Socket::from(fd.try_clone().unwrap());
        socket.accept().is_ok()
    });
    assert!(accepted);
    assert!(inherited.has_bequest("127.0.0.1:1") && !inherited.has_bequest(&address.to_string()));
    inherited.forget_bequests();
    assert!(!inherited.has_bequest("127.0.0.1:1"));
}

#[test]
fn an_adopted_unix_socket_leaves_its_file_to_the_other_until_it_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let old = listen(&unix_at(&path), 1).unwrap();
    let bequest = |old: &Bound| {
        let mut inherited = Inherited::none();
        inherited.bequeath(written(&Address::Unix(path.clone())), dups(old));
        bind(&unix_at(&path), 1, &mut inherited).unwrap()
    };
    drop(bequest(&old));
    assert!(path.exists(), "whoever gives up leaves everything");
    let new = bequest(&old);
    old.keep_path();
    new.own();
    drop(old);
    UnixStream::connect(&path).unwrap();
    drop(new);
    assert!(!path.exists());
}

#[test]
fn what_does_not_listen_is_not_adopted() {
    for sockets in [
        vec![],
        vec![OwnedFd::from(std::fs::File::open("/dev/null").unwrap())],
    ] {
        let mut inherited = Inherited::none();
        inherited.bequeath("127.0.0.1:9".to_owned(), sockets);
        let error = bind(&tcp("127.0.0.1:9"), 1, &mut inherited).unwrap_err();
        assert!(error.to_string().contains("report this"), "{error}");
    }
}

#[test]
fn another_backlog_is_given_to_what_was_adopted() {
    let old = listen(&tcp("127.0.0.1:0"), 1).unwrap();
    let address = port_of(&old);
    let mut wanted = tcp(&address.to_string());
    wanted.tcp.keepalive = Duration::from_secs(77);
    let mut inherited = Inherited::none();
    inherited.bequeath(address.to_string(), dups(&old));
    let new = bind(&wanted, 1, &mut inherited).unwrap();
    new.refresh(&wanted).unwrap();
    let time = SockRef::from(&new.sockets()[0]).tcp_keepalive_time();
    assert_eq!(time.unwrap(), Duration::from_secs(77));
}

#[test]
fn a_live_unix_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let live = UnixListener::bind(&path).unwrap();
    let error = listen(&unix_at(&path), 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "unix:{} is in use: a process answers on it; stop it or listen elsewhere",
            path.display()
        )
    );
    // It answers even with a full queue.
    rustix::net::listen(&live, 0).unwrap();
    let _clients = [connect_nonblocking(&path), connect_nonblocking(&path)];
    assert_eq!(
        listen(&unix_at(&path), 1).unwrap_err().kind(),
        io::ErrorKind::AddrInUse
    );
    assert!(path.exists());
}

fn connect_nonblocking(path: &Path) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
    let _ = socket.connect(&socket2::SockAddr::unix(path).unwrap());
    socket
}

#[test]
fn unix_paths_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: PathBuf| listen(&unix_at(&path), 1).unwrap_err().to_string();
    let file = dir.path().join("precious");
    std::fs::File::create(&file)
        .unwrap()
        .write_all(b"data")
        .unwrap();
    assert!(message(file.clone()).contains("exists and is not a socket"));
    assert_eq!(std::fs::read(&file).unwrap(), b"data");
    assert!(message(dir.path().join("no/such/s")).contains("does not exist"));
    assert!(message(dir.path().join("x".repeat(200))).contains("choose a shorter one"));
}

#[test]
fn inherited_sockets_are_lent() {
    let made = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = made.local_addr().unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(address).unwrap();
    let mut inherited = Inherited::from_sockets(vec![
        ("web".into(), made.into()),
        ("dns".into(), datagrams.into()),
        ("client".into(), connected.into()),
    ]);
    let listener = |name: &str| Listener::new(name, Address::Inherited(name.to_owned()));
    for name in ["web", "fd:0", "web"] {
        let bound = bind(&listener(name), 4, &mut inherited).unwrap();
        assert_eq!(bound.sockets().len(), 1);
        assert!(!bound.is_ours(), "the service manager holds it too");
        assert_eq!(port_of(&bound), address);
        let socket = SockRef::from(&bound.sockets()[0]);
        assert!(
            socket.nonblocking().unwrap()
                && cloexec(&bound.sockets()[0])
                && socket.tcp_nodelay().unwrap()
        );
    }
    // Still open: no client is refused between two reloads.
    TcpStream::connect(address).unwrap();
    for name in ["dns", "client"] {
        let error = bind(&listener(name), 1, &mut inherited)
            .unwrap_err()
            .to_string();
        assert!(error.contains("not a listening stream socket"), "{error}");
    }
    let error = bind(&listener("admin"), 1, &mut inherited)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"admin\"; passed were \"web\", \"dns\", \"client\""),
        "{error}"
    );
}

//! Between a client and a server: passes bytes on, cuts connections, and holds back those that begin with certain bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct State {
    /// Connections that begin so wait.
    held: Option<&'static str>,
    waiting: usize,
    open: Vec<TcpStream>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A running relay; its threads end with the test.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    /// On a free port of 127.0.0.1, to there.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("relay");
        let address = listener.local_addr().expect("local address");
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let shared = Arc::clone(&ours);
                std::thread::spawn(move || pass(client, target, &shared));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Connections whose first bytes are these are held back; `None`: go on, all.
    pub fn hold(&self, beginning: Option<&'static str>) {
        self.shared.lock().held = beginning;
        self.shared.changed.notify_all();
    }

    /// How many are held back.
    pub fn held(&self) -> usize {
        self.shared.lock().waiting
    }

    /// Cuts every connection, in the middle of whatever it says.
    pub fn cut(&self) {
        for stream in self.shared.lock().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pass(mut client: TcpStream, target: SocketAddr, shared: &Shared) {
    let mut first = [0; 4096];
    let Ok(n) = client.read(&mut first) else {
        return;
    };
    let first = first.get(..n).unwrap_or_default();
    let mut state = shared.lock();
    state.waiting += 1;
    while state
        .held
        .is_some_and(|held| first.starts_with(held.as_bytes()))
    {
        let waited = shared.changed.wait(state);
        state = waited.unwrap_or_else(PoisonError::into_inner);
    }
    state.waiting -= 1;
    drop(state);
    let Ok(mut server) = TcpStream::connect(target) else {
        return;
    };
    let copies = [client.try_clone(), server.try_clone()];
    shared.lock().open.extend(copies.into_iter().flatten());
    if server.write_all(first).is_err() {
        return;
    }
    let (Ok(from), Ok(to)) = (server.try_clone(), client.try_clone()) else {
        return;
    };
    std::thread::spawn(move || copy(from, to));
    copy(client, server);
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

//! What the tests of this room share: a core to run on, an origin to talk to, waiting for an event with a deadline.

use std::future::Future;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use narthex_config::model::{HealthCheck, HttpProbe, Probe, Server, ServerAddress, Upstream};
use narthex_net::rt;

pub(crate) const LONGEST: Duration = Duration::from_secs(20);

/// Runs `work` to its end as a task of a core of its own.
pub(crate) fn on_core<T, F>(work: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    start_core(work).wait()
}

/// A core at work.
pub(crate) struct Working<T> {
    result: Receiver<T>,
    thread: JoinHandle<()>,
}

impl<T> Working<T> {
    pub(crate) fn wait(self) -> T {
        match self.result.recv_timeout(2 * LONGEST) {
            Ok(result) => {
                self.thread.join().unwrap();
                result
            }
            Err(e) => panic!("the work on the core did not end, or panicked: {e}"),
        }
    }
}

pub(crate) fn start_core<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Working<T>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let (sender, result) = channel();
    let thread = std::thread::spawn(move || {
        let core = rt::Core::enter(id).unwrap();
        rt::spawn(async move {
            // Ends the core even when the work panics.
            struct Stop;
            impl Drop for Stop {
                fn drop(&mut self) {
                    rt::current_core().stop();
                }
            }
            let _stop = Stop;
            let result = work().await;
            let _ = sender.send(result);
        });
        core.run().unwrap();
    });
    Working { result, thread }
}

/// Waits, on a core, until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONGEST;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        rt::sleep_until(rt::now_ms() + 1).await;
    }
}

/// Accepts connections and gives them to the test.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    accepted: Receiver<TcpStream>,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted): (Sender<TcpStream>, _) = channel();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept()
                && sender.send(stream).is_ok()
            {}
        });
        Self { address, accepted }
    }

    pub(crate) fn accept(&self) -> TcpStream {
        let stream = self.accepted.recv_timeout(LONGEST).expect("a connection");
        stream.set_read_timeout(Some(LONGEST)).unwrap();
        stream
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

pub(crate) fn server(address: SocketAddr) -> Server {
    Server::new(address.to_string(), ServerAddress::Ip(address))
}

/// Any check.
pub(crate) fn health() -> HealthCheck {
    HealthCheck::of(Probe::Http(HttpProbe::new("/")))
}

pub(crate) fn upstream(name: &str, servers: impl IntoIterator<Item = SocketAddr>) -> Upstream {
    let mut upstream = Upstream::new(name);
    upstream.servers = servers.into_iter().map(server).collect();
    upstream
}

//! An origin of the demo: a name, a colour, a page, and a life that can be taken from it for ten seconds.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::page;
use super::server::{Open, Reply, Request, accept};

/// How long a killed origin stays away.
pub const AWAY: Duration = Duration::from_secs(10);

/// An origin.
pub struct Origin {
    name: &'static str,
    port: u16,
    down: Arc<AtomicBool>,
    open: Arc<Open>,
    thread: std::thread::Thread,
}

impl Origin {
    /// Starts it on a free port.
    pub fn start(name: &'static str, color: &'static str) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (down, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Open::default()));
        let served = AtomicU64::new(0);
        let answer: Arc<dyn Fn(&Request) -> Reply + Send + Sync> = Arc::new(move |request| {
            reply(
                name,
                color,
                request,
                served.fetch_add(1, Ordering::Relaxed) + 1,
            )
        });
        let life = Life {
            port,
            down: Arc::clone(&down),
            open: Arc::clone(&open),
            answer,
        };
        let thread = std::thread::Builder::new()
            .name(format!("demo-{name}"))
            .spawn(move || life.run(listener))?;
        Ok(Self {
            name,
            port,
            down,
            open,
            thread: thread.thread().clone(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Does it answer?
    pub fn is_up(&self) -> bool {
        !self.down.load(Ordering::Acquire)
    }

    /// Closes its socket and every connection, for [`AWAY`].
    pub fn kill(&self) {
        if self.down.swap(true, Ordering::AcqRel) {
            return;
        }
        self.open.cut();
        // Ends the accept that it waits in.
        let _ = TcpStream::connect_timeout(
            &SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
            Duration::from_secs(1),
        );
        self.thread.unpark();
    }
}

struct Life {
    port: u16,
    down: Arc<AtomicBool>,
    open: Arc<Open>,
    answer: Arc<dyn Fn(&Request) -> Reply + Send + Sync>,
}

impl Life {
    fn run(self, mut listener: TcpListener) {
        loop {
            accept(&listener, &self.open, &self.answer, || {
                !self.down.load(Ordering::Acquire)
            });
            drop(listener);
            self.open.cut();
            wait(AWAY);
            listener = loop {
                match TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)) {
                    Ok(listener) => break listener,
                    Err(_) => wait(Duration::from_secs(1)),
                }
            };
            self.down.store(false, Ordering::Release);
        }
    }
}

/// Parks for the whole time, whoever unparks.
fn wait(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
}

fn reply(name: &str, color: &str, request: &Request, served: u64) -> Reply {
    let (kind, body) = match request.path.as_str() {
        "/healthz" => ("text/plain", "well\n".to_owned()),
        "/name" => ("text/plain", format!("{name}\n")),
        _ => (
            "text/html; charset=utf-8",
            page::origin(name, color, request, served),
        ),
    };
    Reply {
        status: "200 OK",
        kind,
        body,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn ask(port: u16, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn it_says_its_name_until_it_is_killed() {
        let origin = Origin::start("Jade", "green").unwrap();
        assert!(
            ask(origin.port(), "/name")
                .unwrap()
                .ends_with("\r\n\r\nJade\n")
        );
        origin.kill();
        assert!(!origin.is_up());
        // The socket closes as soon as its thread sees it; until then an accepted connection is cut without an answer.
        let deadline = Instant::now() + Duration::from_secs(5);
        while ask(origin.port(), "/name").is_ok_and(|text| !text.is_empty()) {
            assert!(Instant::now() < deadline, "a killed origin still answers");
        }
    }
}

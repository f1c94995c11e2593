//! What is asked of the generator, and what came of it.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddrV4;

use crate::client::Failure;
use crate::hist::Hist;
use crate::http;
use crate::poll::Token;
use crate::watch::Sample;

/// A command.
#[derive(Debug)]
pub struct Order {
    /// The proxy.
    pub target: SocketAddrV4,
    /// The request's head.
    pub request: Vec<u8>,
    /// Bytes of its body.
    pub upload: u64,
    /// Connections.
    pub conns: usize,
    /// Seconds that count, and before them.
    pub secs: f64,
    /// Seconds before the count begins.
    pub warm: f64,
    /// Requests that count, instead of seconds.
    pub count: Option<u64>,
    /// Requests per second, of a Poisson process; 0: the next as soon as one is answered.
    pub rate: f64,
    /// Sleep between arrivals instead of spinning: leaves the core to others, and counts a request from when it is sent.
    pub gentle: bool,
    /// A new connection per request.
    pub fresh: bool,
    /// Say `warm` after the warm-up and `done` at the end, and wait for a line each time: somebody attaches an instrument.
    pub steps: bool,
    /// Processes to watch.
    pub watch: Vec<u32>,
    /// `idle`: one request per connection, then silence for so many seconds.
    pub hold: Option<f64>,
    /// All connections ask at once, one time.
    pub is_burst: bool,
    /// Numbers that stand in the path.
    keys: u64,
    /// They come by chance.
    shuffle: bool,
    /// Where the number stands in the request.
    number: Option<usize>,
}

/// Digits of a number in the path.
const DIGITS: usize = 9;

impl Order {
    /// Reads a command's line.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let what = words.next().unwrap_or_default();
        let pairs: HashMap<&str, &str> = words.filter_map(|w| w.split_once('=')).collect();
        let number = |key: &str, default: f64| -> Result<f64, String> {
            pairs.get(key).map_or(Ok(default), |v| {
                v.parse().map_err(|_| format!("{key}={v} is not a number"))
            })
        };
        let upload = pairs.get("post").map_or(Some(0), |v| http::size(v));
        let upload = upload.ok_or("post wants a size")?;
        let path = pairs.get("path").copied().unwrap_or("/128");
        let (request, number_at) = request(path, upload);
        if !matches!(what, "load" | "idle" | "burst") {
            return Err(format!("no command `{what}`"));
        }
        Ok(Self {
            target: pairs
                .get("target")
                .and_then(|t| t.parse().ok())
                .ok_or("target wants an address")?,
            request,
            upload,
            conns: number("conns", 64.0)? as usize,
            secs: number("secs", 2.0)?,
            warm: number("warm", 0.5)?,
            count: pairs.get("count").and_then(|v| v.parse().ok()),
            rate: number("rate", 0.0)?,
            gentle: number("gentle", 0.0)? > 0.0,
            fresh: number("fresh", 0.0)? > 0.0,
            steps: number("steps", 0.0)? > 0.0,
            watch: pairs
                .get("watch")
                .map(|v| v.split(',').filter_map(|p| p.parse().ok()).collect())
                .unwrap_or_default(),
            hold: if what == "idle" {
                Some(number("hold", 3.0)?)
            } else {
                None
            },
            is_burst: what == "burst",
            keys: number("keys", 1.0)?.max(1.0) as u64,
            shuffle: number("shuffle", 0.0)? > 0.0,
            number: number_at,
        })
    }

    /// The request for a key.
    pub fn request(&mut self, key: u64) -> &[u8] {
        if let Some(at) = self.number {
            let mut rest = key;
            for digit in self.request[at..at + DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        &self.request
    }
}

/// A request, and where the number stands that `%` is in the path.
fn request(path: &str, upload: u64) -> (Vec<u8>, Option<usize>) {
    let number_at = path.find('%');
    let path = path.replace('%', &"0".repeat(DIGITS));
    let mut head = String::new();
    let method = if upload > 0 { "POST" } else { "GET" };
    let number_at = number_at.map(|at| method.len() + 1 + at);
    let _ = write!(
        head,
        "{method} {path} HTTP/1.1\r\nHost: bench.example.com\r\nUser-Agent: rig/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n"
    );
    if upload > 0 {
        let _ = write!(
            head,
            "Content-Type: application/octet-stream\r\nContent-Length: {upload}\r\n"
        );
    }
    head.push_str("\r\n");
    (head.into_bytes(), number_at)
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers.
    pub answers: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Answers other than 200.
    pub not_200: u64,
    /// Failures to connect.
    pub no_connect: u64,
    /// Resets.
    pub resets: u64,
    /// Answers cut off.
    pub cut: u64,
    /// Answers that were none.
    pub malformed: u64,
    /// Connections closed between requests: allowed, and no failure.
    pub closed: u64,
    /// Times from due to complete.
    pub times: Hist,
}

impl Tally {
    /// Counts a failure.
    pub fn fail(&mut self, how: Failure) {
        match how {
            Failure::Connect => self.no_connect += 1,
            Failure::Reset => self.resets += 1,
            Failure::Cut => self.cut += 1,
            Failure::Malformed => self.malformed += 1,
        }
    }

    /// Requests and connections that failed.
    pub fn errors(&self) -> u64 {
        self.no_connect + self.resets + self.cut + self.malformed
    }
}

/// A command being carried out.
#[derive(Debug)]
pub struct Load {
    /// The command.
    pub order: Order,
    /// The count since the warm-up.
    pub tally: Tally,
    /// Connections with nothing to do.
    pub idle: Vec<Token>,
    /// Arrivals that found no idle connection: when they were due.
    pub waiting: VecDeque<u64>,
    /// Connections.
    pub open: usize,
    /// Of them, with a request under way.
    pub busy: usize,
    /// No new requests.
    pub stopping: bool,
    arrivals: Arrivals,
    /// The last key, or what it was drawn from.
    key: u64,
}

impl Load {
    /// Nothing done yet.
    pub fn new(order: Order, now: u64) -> Self {
        let arrivals = Arrivals {
            next: now,
            state: 0x2545_f491_4f6c_dd1d,
            mean_ns: 1e9 / order.rate.max(1e-3),
        };
        Self {
            order,
            tally: Tally::default(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            open: 0,
            busy: 0,
            stopping: false,
            arrivals,
            key: 0,
        }
    }

    /// What is asked for next.
    pub fn next_key(&mut self) -> u64 {
        let keys = self.order.keys;
        if self.order.shuffle {
            // a full period of 2^64 (Knuth); the high bits are the good ones
            let step = self.key.wrapping_mul(6_364_136_223_846_793_005);
            self.key = step.wrapping_add(1_442_695_040_888_963_407);
            (self.key >> 32) % keys
        } else {
            self.key = (self.key + 1) % keys;
            self.key
        }
    }

    /// Requests come at a rate, not when one is answered.
    pub fn is_open_loop(&self) -> bool {
        self.order.rate > 0.0
    }

    /// The next arrival that is due.
    pub fn arrival(&mut self, now: u64) -> Option<u64> {
        if self.stopping || !self.is_open_loop() || self.arrivals.next > now {
            return None;
        }
        let due = self.arrivals.next;
        self.arrivals.step();
        Some(due)
    }

    /// The result's line.
    pub fn result(
        &self,
        secs: f64,
        before: Sample,
        after: Sample,
        own: (Sample, Sample),
    ) -> String {
        let t = &self.tally;
        let ticks = |a: u64, b: u64| b.saturating_sub(a);
        format!(
            "ok requests={} secs={secs:.4} errors={} no_connect={} resets={} cut={} malformed={} not_200={} closed={} bytes={} \
             p50_us={:.1} p90_us={:.1} p99_us={:.1} p999_us={:.1} max_us={:.1} cpu_ns={} user={} system={} own_ns={} unfinished={}",
            t.answers,
            t.errors(),
            t.no_connect,
            t.resets,
            t.cut,
            t.malformed,
            t.not_200,
            t.closed,
            t.bytes,
            t.times.quantile_us(0.5),
            t.times.quantile_us(0.9),
            t.times.quantile_us(0.99),
            t.times.quantile_us(0.999),
            t.times.max_us(),
            ticks(before.cpu_ns, after.cpu_ns),
            ticks(before.user, after.user),
            ticks(before.system, after.system),
            ticks(own.0.cpu_ns, own.1.cpu_ns),
            self.busy + self.waiting.len(),
        )
    }
}

/// A Poisson process, the same at every run.
#[derive(Debug)]
struct Arrivals {
    next: u64,
    state: u64,
    mean_ns: f64,
}

impl Arrivals {
    fn step(&mut self) {
        // xorshift64; the gap of a Poisson process is exponential.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let uniform = ((self.state >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        self.next += (-uniform.ln() * self.mean_ns) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let o =
            Order::parse("load target=127.0.0.1:1 path=/up post=100k conns=32 rate=5000 watch=1,2")
                .expect("command");
        assert_eq!((o.upload, o.conns, o.watch.len()), (102_400, 32, 2));
        assert!(o.request.starts_with(b"POST /up HTTP/1.1\r\n"));
        assert!(Order::parse("load path=/x").is_err());
        assert!(Order::parse("nothing target=127.0.0.1:1").is_err());
    }

    #[test]
    fn a_number_stands_in_the_path() {
        let order = Order::parse("load target=127.0.0.1:1 path=/k/%/1k keys=20").expect("command");
        let mut load = Load::new(order, 0);
        let keys: Vec<u64> = (0..20).map(|_| load.next_key()).collect();
        assert_eq!((keys[0], keys[18], keys[19]), (1, 19, 0));
        let request = load.order.request(1_234).to_vec();
        assert!(request.starts_with(b"GET /k/000001234/1k HTTP/1.1\r\n"));
    }

    #[test]
    fn arrivals_keep_their_rate() {
        let order = Order::parse("load target=127.0.0.1:1 rate=5000").expect("command");
        let mut load = Load::new(order, 0);
        let mut n = 0;
        while load.arrival(10_000_000_000).is_some() {
            n += 1;
        }
        assert!((49_000..51_000).contains(&n), "{n} in ten seconds");
    }
}

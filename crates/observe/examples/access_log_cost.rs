//! What a record costs a core: `cargo run --release -p narthex-observe --example access_log_cost`.
//!
//! `format` is formatting alone; `log` is the whole way of the core, with the writer thread writing to a file (give its path as
//! the argument; `/dev/null` otherwise). Also what a counter and a histogram cost. Best of several rounds, CPU time of this
//! thread.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use narthex_observe::access_log::{Format, Formatter, LogSink, LogTarget, Record};
use narthex_observe::metrics::{Registry, Unit};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 20;
const RECORDS: u64 = 100_000;

fn main() -> std::io::Result<()> {
    let record = typical();
    for (name, format) in [("json", Format::Json), ("combined", Format::Combined)] {
        let format = Arc::new(format);
        let mut formatter = Formatter::new(Arc::clone(&format));
        let mut out = Vec::with_capacity(64 * 1024);
        let cost = measure(|n| {
            if out.len() > 32 * 1024 {
                out.clear();
            }
            formatter.write(
                black_box(&Record {
                    time_ms: record.time_ms + n / 10,
                    ..record
                }),
                &mut out,
            );
        });
        out.clear();
        formatter.write(&record, &mut out);
        println!("{name}: format {cost:.0} ns a line of {} bytes", out.len());

        let path = std::env::args()
            .nth(1)
            .map_or_else(|| PathBuf::from("/dev/null"), PathBuf::from);
        let sink = LogSink::open(LogTarget::File(path), 64 << 20, Duration::from_secs(1))?;
        let mut handle = sink.handle(format);
        let cost = measure(|n| {
            handle.log(black_box(&Record {
                time_ms: record.time_ms + n / 10,
                ..record
            }));
        });
        drop(handle);
        let after = sink.clone();
        sink.close(Duration::from_secs(30));
        println!(
            "{name}: log {cost:.0} ns a line ({} dropped)",
            after.dropped()
        );
    }
    let registry = Registry::new(2);
    let counter = registry.counter("c_total", "C.", &[]);
    println!(
        "counter: {:.1} ns",
        measure(|n| black_box(&counter).add(1, n))
    );
    let histogram = registry.histogram("h_seconds", "H.", &[], Unit::Seconds);
    println!(
        "histogram: {:.1} ns",
        measure(|n| black_box(&histogram).observe(1, n))
    );
    Ok(())
}

fn typical<'a>() -> Record<'a> {
    Record {
        time_ms: 1_795_000_000_123,
        client: Some([203, 0, 113, 57].into()),
        client_port: 50_123,
        method: b"GET",
        scheme: "https",
        authority: b"shop.example.com",
        path: b"/assets/products/2041/large.webp",
        query: Some(b"v=20260301&w=1280"),
        protocol: "HTTP/1.1",
        status: 200,
        bytes_sent: 48_213,
        duration_us: 12_034,
        upstream: "web",
        server: "10.0.0.17:8080",
        attempts: 1,
        upstream_us: Some(11_512),
        request_id: b"018f3c2a7b9d4e6f8a1b2c3d4e5f6071",
        site: "shop.example.com",
        route: "/assets/*",
        user_agent: b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
        referer: b"https://shop.example.com/products/2041",
        ..Record::default()
    }
}

/// Nanoseconds of this thread's CPU time per call, in the best round.
fn measure(mut action: impl FnMut(u64)) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let started = now();
        for n in 0..RECORDS {
            action(n);
        }
        best = best.min((now() - started) / RECORDS as f64);
    }
    best
}

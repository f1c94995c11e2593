//! A crowd asks for the same at the same moment: on a cold key, on a stale one, on one that cannot be kept.

use std::path::Path;

use super::{all_answered, asked, config, times_ms};
use crate::rig::{self, Answer, Rig};
use crate::scorecard::admin::Admin;
use crate::scorecard::{Part, Size, start};
use crate::served::Served;
use crate::sh;

const PORT: u16 = 9_151;
const ORIGIN: &str = "127.0.0.1:9015";
/// Open files beside those connections: in the proxy also what a worker keeps to the origin that another one has no use of.
const OTHER_FILES: usize = 4_000;
/// What an origin gets that takes 200 ms, by what is looked at.
const COLD: &str = "/wait-200/cold/1k";
const LARGE: &str = "/wait-200/large/100k";
const BEHIND: &str = "/behind/wait-200/1k";
const PLAIN: &str = "/plain/wait-200/1k";
const UNKEPT: &str = "/wait-200/no-store/1k";

const SITE: &str = "    cache ttl=\"1h\"\n    \
    route path=\"/behind/*\" { cache ttl=\"1h\" stale-while-revalidate=\"1h\"; proxy \"be\" }\n    \
    route path=\"/plain/*\" { cache #false; proxy \"be\" }\n";

struct Crowd {
    /// The generator and the origin.
    rig: Rig,
    proxy: Served,
    admin: Admin,
    workers: usize,
}

/// Does it.
pub fn run(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    let mut part = Part::new("stampede");
    for &workers in size.crowd_workers {
        let top = format!("workers {workers}\ncache memory=\"256MiB\"\n");
        let text = config(work, (PORT, ORIGIN), &top, SITE);
        let rig = Rig::start("", ORIGIN)?;
        let (proxy, file) = start(narthex, work, &text, PORT)?;
        part.config = file;
        let mut crowd = Crowd {
            rig,
            proxy,
            admin: Admin::connect(&work.join("admin.sock"))?,
            workers,
        };
        crowd.look(&mut part, size)?;
    }
    Ok(part)
}

impl Crowd {
    fn look(&mut self, part: &mut Part, size: &Size) -> Result<(), String> {
        let crowd = size.crowd;
        self.one_fetch(part, "cold, 1 KiB", COLD, crowd)?;
        self.one_fetch(part, "cold, 100 KiB", LARGE, crowd)?;
        self.soften()?;
        self.one_fetch(part, "stale, 1 KiB", COLD, crowd)?;
        self.one_fetch(part, "cold, 1 KiB, may be served stale", BEHIND, crowd)?;
        self.soften()?;
        self.one_fetch(part, "stale, 1 KiB, may be served stale", BEHIND, crowd)?;
        // Each client needs a connection to the origin here: a file more, in the proxy and in the generator.
        let crowd = crowd.min(sh::open_files().saturating_sub(OTHER_FILES) / 2);
        self.burst(part, "without a cache, connections made", PLAIN, crowd)?;
        self.burst(part, "without a cache", PLAIN, crowd)?;
        let fetches = self.burst(part, "not to be kept, nobody knows it", UNKEPT, crowd)?;
        let known = self.burst(part, "not to be kept, known", UNKEPT, crowd)?;
        if [fetches, known] != [crowd as u64; 2] {
            part.faults.push(format!(
                "{crowd} clients of what is not to be kept, and the origin saw {fetches} and {known} requests"
            ));
        }
        Ok(())
    }

    fn soften(&mut self) -> Result<(), String> {
        let all = "{\"everything\":true,\"soft\":true}";
        self.admin.call("POST", "/cache/purge", all).map(drop)
    }

    fn one_fetch(
        &mut self,
        part: &mut Part,
        what: &str,
        path: &str,
        crowd: usize,
    ) -> Result<(), String> {
        let fetches = self.burst(part, what, path, crowd)?;
        if fetches != 1 {
            let workers = self.workers;
            part.faults.push(format!(
                "{what}, {workers} workers: {fetches} fetches, must be 1"
            ));
        }
        Ok(())
    }

    /// A row; requests that the origin saw.
    fn burst(
        &mut self,
        part: &mut Part,
        what: &str,
        path: &str,
        crowd: usize,
    ) -> Result<u64, String> {
        let before = asked(&mut self.rig)?;
        let a: Answer = self.rig.ask(&format!(
            "burst target=127.0.0.1:{PORT} path={path} conns={crowd} {}",
            rig::watch(&self.proxy.pids())
        ))?;
        // A fetch behind an answer may be under way.
        sh::eventually(std::time::Duration::from_secs(2), || {
            asked(&mut self.rig).is_ok_and(|now| now > before)
        });
        let fetches = asked(&mut self.rig)? - before;
        let what = format!("{what}, {} worker(s)", self.workers);
        all_answered(part, &what, &a);
        part.row(
            &format!("{what}: clients, fetches; p50 / p99 / longest, ms; all answered after, asked within, ms; CPU, ms"),
            format!(
                "{}, {fetches}; {}; {:.0}, {:.0}; {:.0}",
                a.get("requests"),
                times_ms(&a, &["p50_us", "p99_us", "max_us"]),
                a.get("secs") * 1e3,
                a.get("sending_us") / 1e3,
                a.get("cpu_ns") / 1e6,
            ),
        );
        Ok(fetches)
    }
}

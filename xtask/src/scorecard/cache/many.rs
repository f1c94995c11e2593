//! As many objects as a large site has: what one of them takes, what a hit among them costs, the bound, and purging all of them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{PROXY_CORE, RIG_CORE, all_answered, asked, config, cpu_us};
use crate::procfs;
use crate::rig::{self, Answer, Rig};
use crate::scorecard::admin::Admin;
use crate::scorecard::http::Client;
use crate::scorecard::{Part, Size, start_on};
use crate::served::Served;
use crate::sh;

const PORT: u16 = 9_171;
const ORIGIN: &str = "127.0.0.1:9017";
const MEMORY: &str = "3GiB";
/// Objects that hits of many are compared with.
const FEW: u64 = 1_000;
const BODY: f64 = 1024.0;
const MIB: f64 = 1_048_576.0;
/// Longest wait for the sweeper.
const SWEPT: Duration = Duration::from_mins(2);

fn text(work: &Path, memory: &str) -> String {
    let top = format!("workers 1\ncache memory=\"{memory}\"\n");
    config(work, (PORT, ORIGIN), &top, "    cache ttl=\"1h\"\n")
}

struct Many {
    rig: Rig,
    proxy: Served,
    admin: Admin,
    pids: Vec<u32>,
}

/// Does it.
pub fn run(narthex: &Path, work: &Path, size: &Size) -> Result<Part, String> {
    let mut part = Part::new("many objects");
    let rig = Rig::start(RIG_CORE, ORIGIN)?;
    let (proxy, file) = start_on(PROXY_CORE, narthex, work, &text(work, MEMORY), PORT)?;
    let mut many = Many {
        rig,
        pids: proxy.pids(),
        admin: Admin::connect(&work.join("admin.sock"))?,
        proxy,
    };
    // What is allocated once per process is not an object's.
    many.load(
        &mut part,
        "/few",
        &format!("keys={FEW} warm=0 count={}", 2 * FEW),
    )?;
    let few = many.hits(&mut part, size, "/few", FEW)?;
    many.fill(&mut part, size)?;
    let all = many.hits(&mut part, size, "/many", size.objects)?;
    part.row(
        &format!("CPU of a hit, µs: of {FEW} objects, of all; ratio"),
        format!(
            "{:.2}, {:.2}; {:.2}",
            cpu_us(&few),
            cpu_us(&all),
            cpu_us(&all) / cpu_us(&few).max(1e-9)
        ),
    );
    many.bound(&mut part, work, &file, size)?;
    many.purge(&mut part, size)?;
    let Many { rig, proxy, .. } = many;
    proxy.stop();
    full_from_the_start(&mut part, rig, (narthex, work), size)?;
    part.config = file;
    Ok(part)
}

/// A process that never had more memory than what is soon full, and all of the objects come by.
fn full_from_the_start(
    part: &mut Part,
    rig: Rig,
    (narthex, work): (&Path, &Path),
    size: &Size,
) -> Result<(), String> {
    let memory = size.objects * 256;
    let text = text(work, &format!("{memory}B"));
    let (proxy, _) = start_on(PROXY_CORE, narthex, work, &text, PORT)?;
    let mut many = Many {
        rig,
        pids: proxy.pids(),
        admin: Admin::connect(&work.join("admin.sock"))?,
        proxy,
    };
    let empty = procfs::resident(&many.pids) as f64;
    let count = size.objects;
    many.load(part, "/full", &format!("keys={count} warm=0 count={count}"))?;
    let bytes = many.admin.stats()?.get("bytes");
    part.row(
        "a process with little memory: bound, what is there, resident for it, MiB",
        format!(
            "{:.1}, {:.1}, {:.1}",
            memory as f64 / MIB,
            bytes / MIB,
            (procfs::resident(&many.pids) as f64 - empty) / MIB
        ),
    );
    if bytes > memory as f64 {
        part.faults
            .push(format!("{bytes} bytes, where {memory} may be"));
    }
    Ok(())
}

impl Many {
    fn load(&mut self, part: &mut Part, path: &str, how: &str) -> Result<Answer, String> {
        let a = self.rig.ask(&format!(
            "load target={} path={path}/%/1k {how} {}",
            self.proxy.address,
            rig::watch(&self.pids)
        ))?;
        all_answered(part, path, &a);
        Ok(a)
    }

    /// Hits by chance among so many; none may ask the origin.
    fn hits(
        &mut self,
        part: &mut Part,
        size: &Size,
        path: &str,
        keys: u64,
    ) -> Result<Answer, String> {
        let before = asked(&mut self.rig)?;
        let how = format!("keys={keys} shuffle=1 secs={}", size.hit_seconds / 3.0);
        let a = self.load(part, path, &how)?;
        let fetches = asked(&mut self.rig)? - before;
        part.zero(&format!("hits among {keys} that were none"), fetches as f64);
        Ok(a)
    }

    fn fill(&mut self, part: &mut Part, size: &Size) -> Result<(), String> {
        let count = size.objects;
        let empty = procfs::resident(&self.pids) as f64;
        let a = self.load(part, "/many", &format!("keys={count} warm=0 count={count}"))?;
        let stats = self.admin.stats()?;
        let resident = procfs::resident(&self.pids) as f64 - empty;
        let head = stored_head()?;
        let beside = resident / count as f64 - BODY - head;
        part.row("objects", stats.get("objects"));
        part.row(
            "filled a second; CPU each, µs",
            format!(
                "{:.0}; {:.1}",
                a.get("requests") / a.get("secs").max(1e-9),
                cpu_us(&a)
            ),
        );
        part.row(
            "resident per object, bytes: all, body, head, beside them; as the cache counts",
            format!(
                "{:.0}, {BODY}, {head}, {beside:.0}; {:.0}",
                resident / count as f64,
                stats.get("bytes") / stats.get("objects").max(1.0)
            ),
        );
        let missing = (count + FEW) as f64 - stats.get("objects");
        part.zero("objects that are not there", missing);
        if beside > size.object_bytes {
            let most = size.object_bytes;
            part.faults.push(format!(
                "{beside:.0} bytes per object beside body and head, at most {most}"
            ));
        }
        Ok(())
    }

    /// Half the memory from now on, and half as many new objects.
    fn bound(
        &mut self,
        part: &mut Part,
        work: &Path,
        file: &Path,
        size: &Size,
    ) -> Result<(), String> {
        let half = (self.admin.stats()?.get("bytes") / 2.0).floor();
        sh::write(file, &text(work, &format!("{half}B")))?;
        let begun = Instant::now();
        self.admin.call("POST", "/reload", "")?;
        let took = begun.elapsed();
        let stats = self.admin.stats()?;
        part.row(
            "half the memory: reload took, ms",
            format!("{:.0}", took.as_secs_f64() * 1e3),
        );
        let mut most = stats.get("bytes");
        let mut left = size.objects / 2;
        let mut at = 0;
        while left > 0 {
            // Looked at again and again.
            let now = left.min(size.objects / 10);
            self.load(
                part,
                &format!("/new-{at}"),
                &format!("keys={now} warm=0 count={now}"),
            )?;
            most = most.max(self.admin.stats()?.get("bytes"));
            left -= now;
            at += 1;
        }
        let stats = self.admin.stats()?;
        part.row(
            "bound, most that was there, MiB; evictions",
            format!(
                "{:.1}, {:.1}; {}",
                half / MIB,
                most / MIB,
                stats.get("evictions")
            ),
        );
        part.row(
            "resident then, MiB",
            format!("{:.1}", procfs::resident(&self.pids) as f64 / MIB),
        );
        if most > half || stats.get("evictions") == 0.0 {
            part.faults
                .push(format!("{most} bytes, where {half} may be"));
        }
        Ok(())
    }

    /// Everything at once, beside hits.
    fn purge(&mut self, part: &mut Part, size: &Size) -> Result<(), String> {
        let objects = self.admin.stats()?.get("objects");
        let rate = if size.hit_rate > 0.0 {
            size.hit_rate
        } else {
            5_000.0
        };
        let how = format!("keys=1 rate={rate} secs={}", size.hit_seconds / 2.0);
        let load = format!("load target={} path=/hot/%/1k {how}", self.proxy.address);
        let quiet = self.rig.ask(&load)?;
        self.rig.order(&load)?;
        sh::pause(Duration::from_secs_f64(0.5 + size.hit_seconds / 10.0));
        let begun = Instant::now();
        self.admin
            .call("POST", "/cache/purge", "{\"everything\":true}")?;
        let took = begun.elapsed();
        let admin = &mut self.admin;
        let swept = sh::eventually(SWEPT, || {
            admin
                .stats()
                .is_ok_and(|stats| stats.get("objects") <= 1.0 && stats.get("purge_records") == 0.0)
        });
        let all = begun.elapsed();
        let beside = self.rig.answer()?;
        all_answered(part, "hits beside a purge of everything", &beside);
        part.row(
            "purge of everything: objects; answered, swept after, ms",
            format!(
                "{objects}; {:.1}, {:.0}",
                took.as_secs_f64() * 1e3,
                all.as_secs_f64() * 1e3
            ),
        );
        let times = |a: &Answer| {
            ["p50_us", "p99_us", "p999_us", "max_us"]
                .map(|name| format!("{:.0}", a.get(name)))
                .join(" / ")
        };
        part.row(
            "hits meanwhile, p50 / p99 / p999 / longest, µs; before",
            format!("{}; {}", times(&beside), times(&quiet)),
        );
        // The allocator gives back what is free when it is used again after a while.
        sh::pause(Duration::from_secs(2));
        self.load(
            part,
            "/after",
            &format!("keys={FEW} warm=0 count={}", 2 * FEW),
        )?;
        part.row(
            "resident after that, MiB",
            format!("{:.1}", procfs::resident(&self.pids) as f64 / MIB),
        );
        if !swept {
            part.faults.push("what was purged was not swept".into());
        }
        Ok(())
    }
}

/// Bytes of a head as it is kept: what the origin says, without its length and what tells of the origin.
fn stored_head() -> Result<f64, String> {
    let address = ORIGIN.parse().map_err(|_| "no address")?;
    let ask = || -> std::io::Result<usize> {
        let mut client = Client::connect(address)?;
        client.send(b"GET /1k HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let head = client.head()?;
        Ok(head.bytes - "Content-Length: 1024\r\nServer: rig\r\n".len())
    };
    ask().map(|n| n as f64).map_err(|e| e.to_string())
}

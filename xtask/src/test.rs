//! `cargo xtask test`: every test of the project, with one line of totals at the end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::args::Args;
use crate::totals::Totals;
use crate::{apt, browser, cache_judge, counts, docs, grpc, rig, scorecard, sh};

/// Requests under callgrind: enough for an exact figure, a few seconds.
const COUNTED: u64 = 2_000;

/// So many tests may fail once.
const UNSTABLE_MAX: usize = 3;

/// Does it.
pub fn run(mut args: Args) -> Result<(), String> {
    let only_cargo = args.flag("--only-cargo");
    args.end()?;
    let begin = Instant::now();
    // A C compiler links Rust and builds the allocator; OpenSSL judges our TLS; the others are what servers are discovered from,
    // what issues certificates, and peers.
    apt::ensure(&[
        ("cc", "gcc"),
        ("openssl", "openssl"),
        ("etcd", "etcd-server"),
        ("etcdctl", "etcd-client"),
        ("pebble", "pebble"),
        ("named", "bind9"),
        ("dig", "bind9-dnsutils"),
        // HTTP/2 as others speak it.
        ("nghttpd", "nghttp2-server"),
        ("h2load", "nghttp2-client"),
        ("curl", "curl"),
        // Ports 80 and 443 of a network of our own.
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
        // A module has no program; its file is as good.
        (
            "/usr/lib/python3/dist-packages/h2/__init__.py",
            "python3-h2",
        ),
    ])?;
    // Nobody else may start an engine; its tests say so then.
    if apt::is_root() {
        apt::ensure(&[("dockerd", "docker.io"), ("docker", "docker.io")])?;
    }
    grpc::ensure()?;
    browser::ensure()?;
    let mut totals = Totals::default();
    // The tests that want a name server that is not ours say nothing without one; this does.
    if let Err(why) = apt::ensure(&scorecard::NEEDS) {
        totals.skipped.push(format!("real name servers: {why}"));
    }
    let built = step("build the proxy", || sh::narthex("dev"));
    match built {
        Err(why) => totals.fail(format!("the proxy does not build: {why}")),
        Ok(binary) => {
            programs(&mut totals, &binary);
            second_look(&mut totals, &binary);
            if !only_cargo {
                checks(&mut totals, &binary);
            }
        }
    }
    report(&totals, begin);
    // The last two lines are for programs, and stay as they are.
    println!("tests: {totals}");
    println!("{totals}");
    if totals.failed_count == 0 {
        Ok(())
    } else {
        Err("tests failed".into())
    }
}

/// The workspace's own test programs, then the bench rig's (it is a workspace of its own).
fn programs(totals: &mut Totals, binary: &Path) {
    step("tests of the workspace", || {
        let mut cargo = sh::cargo();
        cargo.args(["test", "--workspace", "--no-fail-fast"]);
        cargo_test(totals, &mut cargo, binary);
    });
    step("tests of the bench rig", || {
        let mut cargo = sh::cargo();
        cargo
            .args(["test", "--quiet", "--release", "--manifest-path"])
            .arg(rig::manifest());
        cargo.arg("--target-dir").arg(rig::target_dir());
        cargo_test(totals, &mut cargo, binary);
    });
}

/// Tests that failed beside hundreds of others run once more, by themselves. One that passes then is named as unstable: the machine was
/// too slow for a deadline, or there is a race to be found. More than a few are no accident, and stay failures.
fn second_look(totals: &mut Totals, binary: &Path) {
    let again = totals.failed.clone();
    if again.is_empty() || again.len() > UNSTABLE_MAX || totals.failed_count != again.len() {
        return;
    }
    for name in again {
        let mut alone = Totals::default();
        step(&format!("once more, by itself: {name}"), || {
            let mut cargo = sh::cargo();
            cargo.args(["test", "--workspace", "--lib", "--bins", "--tests"]);
            cargo.args(["--no-fail-fast", "--", "--exact", &name]);
            cargo_test(&mut alone, &mut cargo, binary);
        });
        if alone.failed_count == 0 && alone.passed > 0 {
            totals.was_unstable(&name);
        }
    }
}

/// What is not a test program: generated pages, counts, and the scorecard at reduced counts.
fn checks(totals: &mut Totals, binary: &Path) {
    let pages = step("generated pages are current", || docs::check(binary));
    totals.check("generated pages", pages);
    let judged = step("the public tests of HTTP caches", || {
        cache_judge::check(binary)
    });
    totals.check("http-cache-tests", judged);
    let counted = step("instructions and syscalls per request", || {
        counts::guard("release", COUNTED)
    });
    for (name, result) in counted {
        totals.check(&name, result);
    }
    let card = step("scorecard, quick", || scorecard::quick(binary));
    for (name, result) in card {
        totals.check(&name, result);
    }
}

/// Runs a `cargo test`, shows its output and adds it up.
fn cargo_test(totals: &mut Totals, cargo: &mut Command, binary: &Path) {
    let before = totals.failed_count;
    let ended = cargo
        .env("NARTHEX_BIN", binary)
        .env("RUST_BACKTRACE", "1")
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            if let Some(out) = child.stdout.take() {
                for line in BufReader::new(out).split(b'\n') {
                    let line = line?;
                    let line = String::from_utf8_lossy(&line);
                    println!("{line}");
                    totals.line(&line);
                }
            }
            child.wait()
        });
    match ended {
        Ok(status) if status.success() => {}
        // A program that does not build, or dies, gives no result line.
        Ok(status) if totals.failed_count == before => {
            totals.fail(format!("`{}` ended with {status}", sh::said(cargo)));
        }
        Ok(_) => {}
        Err(error) => totals.fail(format!("cannot run `{}`: {error}", sh::said(cargo))),
    }
}

fn step<T>(name: &str, what: impl FnOnce() -> T) -> T {
    println!("--- {name}");
    let begin = Instant::now();
    let done = what();
    println!("--- {name}: {:.0} s", begin.elapsed().as_secs_f64());
    done
}

fn report(totals: &Totals, begin: Instant) {
    println!("--- all: {:.0} s", begin.elapsed().as_secs_f64());
    for name in &totals.skipped {
        println!("SKIPPED {name}");
    }
    for name in &totals.unstable {
        println!("UNSTABLE {name}: failed among the others, passed by itself");
    }
    for name in &totals.failed {
        println!("FAILED {name}");
    }
}

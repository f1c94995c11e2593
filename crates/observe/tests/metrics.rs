//! The registry as the other rooms use it.

#![allow(clippy::float_cmp, clippy::unwrap_used)] // whole numbers are exact in a float; a test may fail loudly

use std::collections::BTreeMap;
use std::thread;

use narthex_observe::metrics::{Kind, Registry, Unit};

/// Samples by name and labels; panics on a line that is no sample, and checks that every family has its head first.
fn read(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            head.split(' ').next().unwrap().clone_into(&mut family);
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.starts_with(&family), "{line} under {family}");
            let again = samples.insert(series.to_owned(), value.parse().unwrap());
            assert_eq!(again, None, "twice: {series}");
        }
    }
    samples
}

fn rendered(registry: &Registry) -> BTreeMap<String, f64> {
    let mut out = String::new();
    registry.render_prometheus(&mut out);
    assert!(out.ends_with('\n'));
    read(&out)
}

#[test]
fn cores_count_without_losing_any() {
    const CORES: usize = 4;
    const EACH: u64 = 50_000;
    let registry = Registry::new(CORES);
    let requests = registry.counter("requests_total", "Requests.", &[("site", "a")]);
    let open = registry.gauge("open", "Open.", &[]);
    let time = registry.histogram("time_seconds", "Time.", &[], Unit::Seconds);
    thread::scope(|scope| {
        for core in 0..CORES + 3 {
            let (requests, open, time, registry) =
                (requests.clone(), open.clone(), time.clone(), &registry);
            scope.spawn(move || {
                for turn in 0..EACH {
                    requests.add(core, 2);
                    open.add(core, if turn % 2 == 0 { 3 } else { -2 });
                    time.observe(core, turn);
                }
                let mut out = String::new();
                registry.render_prometheus(&mut out);
            });
        }
    });
    let threads = CORES as u64 + 3;
    assert_eq!(requests.value(), threads * EACH * 2);
    assert_eq!(open.value(), i64::try_from(threads * EACH / 2).unwrap());
    assert_eq!(time.count(), threads * EACH);
    assert_eq!(time.sum(), threads * (EACH * (EACH - 1) / 2));
}

#[test]
fn a_reload_finds_its_series_again() {
    let registry = Registry::new(2);
    let before = registry.counter("x_total", "X.", &[("route", "/a"), ("site", "s")]);
    before.add(0, 5);
    let after = registry.counter("x_total", "X.", &[("site", "s"), ("route", "/a")]);
    after.add(1, 2);
    drop(before);
    assert_eq!(after.value(), 7);
    assert_eq!(rendered(&registry)[r#"x_total{route="/a",site="s"}"#], 7.0);
    assert_eq!(registry.series(), 1);
}

#[test]
fn counts_survive_a_time_without_handles() {
    let registry = Registry::new(1);
    registry
        .counter("x_total", "X.", &[("route", "/a")])
        .add(0, 5);
    assert_eq!(
        registry
            .counter("x_total", "X.", &[("route", "/a")])
            .value(),
        5
    );
}

#[test]
fn a_full_registry_folds_and_says_so() {
    let registry = Registry::with_limit(1, 3);
    let handles: Vec<_> = (0..10)
        .map(|n| registry.counter("x_total", "X.", &[("route", &format!("/{n}"))]))
        .collect();
    for handle in &handles {
        handle.add(0, 1);
    }
    let samples = rendered(&registry);
    assert_eq!(samples[r#"x_total{route="/2"}"#], 1.0);
    assert_eq!(samples[r#"x_total{route="other"}"#], 7.0);
    assert_eq!(samples["narthex_metrics_folded_total"], 7.0);
    assert!(!samples.contains_key(r#"x_total{route="/3"}"#));
    // what was known before keeps its own series
    assert_eq!(
        registry
            .counter("x_total", "X.", &[("route", "/1")])
            .value(),
        1
    );
    // a series without labels always has room
    registry.counter("y_total", "Y.", &[]).add(0, 4);
    assert_eq!(rendered(&registry)["y_total"], 4.0);
}

#[test]
fn series_nobody_writes_make_room_and_start_again_at_zero() {
    let registry = Registry::with_limit(1, 2);
    let kept = registry.counter("x_total", "X.", &[("route", "kept")]);
    kept.add(0, 9);
    registry
        .counter("x_total", "X.", &[("route", "gone")])
        .add(0, 8);
    let new = registry.counter("x_total", "X.", &[("route", "new")]);
    assert_eq!(new.value(), 0, "freed cells are zeroed");
    new.add(0, 1);
    let samples = rendered(&registry);
    assert_eq!(samples[r#"x_total{route="new"}"#], 1.0);
    assert_eq!(samples[r#"x_total{route="kept"}"#], 9.0);
    assert!(!samples.contains_key(r#"x_total{route="gone"}"#));
    assert_eq!(registry.folded(), 0);
}

#[test]
fn labels_and_help_are_escaped() {
    let registry = Registry::new(1);
    registry
        .counter(
            "bad name-total",
            "Two\nlines \\ here.",
            &[("a-b", "q\"b\\n\nl")],
        )
        .add(0, 1);
    let mut out = String::new();
    registry.render_prometheus(&mut out);
    assert!(
        out.contains(
            "# HELP bad_name_total Two\\nlines \\\\ here.\n# TYPE bad_name_total counter\n"
        ),
        "{out}"
    );
    assert!(
        out.contains("bad_name_total{a_b=\"q\\\"b\\\\n\\nl\"} 1\n"),
        "{out}"
    );
}

#[test]
fn long_label_values_are_cut_on_a_character() {
    let registry = Registry::new(1);
    registry
        .gauge("g", "G.", &[("v", &"ü".repeat(4000))])
        .set(0, 1);
    let samples = rendered(&registry);
    let key = samples.keys().find(|key| key.starts_with("g{")).unwrap();
    assert_eq!(key.len(), "g{v=\"\"}".len() + 256);
}

#[test]
fn histogram_buckets_are_cumulative_and_end_in_infinity() {
    let registry = Registry::new(1);
    let time = registry.histogram("t_seconds", "T.", &[("s", "a")], Unit::Seconds);
    for micros in [
        1,
        100,
        101,
        1_000,
        99_000_000,
        200_000_000,
        u64::from(u32::MAX),
    ] {
        time.observe(0, micros);
    }
    let samples = rendered(&registry);
    assert_eq!(samples[r#"t_seconds_bucket{s="a",le="0.0001"}"#], 2.0);
    assert_eq!(samples[r#"t_seconds_bucket{s="a",le="0.00025"}"#], 3.0);
    assert_eq!(samples[r#"t_seconds_bucket{s="a",le="0.001"}"#], 4.0);
    assert_eq!(samples[r#"t_seconds_bucket{s="a",le="100"}"#], 5.0);
    assert_eq!(samples[r#"t_seconds_bucket{s="a",le="+Inf"}"#], 7.0);
    assert_eq!(samples[r#"t_seconds_count{s="a"}"#], 7.0);
    assert!((samples[r#"t_seconds_sum{s="a"}"#] - 4_593.968_497).abs() < 1e-6);
    let size = registry.histogram("b_bytes", "B.", &[], Unit::Bytes);
    size.observe(0, 1024);
    let samples = rendered(&registry);
    assert_eq!(samples[r#"b_bytes_bucket{le="256"}"#], 0.0);
    assert_eq!(samples[r#"b_bytes_bucket{le="1024"}"#], 1.0);
    assert_eq!(samples["b_bytes_sum"], 1024.0);
}

#[test]
fn one_name_is_one_kind() {
    let registry = Registry::new(1);
    registry.counter("x", "X.", &[]).add(0, 1);
    let detached = registry.gauge("x", "X.", &[]);
    detached.set(0, 50);
    assert_eq!(detached.value(), 50);
    assert_eq!(rendered(&registry)["x"], 1.0);
}

#[test]
fn collectors_are_asked_when_read_and_may_use_the_registry() {
    let registry = Registry::with_limit(1, 5);
    let inside = registry.clone();
    registry.collect("up", "Up.", Kind::Gauge, move |emit| {
        emit(&[("server", "a\"b")], f64::INFINITY);
        emit(&[], inside.series() as f64);
        for n in 0..100 {
            emit(&[("n", &n.to_string())], 1.5);
        }
    });
    let samples = rendered(&registry);
    assert_eq!(samples[r#"up{server="a\"b"}"#], f64::INFINITY);
    assert_eq!(samples["up"], 0.0);
    assert_eq!(samples[r#"up{n="0"}"#], 1.5);
    assert_eq!(
        samples.keys().filter(|key| key.starts_with("up")).count(),
        5
    );
}

#[test]
fn a_family_with_both_has_one_head() {
    let registry = Registry::new(1);
    registry.gauge("g", "G.", &[("a", "counted")]).set(0, 1);
    registry.collect("g", "G.", Kind::Gauge, |emit| emit(&[("a", "asked")], 2.0));
    let mut out = String::new();
    registry.render_prometheus(&mut out);
    assert_eq!(out.matches("# TYPE g gauge\n").count(), 1);
    assert!(out.contains("g{a=\"counted\"} 1\n") && out.contains("g{a=\"asked\"} 2\n"));
}

#[test]
fn the_process_is_in_it() {
    let samples = rendered(&Registry::new(1));
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(samples[name] >= 0.0, "{name}");
    }
}

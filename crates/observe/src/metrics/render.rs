//! The Prometheus text format 0.0.4.

use std::fmt::Write;

use super::process::ProcessFigures;
use super::registry::{Emit, Family, Kind, Series, State, label_key};
use super::{Histogram, Unit};

/// In a label value: backslash, quote and line feed are escaped. A carriage return would be legal; we write it as a line
/// feed so that nothing that reads lines stumbles.
pub(super) fn escape_label(value: &str, out: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' | '\r' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// In help text: backslash and line feed.
fn escape_help(help: &str, out: &mut String) {
    for letter in help.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' | '\r' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// `HELP` and `TYPE`.
pub(super) fn head(name: &str, help: &str, kind: Kind, out: &mut String) {
    out.push_str("# HELP ");
    out.push_str(name);
    out.push(' ');
    escape_help(help, out);
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    line(out, format_args!("\n# TYPE {name} {kind}"));
}

/// Appends text and a line feed. Writing to a `String` cannot fail.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// Every registered family, and the registry's own figures.
pub(super) fn families(state: &State, out: &mut String) {
    for (name, family) in &state.families {
        if !family.series.is_empty() {
            head(name, &family.help, family.kind, out);
            series(name, family, out);
        }
    }
    single(
        "narthex_metrics_series",
        "Series in the metrics registry.",
        Kind::Gauge,
        state.series as f64,
        out,
    );
    let help =
        "Registrations folded into a series whose labels say other, because the registry was full.";
    single(
        "narthex_metrics_folded_total",
        help,
        Kind::Counter,
        state.folded as f64,
        out,
    );
}

fn series(name: &str, family: &Family, out: &mut String) {
    for (labels, series) in &family.series {
        match series {
            Series::Counter(cell) => sample(name, labels, format_args!("{}", cell.sum()), out),
            Series::Gauge(cell) => sample(
                name,
                labels,
                format_args!("{}", cell.sum().cast_signed()),
                out,
            ),
            Series::Histogram(values) => histogram(name, labels, values, out),
        }
    }
}

fn sample(name: &str, labels: &str, value: std::fmt::Arguments<'_>, out: &mut String) {
    if labels.is_empty() {
        line(out, format_args!("{name} {value}"));
    } else {
        line(out, format_args!("{name}{{{labels}}} {value}"));
    }
}

fn histogram(name: &str, labels: &str, values: &Histogram, out: &mut String) {
    let comma = if labels.is_empty() { "" } else { "," };
    let counts = values.coarse();
    let bounds = values.unit().bounds();
    let mut total = 0;
    for (count, bound) in counts.iter().zip(bounds) {
        total += count;
        let le = in_unit(*bound, values.unit());
        line(
            out,
            format_args!("{name}_bucket{{{labels}{comma}le=\"{le}\"}} {total}"),
        );
    }
    total += counts.iter().skip(bounds.len()).sum::<u64>();
    line(
        out,
        format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}"),
    );
    sample(
        &format!("{name}_sum"),
        labels,
        format_args!("{}", in_unit(values.sum(), values.unit())),
        out,
    );
    sample(
        &format!("{name}_count"),
        labels,
        format_args!("{total}"),
        out,
    );
}

/// Microseconds as seconds; exact to 2^53 of them (285 years).
fn in_unit(value: u64, unit: Unit) -> f64 {
    match unit {
        Unit::Seconds => value as f64 / 1e6,
        Unit::Bytes => value as f64,
    }
}

/// A float as Prometheus reads it.
fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    }
}

fn single(name: &str, help: &str, kind: Kind, value: f64, out: &mut String) {
    head(name, help, kind, out);
    line(out, format_args!("{name} {}", number(value)));
}

/// The samples of a family that is asked now; at most `most`.
pub(super) fn collected(
    name: &str,
    collect: &dyn Fn(&mut Emit<'_>),
    most: usize,
    out: &mut String,
) {
    let mut left = most;
    collect(&mut |labels, value| {
        if left > 0 {
            left -= 1;
            sample(
                name,
                &label_key(labels),
                format_args!("{}", number(value)),
                out,
            );
        }
    });
}

/// The process's own figures.
pub(super) fn process(out: &mut String) {
    let figures = ProcessFigures::read();
    let bytes = |value: Option<u64>| value.map(|value| value as f64);
    let rows = [
        (
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            Kind::Counter,
            figures.cpu_seconds,
        ),
        (
            "process_open_fds",
            "Number of open file descriptors.",
            Kind::Gauge,
            bytes(figures.open_fds),
        ),
        (
            "process_max_fds",
            "Maximum number of open file descriptors.",
            Kind::Gauge,
            bytes(figures.max_fds),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            Kind::Gauge,
            bytes(figures.resident_bytes),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            Kind::Gauge,
            bytes(figures.virtual_bytes),
        ),
        (
            "process_threads",
            "Number of OS threads in the process.",
            Kind::Gauge,
            bytes(figures.threads),
        ),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            Kind::Gauge,
            figures.start_unix_seconds,
        ),
    ];
    for (name, help, kind, value) in rows {
        if let Some(value) = value {
            single(name, help, kind, value, out);
        }
    }
}

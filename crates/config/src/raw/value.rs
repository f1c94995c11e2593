//! One value: what was written, checked against what it must be.

use std::fmt::Write as _;
use std::time::Duration;

use crate::schema::Kind;
use crate::syntax::tree::{Scalar, Value};

/// A value that is what its key asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Val<'a> {
    /// Text, words, names, addresses.
    Text(&'a str),
    /// `#true`, `#false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A time.
    Duration(Duration),
    /// A size, or a rate per second.
    Bytes(u64),
    /// `"none"` where a size may be unlimited.
    Unlimited,
    /// Hundredths of a percent.
    Share(u32),
    /// Inclusive range of statuses.
    Statuses(u16, u16),
    /// Wrong, and reported.
    Bad,
}

/// Why a value is wrong.
pub struct Wrong {
    /// Code of the problem.
    pub code: &'static str,
    /// `"10sec" is not a duration`.
    pub message: String,
    /// `write "10s"`.
    pub help: String,
}

type Read<'a> = Result<Val<'a>, Wrong>;

fn wrong<T>(
    code: &'static str,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Result<T, Wrong> {
    Err(Wrong {
        code,
        message: message.into(),
        help: help.into(),
    })
}

/// The value as text for a message.
pub fn shown(scalar: &Scalar) -> String {
    match scalar {
        Scalar::String(s) => {
            let cut: String = s.chars().take(60).collect();
            if cut.len() < s.len() {
                format!("\"{cut}...\"")
            } else {
                format!("\"{cut}\"")
            }
        }
        Scalar::Integer(n) => n.to_string(),
        Scalar::Float(f) => f.to_string(),
        Scalar::Bool(b) => format!("#{b}"),
        Scalar::Null => "#null".to_owned(),
    }
}

/// Reads a duration such as `90s` or `1h30m`; or says what is wrong and what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let value = Value {
        scalar: Scalar::String(text.to_owned()),
        span: crate::source::Span::default(),
    };
    match read(&value, Kind::Duration) {
        Ok(Val::Duration(duration)) => Ok(duration),
        Ok(_) => Err(format!("\"{text}\" is not a duration")),
        Err(wrong) => Err(format!("{}; {}", wrong.message, wrong.help)),
    }
}

/// Reads one value.
pub fn read(value: &Value, kind: Kind) -> Read<'_> {
    let scalar = &value.scalar;
    match kind {
        Kind::Bool => boolean(scalar),
        Kind::Int(min, max) => integer(scalar, min, max),
        Kind::Duration => with_unit(scalar, "duration", "s", |t| duration(t, false)),
        Kind::DurationOrZero => with_unit(scalar, "duration", "s", |t| duration(t, true)),
        Kind::Size => with_unit(scalar, "size", "B", |t| size(t).map(Val::Bytes)),
        Kind::SizeOrNone if is_text(scalar, "none") => Ok(Val::Unlimited),
        Kind::SizeOrNone => with_unit(scalar, "size", "B", |t| size(t).map(Val::Bytes)),
        Kind::Rate => with_unit(scalar, "rate", "B/s", rate),
        Kind::Percent => with_unit(scalar, "percentage", "%", whole_percent),
        Kind::Share => with_unit(scalar, "percentage", "%", |t| share(t).map(Val::Share)),
        Kind::Memory => with_unit(scalar, "size or percentage", "MiB", memory),
        Kind::Status => statuses(scalar),
        Kind::TextOrFalse if *scalar == Scalar::Bool(false) => Ok(Val::Bool(false)),
        Kind::AnyText => text(scalar, true),
        Kind::Template => text(scalar, true),
        Kind::Word(words) => word(scalar, words),
        Kind::Secret => secret(scalar),
        Kind::Text | Kind::TextOrFalse | Kind::Of(_) | Kind::Regex => text(scalar, false),
    }
}

fn is_text(scalar: &Scalar, text: &str) -> bool {
    matches!(scalar, Scalar::String(s) if s == text)
}

fn text(scalar: &Scalar, empty: bool) -> Read<'_> {
    match scalar {
        Scalar::String(s) if s.is_empty() && !empty => wrong(
            "empty",
            "this text is empty",
            "write something between the quotes",
        ),
        Scalar::String(s) => Ok(Val::Text(s)),
        other => {
            let shown = shown(other);
            wrong(
                "not-text",
                format!("{shown} is not text"),
                format!("write \"{}\"", shown.trim_start_matches('#')),
            )
        }
    }
}

/// A secret is never shown, not even in the message that it is wrong.
fn secret(scalar: &Scalar) -> Read<'_> {
    match scalar {
        Scalar::String(s) if s.starts_with("env:") || s.starts_with("file:") => Ok(Val::Text(s)),
        _ => wrong(
            "literal-secret",
            "a secret is written by reference, never itself",
            "write \"env:NAME\" or \"file:/path\"",
        ),
    }
}

fn boolean(scalar: &Scalar) -> Read<'_> {
    match scalar {
        Scalar::Bool(b) => Ok(Val::Bool(*b)),
        other => {
            let shown = shown(other);
            let help = match shown.trim_matches('"') {
                "true" | "on" | "yes" | "1" => "write #true",
                "false" | "off" | "no" | "0" => "write #false",
                _ => "write #true or #false",
            };
            wrong(
                "not-a-switch",
                format!("{shown} is neither #true nor #false"),
                help,
            )
        }
    }
}

fn integer(scalar: &Scalar, min: i64, max: i64) -> Read<'_> {
    match scalar {
        Scalar::Integer(n) => match i64::try_from(*n) {
            Ok(n) if n >= min && n <= max => Ok(Val::Int(n)),
            _ => {
                let range = if max == i64::MAX {
                    format!("at least {min}")
                } else {
                    format!("from {min} to {max}")
                };
                wrong(
                    "out-of-range",
                    format!("{n} is out of range"),
                    format!("write a number {range}"),
                )
            }
        },
        Scalar::String(s) if s.parse::<i64>().is_ok() => wrong(
            "not-a-number",
            format!("\"{s}\" is text, not a number"),
            format!("write {} without quotes", s.trim_start_matches('+')),
        ),
        other => wrong(
            "not-a-number",
            format!("{} is not a whole number", shown(other)),
            "write a number without quotes and without a unit",
        ),
    }
}

/// Why a text with a unit is refused.
enum Refused {
    /// This was surely meant.
    Write(String),
    /// It is one, and too much or too little.
    Beyond(&'static str),
    /// It is none.
    Plain,
}

fn with_unit<'a>(
    scalar: &'a Scalar,
    what: &str,
    unit: &str,
    parse: impl Fn(&'a str) -> Result<Val<'a>, Refused>,
) -> Read<'a> {
    match scalar {
        Scalar::String(s) => match parse(s) {
            Ok(v) => Ok(v),
            Err(refused) => {
                let s = shown(scalar);
                match refused {
                    Refused::Beyond(why) => wrong(
                        "out-of-range",
                        format!("{s} {why}"),
                        "leave it out for the default",
                    ),
                    Refused::Write(right) => wrong(
                        "wrong-unit",
                        format!("{s} is not a {what}"),
                        format!("write \"{right}\""),
                    ),
                    Refused::Plain => {
                        wrong("wrong-unit", format!("{s} is not a {what}"), example(what))
                    }
                }
            }
        },
        Scalar::Integer(n) => wrong(
            "missing-unit",
            format!("{n} has no unit; a {what} needs one"),
            format!("write \"{n}{unit}\""),
        ),
        Scalar::Float(n) => wrong(
            "missing-unit",
            format!("{n} has no unit; a {what} needs one"),
            example(what),
        ),
        other => wrong(
            "wrong-unit",
            format!("{} is not a {what}", shown(other)),
            example(what),
        ),
    }
}

fn example(what: &str) -> &'static str {
    match what {
        "duration" => "write a number and ms, s, m, h or d, such as \"10s\" or \"1m30s\"",
        "size" => "write a number and B, KiB, MiB, GiB or TiB, such as \"64KiB\"",
        "rate" => "write a size and /s, such as \"240B/s\"",
        "percentage" => "write a number from 0 to 100 and %, such as \"30%\"",
        _ => "write \"75%\" or \"512MiB\"",
    }
}

/// Number and unit pairs of `"1h30m"`: the number's text and the unit's.
fn pairs(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() && out.len() < 8 {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit)?;
        if number.is_empty() {
            return None;
        }
        out.push((number, unit));
        rest = tail;
    }
    (rest.is_empty() && !out.is_empty()).then_some(out)
}

/// Longest time the language knows: ten years.
const MAX_MILLIS: u64 = 10 * 365 * 86_400_000;

fn unit_millis(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    })
}

fn duration(text: &str, zero: bool) -> Result<Val<'_>, Refused> {
    let Some(pairs) = pairs(text) else {
        return Err(bare_number(text, "s"));
    };
    let mut total: u64 = 0;
    let mut last = u64::MAX;
    for (number, unit) in &pairs {
        let (Some(scale), Ok(number)) = (unit_millis(unit), number.parse::<u64>()) else {
            return Err(fix_duration(&pairs).map_or(Refused::Plain, Refused::Write));
        };
        if scale >= last {
            return Err(Refused::Plain);
        }
        last = scale;
        total = number
            .checked_mul(scale)
            .and_then(|n| n.checked_add(total))
            .unwrap_or(u64::MAX);
    }
    if total > MAX_MILLIS {
        return Err(Refused::Beyond("is longer than ten years"));
    }
    if total == 0 && !zero {
        return Err(Refused::Beyond("would end everything at once"));
    }
    Ok(Val::Duration(Duration::from_millis(total)))
}

fn bare_number(text: &str, unit: &str) -> Refused {
    let digits = text.trim();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        Refused::Write(format!("{digits}{unit}"))
    } else {
        Refused::Plain
    }
}

fn fix_duration(pairs: &[(&str, &str)]) -> Option<String> {
    let mut fixed = String::new();
    for (number, unit) in pairs {
        let unit = match unit.trim().to_ascii_lowercase().trim_end_matches('.') {
            "s" | "sec" | "secs" | "second" | "seconds" => "s",
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => "ms",
            "m" | "min" | "mins" | "minute" | "minutes" => "m",
            "h" | "hr" | "hrs" | "hour" | "hours" => "h",
            "d" | "day" | "days" => "d",
            _ => return None,
        };
        match number.parse::<u64>() {
            Ok(number) => {
                let _ = write!(fixed, "{number}{unit}");
            }
            Err(_) => fixed.push_str(&whole_millis(number, unit)?),
        }
    }
    Some(fixed)
}

/// `1.5s` as `1500ms`.
fn whole_millis(number: &str, unit: &str) -> Option<String> {
    let number: f64 = number.parse().ok()?;
    let millis = number * unit_millis(unit)? as f64;
    ((1.0..1e12).contains(&millis) && millis.fract() == 0.0).then(|| format!("{}ms", millis as u64))
}

fn unit_bytes(unit: &str) -> Option<u64> {
    Some(match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    })
}

fn size(text: &str) -> Result<u64, Refused> {
    let Some(pairs) = pairs(text) else {
        return Err(bare_number(text, "B"));
    };
    let [(number, unit)] = pairs.as_slice() else {
        return Err(Refused::Plain);
    };
    match (unit_bytes(unit), number.parse::<u64>()) {
        (Some(scale), Ok(number)) => match number.checked_mul(scale) {
            Some(bytes) if bytes <= 1 << 50 => Ok(bytes),
            _ => Err(Refused::Beyond("is more than 1024TiB")),
        },
        _ => Err(fix_size(number, unit).map_or(Refused::Plain, Refused::Write)),
    }
}

fn fix_size(number: &str, unit: &str) -> Option<String> {
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => "B",
        "k" | "kb" | "ki" | "kib" => "KiB",
        "m" | "mb" | "mi" | "mib" => "MiB",
        "g" | "gb" | "gi" | "gib" => "GiB",
        "t" | "tb" | "ti" | "tib" => "TiB",
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    Some(format!("{number}{unit}"))
}

fn rate(text: &str) -> Result<Val<'_>, Refused> {
    let Some(size_text) = text.strip_suffix("/s") else {
        return Err(match size(text) {
            Ok(_) => Refused::Write(format!("{text}/s")),
            Err(_) => bare_number(text, "B/s"),
        });
    };
    match size(size_text) {
        Ok(bytes) => Ok(Val::Bytes(bytes)),
        Err(Refused::Write(size)) => Err(Refused::Write(format!("{size}/s"))),
        Err(other) => Err(other),
    }
}

fn share(text: &str) -> Result<u32, Refused> {
    let Some(number) = text.strip_suffix('%') else {
        return Err(bare_number(text, "%"));
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str, max: usize| {
        !s.is_empty() && s.len() <= max && s.bytes().all(|b| b.is_ascii_digit())
    };
    if !digits(whole, 3) || !digits(fraction, 2) {
        return Err(Refused::Plain);
    }
    let (Ok(whole), Ok(hundredths)) = (
        whole.parse::<u32>(),
        format!("{fraction:0<2}").parse::<u32>(),
    ) else {
        return Err(Refused::Plain);
    };
    let total = whole * 100 + hundredths;
    if total > 10_000 {
        return Err(Refused::Beyond("is more than 100%"));
    }
    Ok(total)
}

fn whole_percent(text: &str) -> Result<Val<'_>, Refused> {
    match share(text)? {
        n if n % 100 == 0 => Ok(Val::Share(n)),
        _ => Err(Refused::Beyond("is not a whole number of percent")),
    }
}

fn memory(text: &str) -> Result<Val<'_>, Refused> {
    if text.ends_with('%') {
        return match whole_percent(text)? {
            Val::Share(0) => Err(Refused::Beyond("is no memory at all")),
            v => Ok(v),
        };
    }
    match size(text)? {
        n if n < 16 << 20 => Err(Refused::Beyond(
            "is less than 16MiB, too little to serve with",
        )),
        n => Ok(Val::Bytes(n)),
    }
}

fn statuses(scalar: &Scalar) -> Read<'_> {
    let range = match scalar {
        Scalar::Integer(n) => u16::try_from(*n).ok().map(|n| (n, n)),
        Scalar::String(s) => status_range(s),
        _ => None,
    };
    match range {
        Some((from, to)) if from >= 400 && to <= 599 && from <= to => Ok(Val::Statuses(from, to)),
        _ => wrong(
            "not-a-status",
            format!("{} is not an error status", shown(scalar)),
            "write a status from 400 to 599, such as 502, or a range such as \"500-599\"",
        ),
    }
}

/// `200-399` or `200`.
pub fn status_range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |s: &str| (s.len() == 3).then(|| s.parse::<u16>().ok()).flatten();
    Some((number(from)?, number(to)?))
}

fn word<'a>(scalar: &'a Scalar, words: &[&str]) -> Read<'a> {
    let listed = || {
        words
            .iter()
            .map(|w| format!("\"{w}\""))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match scalar {
        Scalar::String(s) if words.contains(&s.as_str()) => Ok(Val::Text(s)),
        Scalar::String(s)
            if crate::schema::LATER_BALANCE.contains(&s.as_str())
                && words.contains(&"round-robin") =>
        {
            wrong(
                "not-built-yet",
                format!("\"{s}\" is not built yet in this version"),
                format!("write one of {}", listed()),
            )
        }
        Scalar::String(s) => {
            let help = crate::problem::did_you_mean(s, words.iter().copied()).map_or_else(
                || format!("write one of {}", listed()),
                |w| format!("did you mean \"{w}\"?"),
            );
            wrong(
                "unknown-word",
                format!("{} is not known here", shown(scalar)),
                help,
            )
        }
        other => wrong(
            "unknown-word",
            format!("{} is not known here", shown(other)),
            format!("write one of {}", listed()),
        ),
    }
}

/// Reads a size as the file would, for tests and defaults.
pub fn parse_size(text: &str) -> Option<u64> {
    size(text).ok()
}

//! `narthex cache`: the cache of the running process, shown and changed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::args::cache::{AddressArgs, CacheArgs, CacheCommand, LookArgs};
use crate::client::Question;
use crate::commands::asking::{Asking, JSON, parsed};
use crate::commands::explain::header;
use crate::exit::{Exit, complain, say};

/// Does it.
pub fn run(args: &CacheArgs) -> Exit {
    let asking = Asking::new(&args.whom);
    done(&asking, &args.command).unwrap_or_else(|exit| exit)
}

fn done(asking: &Asking, command: &CacheCommand) -> Result<Exit, Exit> {
    match command {
        CacheCommand::Stats => show(asking, "/cache", stats),
        CacheCommand::Blocks => show(asking, "/cache/blocks", blocks),
        CacheCommand::Get(args) => {
            let answer = look(asking, args)?;
            let none = items(&answer, "/details/objects").is_empty();
            if !asking.json {
                say(objects(&answer));
            }
            Ok(if none { Exit::No } else { Exit::Ok })
        }
        CacheCommand::Why(args) => {
            let answer = look(asking, args)?;
            if !asking.json {
                say(answer
                    .pointer("/text")
                    .and_then(Value::as_str)
                    .unwrap_or_default());
            }
            let is_hit = answer.pointer("/details/hit").and_then(Value::as_bool);
            Ok(if is_hit == Some(true) {
                Exit::Ok
            } else {
                Exit::No
            })
        }
        CacheCommand::Purge { what, soft } => {
            let mut body = json!({ "soft": soft, "everything": what.all });
            let named = [
                ("url", &what.url),
                ("prefix", &what.prefix),
                ("host", &what.host),
                ("tag", &what.tag),
            ];
            for (name, value) in named {
                if let Some(value) = value {
                    body[name] = json!(value);
                }
            }
            change(asking, "/cache/purge", &body)
        }
        CacheCommand::Block {
            what,
            status,
            reason,
            lasts,
        } => {
            let mut body = address(what);
            body["status"] = json!(status.parse::<u16>().unwrap_or(451));
            body["reason"] = json!(reason);
            if let Some(lasts) = lasts {
                body["for"] = json!(lasts);
            }
            change(asking, "/cache/blocks", &body)
        }
        CacheCommand::Unblock(what) => change(asking, "/cache/unblock", &address(what)),
    }
}

fn address(what: &AddressArgs) -> Value {
    match (&what.url, &what.prefix) {
        (Some(url), _) => json!({ "url": url }),
        (None, prefix) => json!({ "prefix": prefix }),
    }
}

fn show(asking: &Asking, path: &str, text: fn(&Value) -> String) -> Result<Exit, Exit> {
    let answer = asking.get(path)?;
    if asking.json {
        say(&answer.body);
    } else {
        say(text(&parsed(&answer)));
    }
    Ok(Exit::Ok)
}

fn look(asking: &Asking, args: &LookArgs) -> Result<Value, Exit> {
    let headers: Result<Vec<_>, _> = args.headers.iter().map(|line| header(line)).collect();
    let headers = headers.map_err(|why| {
        complain(why);
        Exit::Usage
    })?;
    let mut body = json!({ "method": args.method, "url": args.url, "headers": headers });
    if let Some(client) = args.client {
        body["client"] = json!(client);
    }
    if let Some(listener) = &args.listener {
        body["listener"] = json!(listener);
    }
    post(asking, "/cache/look", &body)
}

fn change(asking: &Asking, path: &str, body: &Value) -> Result<Exit, Exit> {
    let answer = post(asking, path, body)?;
    if !asking.json {
        let text = answer.pointer("/text").and_then(Value::as_str);
        say(format!("{}\n", text.unwrap_or_default()));
    }
    Ok(Exit::Ok)
}

fn post(asking: &Asking, path: &str, body: &Value) -> Result<Value, Exit> {
    let answer = asking.ask(&Question {
        method: "POST",
        path,
        accept: JSON,
        body: Some(&body.to_string()),
        if_match: None,
    })?;
    if asking.json {
        say(&answer.body);
    }
    Ok(parsed(&answer))
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Hits of all that looked, in percent with one digit.
fn ratio(hits: u64, all: u64) -> String {
    let tenths = hits.saturating_mul(1_000).checked_div(all);
    tenths.map_or("-".to_owned(), |n| format!("{}.{} %", n / 10, n % 10))
}

fn stats(value: &Value) -> String {
    let n = |key| number(value, key);
    let all = n("hits") + n("misses") + n("hit_for_miss");
    let rows = [
        ("objects", n("objects").to_string()),
        (
            "bytes",
            format!(
                "{} of {} ({})",
                n("bytes"),
                n("memory"),
                ratio(n("bytes"), n("memory"))
            ),
        ),
        (
            "look-ups",
            format!(
                "{} found, {} not, {} passed since the last answer was not stored; {}",
                n("hits"),
                n("misses"),
                n("hit_for_miss"),
                ratio(n("hits"), all)
            ),
        ),
        (
            "fetches",
            format!(
                "{} begun, {} under way, {} came whole, {} cut; {} requests waited for another's",
                n("fetches"),
                n("fills"),
                n("stored"),
                n("cut"),
                n("collapsed")
            ),
        ),
        (
            "evictions",
            format!("{} objects, {} bytes", n("evictions"), n("evicted_bytes")),
        ),
        (
            "purges",
            format!("{}, {} objects taken out by them", n("purges"), n("purged")),
        ),
        ("blocks", n("blocks").to_string()),
    ];
    let mut out = String::new();
    let on_disk = value.get("disk").filter(|disk| disk.is_object());
    for (name, row) in rows
        .into_iter()
        .chain(on_disk.into_iter().flat_map(disk_stats))
    {
        let _ = writeln!(out, "{name:<10} {row}");
    }
    out
}

fn disk_stats(disk: &Value) -> [(&'static str, String); 3] {
    let n = |key| number(disk, key);
    let is = |key| disk.get(key).and_then(Value::as_bool) == Some(true);
    let state = match (is("recovered"), is("paused")) {
        (false, _) => "; what was there is still being read",
        (true, true) => "; nothing is written for a while, after errors",
        (true, false) => "",
    };
    [
        (
            "on disk",
            format!(
                "{} objects, {} of {} bytes ({}) in {} files{state}",
                n("objects"),
                n("bytes"),
                n("size"),
                ratio(n("bytes"), n("size")),
                n("segments")
            ),
        ),
        (
            "disk use",
            format!(
                "{} objects read, {} written of {} worth it, {} left out since too many waited, {} files dropped for room",
                n("hits"),
                n("written"),
                n("admitted"),
                n("skipped"),
                n("dropped")
            ),
        ),
        (
            "trouble",
            format!(
                "{} reads and writes failed, {} records were not what was written",
                n("errors"),
                n("corrupt")
            ),
        ),
    ]
}

fn objects(answer: &Value) -> String {
    let all = items(answer, "/details/objects");
    let details = answer.get("details").unwrap_or(answer);
    let (host, path) = (text(details, "host"), text(details, "path"));
    if all.is_empty() {
        return format!(
            "nothing is stored of {host}{path}; `narthex cache why` says what would make it cacheable\n"
        );
    }
    let mut out = String::new();
    for object in all {
        let is = |key| object.get(key).and_then(Value::as_bool) == Some(true);
        let ttl = object
            .get("ttl_seconds")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        let fresh = match ttl {
            _ if is("soft") => "purged softly".to_owned(),
            ..0 => format!("stale for {} s", -ttl),
            _ => format!("fresh for {ttl} s"),
        };
        let place = |end| object.pointer(end).and_then(Value::as_u64);
        let part = match (place("/part/0"), place("/part/1")) {
            (Some(first), Some(last)) => format!(" ({first} to {last})"),
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "{}://{host}:{}{path}  {}  {} s old, {fresh}, {} bytes of body{part}{}{}",
            text(object, "scheme"),
            number(object, "port"),
            number(object, "status"),
            number(object, "age_seconds"),
            number(object, "body_bytes"),
            if is("complete") { "" } else { ", still coming" },
            if is("exact") {
                ""
            } else {
                " (another query, scheme or route)"
            },
        );
        if let Some(fields) = object.get("fields").and_then(Value::as_object) {
            for (name, value) in fields {
                let _ = writeln!(out, "  {name}: {}", value.as_str().unwrap_or_default());
            }
        }
    }
    out
}

fn blocks(value: &Value) -> String {
    let all = items(value, "");
    if all.is_empty() {
        return "nothing is blocked\n".to_owned();
    }
    let mut out = String::new();
    for block in all {
        let more = if block.get("prefix").and_then(Value::as_bool) == Some(true) {
            "..."
        } else {
            ""
        };
        let until = match block.get("until").and_then(Value::as_u64) {
            Some(until) => format!("until {until} (seconds since 1970)"),
            None => "until it is taken back".to_owned(),
        };
        let _ = writeln!(
            out,
            "{}{}{more}  {}  {until}: {}",
            text(block, "host"),
            text(block, "path"),
            number(block, "status"),
            text(block, "reason")
        );
    }
    out
}

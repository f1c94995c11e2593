//! What the JSON gateway says: pure. Numbers of 64 bits are strings there, bytes are Base64, what is empty is left out.

use narthex_config::model::Server;
use narthex_config::servers;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::sink::Skipped;
use super::super::source::Found;
use narthex_message::base64;

/// A key that is new, says something else now, or is gone.
#[derive(Debug, PartialEq)]
pub(super) struct Event {
    pub(super) key: String,
    pub(super) now: Option<Result<Server, Skipped>>,
}

/// What a line of a watch says.
#[derive(Debug, PartialEq)]
pub(super) enum Watched {
    /// This happened, in this order; maybe nothing.
    Events(Vec<Event>),
    /// What happened since the revision asked for is not known any more. The watch is over.
    Compacted,
}

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
}

#[derive(Debug, Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<Value>,
    /// Of all keys, those beyond the limit too.
    #[serde(default, deserialize_with = "number")]
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Header {
    #[serde(deserialize_with = "number")]
    revision: u64,
}

#[derive(Debug, Deserialize)]
struct Line {
    result: Option<Watch>,
    error: Option<Failure>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
}

#[derive(Debug, Deserialize)]
struct Watch {
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    cancel_reason: String,
    #[serde(default, deserialize_with = "number")]
    compact_revision: u64,
    #[serde(default)]
    events: Vec<Happened>,
}

#[derive(Debug, Deserialize)]
struct Happened {
    #[serde(rename = "type", default)]
    kind: Kind,
    kv: KeyValue,
}

#[derive(Debug, Default, Deserialize)]
enum Kind {
    #[default]
    #[serde(rename = "PUT")]
    Put,
    #[serde(rename = "DELETE")]
    Delete,
}

#[derive(Debug, Deserialize)]
struct KeyValue {
    #[serde(deserialize_with = "bytes")]
    key: Vec<u8>,
    #[serde(default, deserialize_with = "bytes")]
    value: Vec<u8>,
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(from)?;
    let number = match &value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    number.ok_or_else(|| serde::de::Error::custom("a number was expected"))
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    base64::decode(&text).ok_or_else(|| serde::de::Error::custom("Base64 was expected"))
}

/// The answer to a login.
pub(super) fn token(body: &[u8]) -> Result<String, String> {
    match serde_json::from_slice::<Token>(body) {
        Ok(answer) => Ok(answer.token),
        Err(_) => Err("the answer to the login has no token".to_owned()),
    }
}

/// The answer to a range.
#[derive(Debug, PartialEq)]
pub(super) struct Everything {
    pub(super) revision: u64,
    pub(super) found: Found,
    /// Keys beyond the limit, which are in `found` as one that is left out.
    pub(super) cut: u64,
}

pub(super) fn everything(body: &[u8]) -> Result<Everything, String> {
    let range: Range = serde_json::from_slice(body)
        .map_err(|error| format!("this is no answer of etcd's JSON gateway: {error}"))?;
    let mut found = Found::default();
    let cut = range.count.saturating_sub(range.kvs.len() as u64);
    if cut > 0 {
        found.left_out.push(Skipped {
            reason: "too-many",
            entry: format!("{cut} keys"),
            why: "the prefix has more keys than are taken".to_owned(),
        });
    }
    for (index, kv) in range.kvs.into_iter().enumerate() {
        match KeyValue::deserialize(kv) {
            Ok(kv) => {
                let key = name(&kv.key);
                let said = entry(&key, &kv.value);
                found.say(key, said);
            }
            Err(error) => {
                let why = format!("this is no key with a value: {error}");
                found
                    .left_out
                    .push(invalid(&format!("entry {}", index + 1), why));
            }
        }
    }
    Ok(Everything {
        revision: range.header.revision,
        found,
        cut,
    })
}

/// A line of a watch. An error: what it says is not known, so everything is to be read anew.
pub(super) fn watched(line: &[u8]) -> Result<Watched, String> {
    let line: Line = serde_json::from_slice(line)
        .map_err(|error| format!("this is no message of etcd's watch: {error}"))?;
    let watch = match (line.result, line.error) {
        (Some(watch), None) => watch,
        (_, Some(error)) => return Err(format!("the watch has ended: {}", error.message)),
        (None, None) => return Err("a message of etcd's watch says nothing".to_owned()),
    };
    if watch.compact_revision > 0 {
        return Ok(Watched::Compacted);
    }
    if watch.canceled {
        return Err(format!("the watch was cancelled: {}", watch.cancel_reason));
    }
    let event = |happened: Happened| {
        let key = name(&happened.kv.key);
        let now = match happened.kind {
            Kind::Put => Some(entry(&key, &happened.kv.value)),
            Kind::Delete => None,
        };
        Event { key, now }
    };
    Ok(Watched::Events(
        watch.events.into_iter().map(event).collect(),
    ))
}

/// A key in a form that is text and keeps keys apart.
fn name(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// `host:port`, or an object as in a list of servers.
fn entry(key: &str, value: &[u8]) -> Result<Server, Skipped> {
    let server = || {
        let text = std::str::from_utf8(value)
            .map_err(|_| "the value is not UTF-8 text")?
            .trim();
        let plain = if text.starts_with(['{', '[', '"']) {
            serde_json::from_str(text).map_err(|error| format!("the value is no JSON: {error}"))?
        } else {
            Value::String(text.to_owned())
        };
        servers::entry(&plain)
    };
    server().map_err(|why| invalid(key, why))
}

fn invalid(entry: &str, why: String) -> Skipped {
    Skipped {
        reason: "invalid",
        entry: entry.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests;

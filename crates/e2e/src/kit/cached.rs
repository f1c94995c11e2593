//! An origin whose answers are cached, for tests of the cache.

use super::attack::Response;
use super::craft::get;
use super::rig::Rig;

/// What lets an answer be stored.
pub const FRESH: &str = "Cache-Control: max-age=100\r\n";

/// An origin whose answers are cached by this rule.
#[track_caller]
pub fn rig(rule: &str) -> Rig {
    Rig::of("", &format!("{rule}\nproxy \"u\""))
}

/// An answer with these fields and this body.
pub fn stored(fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{fields}\r\n{body}")
        .into_bytes()
}

/// A GET with these fields, on a connection of its own.
#[track_caller]
pub fn ask(rig: &Rig, path: &str, fields: &str) -> Response {
    rig.connect().ask(get(path, fields))
}

/// `Cache-Status` of an answer.
pub fn status(r: &Response) -> String {
    r.fields.get("cache-status").unwrap_or_default()
}

/// Did the answer come from the cache?
pub fn is_hit(r: &Response) -> bool {
    let status = status(r);
    status.contains("; hit") || status.contains("collapsed")
}

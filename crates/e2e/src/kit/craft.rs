//! Small builders for request bytes. They add a `Host`, an id and nothing else.

use super::table::fresh_id;

/// A request that must never be seen by an origin: what an attacker hides behind another.
pub const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: a\r\nX-Id: evil\r\n\r\n";

/// `GET path` with these extra field lines (each with its CRLF).
pub fn get(path: &str, fields: &str) -> String {
    request("GET", path, fields, "")
}

/// `POST /p` with these extra field lines, then this body as is.
pub fn post(fields: &str, body: &str) -> String {
    request("POST", "/p", fields, body)
}

/// Any request: `Host: a`, an id, the field lines, the body as is.
pub fn request(method: &str, target: &str, fields: &str, body: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: a\r\nX-Id: {}\r\n{fields}\r\n{body}",
        fresh_id()
    )
}

/// A request with exactly this head after its request line, and no `Host` or id of ours.
pub fn bare(line: &str, fields: &str, body: &str) -> String {
    format!("{line}\r\n{fields}\r\n{body}")
}

/// A POST with a chunked body of exactly these raw bytes.
pub fn chunked(body: &[u8]) -> Vec<u8> {
    [post("Transfer-Encoding: chunked\r\n", "").as_bytes(), body].concat()
}

/// A POST with a right `Content-Length`.
pub fn sized(path: &str, fields: &str, body: &str) -> String {
    request(
        "POST",
        path,
        &format!("{fields}Content-Length: {}\r\n", body.len()),
        body,
    )
}

/// `name` as it is, in lower, in upper and in mixed case.
pub fn cases(name: &str) -> [String; 4] {
    let mixed = name.char_indices().map(|(i, c)| {
        if i % 2 == 0 {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        }
    });
    [
        name.to_owned(),
        name.to_ascii_lowercase(),
        name.to_ascii_uppercase(),
        mixed.collect(),
    ]
}

//! Answers: JSON for machines, text for people, and what a client prefers.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// What a problem said, for the audit.
#[derive(Debug, Clone)]
pub(crate) struct Why(pub(crate) String);

/// Text.
pub(crate) fn plain(status: StatusCode, body: impl Into<String>) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        body.into(),
    )
        .into_response()
}

/// JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => (
            status,
            [(header::CONTENT_TYPE, "application/json")],
            text + "\n",
        )
            .into_response(),
        Err(error) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("this answer has no JSON form: {error}"),
        ),
    }
}

/// `{"error": "..."}`.
pub(crate) fn problem(status: StatusCode, why: &str) -> Response {
    let mut response = json(status, &serde_json::json!({ "error": why }));
    response.extensions_mut().insert(Why(why.to_owned()));
    response
}

/// The body of a change cannot be read.
pub(crate) fn unreadable(error: &serde_json::Error, form: &str) -> Response {
    problem(
        StatusCode::UNPROCESSABLE_ENTITY,
        &format!("the body is not what this call takes ({error}); send {form}"),
    )
}

/// Does the client name `kind` (such as `text/plain`) in `Accept`?
pub(crate) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let values = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| {
        part.split(';')
            .next()
            .is_some_and(|name| name.trim().eq_ignore_ascii_case(kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_a_name_in_a_list() {
        let mut headers = HeaderMap::new();
        assert!(!accepts(&headers, "text/plain"));
        headers.append(
            header::ACCEPT,
            "application/json, Text/Plain;q=0.5".parse().unwrap(),
        );
        assert!(accepts(&headers, "text/plain"));
        assert!(!accepts(&headers, "text/html"));
    }
}

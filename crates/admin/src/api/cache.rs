//! The cache: what it holds, why something is not a hit, what shall be forgotten or taken down.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use narthex_engine::Handle;
use narthex_engine::cache::{self, Ask, CacheError};
use serde::de::DeserializeOwned;

use super::calls::gone;
use super::text::{accepts, json, plain, problem, unreadable};

/// Longest text for the audit, in characters.
const LONGEST: usize = 512;

/// What the audit learns of something that was done.
#[derive(Debug, Clone)]
pub(crate) struct Done(pub(crate) String);

pub(crate) async fn stats(State(handle): State<Handle>) -> Response {
    json(StatusCode::OK, &cache::stats(handle.shared()))
}

pub(crate) async fn blocks(State(handle): State<Handle>) -> Response {
    json(StatusCode::OK, &cache::blocks(handle.shared()))
}

pub(crate) async fn look(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = "{\"method\": \"GET\", \"url\": \"http://...\"}";
    ask(&handle, &headers, &body, form, Ask::Look).await
}

pub(crate) async fn purge(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = "{\"url\": \"http://...\"}, or \"prefix\", \"host\", \"tag\", \"everything\": true; and \"soft\": true if you like";
    ask(&handle, &headers, &body, form, Ask::Purge).await
}

pub(crate) async fn block(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = "{\"url\": \"http://...\", \"reason\": \"...\"}, with \"prefix\" instead of \"url\", \"status\" and \"for\" if you like";
    ask(&handle, &headers, &body, form, Ask::Block).await
}

pub(crate) async fn unblock(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = "{\"url\": \"http://...\"} or {\"prefix\": \"http://...\"}";
    ask(&handle, &headers, &body, form, Ask::Unblock).await
}

async fn ask<T: DeserializeOwned>(
    handle: &Handle,
    headers: &HeaderMap,
    body: &Bytes,
    form: &str,
    what: impl FnOnce(T) -> Ask,
) -> Response {
    let request: T = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => return unreadable(&error, form),
    };
    match handle.cache(what(request)).await {
        Ok(Ok(told)) => {
            let mut response = if accepts(headers, "text/plain") {
                plain(StatusCode::OK, format!("{}\n", told.text.trim_end()))
            } else {
                json(StatusCode::OK, &told)
            };
            let done = told.text.chars().take(LONGEST).collect();
            response.extensions_mut().insert(Done(done));
            response
        }
        Ok(Err(error)) => {
            let status = match error {
                CacheError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
                CacheError::Missing(_) => StatusCode::NOT_FOUND,
                CacheError::Full(_) => StatusCode::CONFLICT,
                CacheError::Unwritten(_) => StatusCode::INSUFFICIENT_STORAGE,
                CacheError::Elsewhere => StatusCode::SERVICE_UNAVAILABLE,
            };
            problem(status, &error.to_string())
        }
        Err(stopped) => gone(stopped),
    }
}

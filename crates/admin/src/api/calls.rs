//! One function per call.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use narthex_engine::Handle;
use narthex_engine::command::{Command, ExplainRequest, Phase};
use narthex_engine::handle::{ReloadError, Stopped};
use serde_json::json;

use super::text::{accepts, json, plain, problem};
use crate::page;

/// Longest time that an upgrade may be given, in seconds: clients wait for the answer.
const MOST_PATIENT: u64 = 100;
/// The Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn page(State(handle): State<Handle>) -> Response {
    match handle.status().await {
        Ok(status) => axum::response::Html(page::render(&status)).into_response(),
        Err(stopped) => gone(stopped),
    }
}

pub(crate) async fn metrics(State(handle): State<Handle>) -> Response {
    let mut body = String::new();
    handle.shared().metrics().render_prometheus(&mut body);
    ([(header::CONTENT_TYPE, PROMETHEUS)], body).into_response()
}

pub(crate) async fn status(State(handle): State<Handle>, headers: HeaderMap) -> Response {
    match handle.status().await {
        Ok(status) if accepts(&headers, "text/plain") => plain(StatusCode::OK, page::text(&status)),
        Ok(status) => json(StatusCode::OK, &status),
        Err(stopped) => gone(stopped),
    }
}

pub(crate) async fn upstreams(State(handle): State<Handle>) -> Response {
    json(StatusCode::OK, &handle.upstreams())
}

pub(crate) async fn certificates(State(handle): State<Handle>, headers: HeaderMap) -> Response {
    let all = handle.certificates();
    if accepts(&headers, "text/plain") {
        return plain(StatusCode::OK, narthex_engine::obtain::table(&all));
    }
    json(StatusCode::OK, &all)
}

pub(crate) async fn live() -> Response {
    plain(StatusCode::OK, "live\n")
}

pub(crate) async fn ready(State(handle): State<Handle>) -> Response {
    let phase = handle.phase();
    let status = if phase == Phase::Ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    plain(status, format!("{}\n", phase.word()))
}

pub(crate) async fn config(State(handle): State<Handle>, headers: HeaderMap) -> Response {
    match handle.config().await {
        Ok(config) if accepts(&headers, "application/json") => json(StatusCode::OK, &*config),
        Ok(config) => plain(StatusCode::OK, narthex_engine::source::effective(&config)),
        Err(stopped) => gone(stopped),
    }
}

pub(crate) async fn reload(State(handle): State<Handle>) -> Response {
    match handle.reload("admin API").await {
        Ok(report) => {
            let text = report.changes.to_string();
            json(
                StatusCode::OK,
                &json!({ "reloaded": true, "text": text, "report": report }),
            )
        }
        Err(ReloadError::Refused(refused)) => json(
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!({ "reloaded": false, "text": refused.problems, "problems": refused.details }),
        ),
        Err(ReloadError::Stopped(stopped)) => gone(stopped),
    }
}

/// A question for an upgrade.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UpgradeRequest {
    timeout_seconds: u64,
}

impl Default for UpgradeRequest {
    fn default() -> Self {
        Self {
            timeout_seconds: narthex_engine::upgrade::TIMEOUT.as_secs(),
        }
    }
}

pub(crate) async fn upgrade(State(handle): State<Handle>, body: Bytes) -> Response {
    let asked = match body.len() {
        0 => Ok(UpgradeRequest::default()),
        _ => serde_json::from_slice(&body),
    };
    let timeout = match asked {
        Ok(UpgradeRequest { timeout_seconds }) if (1..=MOST_PATIENT).contains(&timeout_seconds) => {
            Duration::from_secs(timeout_seconds)
        }
        _ => {
            let why = format!(
                "the body says how long the new process may take: {{\"timeout_seconds\": 30}}, at most {MOST_PATIENT}"
            );
            return problem(StatusCode::BAD_REQUEST, &why);
        }
    };
    match handle.upgrade("admin API", timeout).await {
        Ok(Ok(report)) => {
            let text = format!(
                "upgraded in {} ms: process {} ({}) serves, process {} ({}) finishes what is in flight\n",
                report.milliseconds,
                report.pid,
                report.version,
                std::process::id(),
                report.from
            );
            json(
                StatusCode::OK,
                &json!({ "upgraded": true, "text": text, "report": report }),
            )
        }
        Ok(Err(why)) => problem(StatusCode::CONFLICT, &why),
        Err(stopped) => gone(stopped),
    }
}

pub(crate) async fn reopen_logs(State(handle): State<Handle>) -> Response {
    match handle.send(Command::ReopenLogs { why: "admin API" }).await {
        Ok(()) => json(StatusCode::OK, &json!({ "reopened": true })),
        Err(stopped) => gone(stopped),
    }
}

pub(crate) async fn stop(State(handle): State<Handle>) -> Response {
    // The second time would cut what is in flight: that is for signals, sent by somebody who looks.
    if handle.phase() == Phase::Draining {
        return json(StatusCode::OK, &json!({ "stopping": true }));
    }
    match handle.stop("admin API", None).await {
        Ok(()) => json(StatusCode::OK, &json!({ "stopping": true })),
        Err(stopped) => gone(stopped),
    }
}

pub(crate) async fn explain(
    State(handle): State<Handle>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request: ExplainRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let why = format!(
                "the body is no request to explain ({error}); send {{\"method\": \"GET\", \"url\": \"http://...\"}}"
            );
            return problem(StatusCode::BAD_REQUEST, &why);
        }
    };
    match handle.explain(request).await {
        Ok(Ok(explanation)) if accepts(&headers, "text/plain") => {
            plain(StatusCode::OK, explanation.text)
        }
        Ok(Ok(explanation)) => json(StatusCode::OK, &explanation),
        Ok(Err(why)) => problem(StatusCode::BAD_REQUEST, &why),
        Err(stopped) => gone(stopped),
    }
}

/// The engine has ended.
pub(crate) fn gone(stopped: Stopped) -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, &stopped.to_string())
}

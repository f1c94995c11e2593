//! Changes of servers while requests run.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use narthex_engine::Handle;
use narthex_engine::change::{
    Change, ChangeError, Changed, Edit, LONGEST_DRAIN, Order, Server, ServerAddress,
};
use serde::Deserialize;

use super::calls::gone;
use super::text::{json, problem, unreadable};

/// What the audit learns of a change that was made.
#[derive(Debug, Clone)]
pub(crate) struct Told(pub(crate) Changed);

/// A server to add.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewServer {
    address: String,
    #[serde(default)]
    weight: Option<u32>,
    #[serde(default)]
    backup: bool,
    #[serde(default)]
    priority: u8,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    state: Option<Wanted>,
}

/// What shall be otherwise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    #[serde(default)]
    weight: Option<u32>,
    #[serde(default)]
    state: Option<Wanted>,
    #[serde(default, rename = "for")]
    lasts: Option<String>,
}

/// An order, as it is written.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Ready,
    Drain,
    Down,
}

impl From<Wanted> for Order {
    fn from(state: Wanted) -> Self {
        match state {
            Wanted::Ready => Self::Ready,
            Wanted::Drain => Self::Drain,
            Wanted::Down => Self::Down,
        }
    }
}

pub(crate) async fn show(State(handle): State<Handle>, Path(upstream): Path<String>) -> Response {
    match handle.upstream(&upstream) {
        Ok(status) => tagged(json(StatusCode::OK, &status), &status.tag),
        Err(error) => refused(&error),
    }
}

pub(crate) async fn add(
    State(handle): State<Handle>,
    Path(upstream): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let new: NewServer = match serde_json::from_slice(&body) {
        Ok(new) => new,
        Err(error) => {
            let form = "{\"address\": \"10.0.0.9:8080\"}, with \"weight\", \"backup\", \"priority\", \"zone\" and \"state\" if you like";
            return unreadable(&error, form);
        }
    };
    let address = match ServerAddress::parse(&new.address) {
        Ok(address) => address,
        Err(why) => return refused(&ChangeError::Invalid(why)),
    };
    let mut server = Server::new(new.address, address);
    server.weight = new.weight.unwrap_or(server.weight);
    server.backup = new.backup;
    server.priority = new.priority;
    server.zone = new.zone;
    server.order = new.state.map_or(server.order, Order::from);
    change(&handle, upstream, &headers, Edit::Add(server)).await
}

pub(crate) async fn patch(
    State(handle): State<Handle>,
    Path((upstream, server)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let patch: Patch = match serde_json::from_slice(&body) {
        Ok(patch) => patch,
        Err(error) => {
            let form = "{\"weight\": 5}, {\"state\": \"ready\"}, \"drain\" or \"down\", {\"state\": \"drain\", \"for\": \"10m\"}";
            return unreadable(&error, form);
        }
    };
    let lasts = match patch.lasts.as_deref().map(narthex_engine::change::duration) {
        None => None,
        Some(Ok(lasts)) if lasts <= LONGEST_DRAIN => Some(lasts),
        Some(Ok(_)) => {
            let why =
                "a drain is for 30 days at most; leave `for` out to drain until you say otherwise";
            return refused(&ChangeError::Invalid(why.to_owned()));
        }
        Some(Err(why)) => return refused(&ChangeError::Invalid(why)),
    };
    let edit = Edit::Set {
        server,
        weight: patch.weight,
        order: patch.state.map(Order::from),
        lasts,
    };
    change(&handle, upstream, &headers, edit).await
}

pub(crate) async fn remove(
    State(handle): State<Handle>,
    Path((upstream, server)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    change(&handle, upstream, &headers, Edit::Remove(server)).await
}

pub(crate) async fn reset(
    State(handle): State<Handle>,
    Path(upstream): Path<String>,
    headers: HeaderMap,
) -> Response {
    change(&handle, upstream, &headers, Edit::Reset).await
}

pub(crate) async fn drift(State(handle): State<Handle>) -> Response {
    match handle.drift().await {
        Ok(drift) => json(StatusCode::OK, &drift),
        Err(stopped) => gone(stopped),
    }
}

pub(crate) async fn audit(State(handle): State<Handle>) -> Response {
    json(StatusCode::OK, &handle.audit().entries())
}

async fn change(handle: &Handle, upstream: String, headers: &HeaderMap, edit: Edit) -> Response {
    let expect = match expected(headers) {
        Ok(expect) => expect,
        Err(response) => return *response,
    };
    let change = Change {
        upstream,
        expect,
        edit,
    };
    match handle.change(change).await {
        Ok(Ok(changed)) => {
            let mut response = tagged(json(StatusCode::OK, &changed), &changed.tag);
            response.extensions_mut().insert(Told(changed));
            response
        }
        Ok(Err(error)) => refused(&error),
        Err(stopped) => gone(stopped),
    }
}

/// The tags of `If-Match`; `None` for `*`, which is whatever it is.
fn expected(headers: &HeaderMap) -> Result<Option<Vec<String>>, Box<Response>> {
    let mut tags = Vec::new();
    for value in headers.get_all(header::IF_MATCH) {
        for tag in value.to_str().unwrap_or_default().split(',') {
            match tag.trim() {
                "*" => return Ok(None),
                tag => tags.push(tag.trim_matches('"').to_owned()),
            }
        }
    }
    if tags.is_empty() {
        let why = "send If-Match with the upstream's ETag, so that no change of somebody else is lost; * is whatever it is";
        return Err(Box::new(problem(StatusCode::PRECONDITION_REQUIRED, why)));
    }
    Ok(Some(tags))
}

fn refused(error: &ChangeError) -> Response {
    let status = match error {
        ChangeError::NoUpstream(_) | ChangeError::NoServer(_) => StatusCode::NOT_FOUND,
        ChangeError::Stale(_) => StatusCode::PRECONDITION_FAILED,
        ChangeError::Conflict(_) => StatusCode::CONFLICT,
        ChangeError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ChangeError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    let response = problem(status, &error.to_string());
    match error {
        ChangeError::Stale(now) => tagged(response, now),
        _ => response,
    }
}

fn tagged(mut response: Response, tag: &str) -> Response {
    if let Ok(value) = HeaderValue::try_from(format!("\"{tag}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_change_says_what_it_is_for() {
        assert_eq!(
            expected(&headers(&[])).unwrap_err().status(),
            StatusCode::PRECONDITION_REQUIRED
        );
        assert_eq!(expected(&headers(&["*"])).unwrap(), None);
        let two = Some(vec!["a-1-2".to_owned(), "b".to_owned()]);
        assert_eq!(expected(&headers(&["\"a-1-2\", \"b\""])).unwrap(), two);
        assert_eq!(expected(&headers(&["\"a-1-2\"", "\"b\""])).unwrap(), two);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(serde_json::from_str::<Patch>(r#"{"state":"drain","for":"1m"}"#).is_ok());
        for bad in [r#"{"state":"gone"}"#, r#"{"wieght":1}"#, r#"{"weight":-1}"#] {
            assert!(serde_json::from_str::<Patch>(bad).is_err(), "{bad}");
        }
    }
}

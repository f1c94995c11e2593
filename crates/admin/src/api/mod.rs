//! The paths, and the guard before every one of them.

mod cache;
mod calls;
mod changes;
mod text;

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use narthex_engine::Handle;
use narthex_engine::admin_socket::AdminSocket;
use narthex_engine::audit::{Deed, Who};

use crate::auth::{self, Door, Facts, Kind};
use crate::peer::Peer;

/// Largest request body.
const BODY: usize = 1 << 20;

/// What the guard knows.
struct Guard {
    door: Door,
    socket: Arc<AdminSocket>,
    handle: Handle,
}

/// Every path of the admin API behind `door`.
pub(crate) fn router(handle: Handle, door: Door, socket: &Arc<AdminSocket>) -> Router {
    let rules = Arc::new(Guard {
        door,
        socket: Arc::clone(socket),
        handle: handle.clone(),
    });
    Router::new()
        .route("/", get(calls::page))
        .route("/metrics", get(calls::metrics))
        .route("/status", get(calls::status))
        .route("/upstreams", get(calls::upstreams))
        .route("/upstreams/{upstream}", get(changes::show))
        .route("/upstreams/{upstream}/servers", post(changes::add))
        .route(
            "/upstreams/{upstream}/servers/{server}",
            patch(changes::patch).delete(changes::remove),
        )
        .route("/upstreams/{upstream}/changes", delete(changes::reset))
        .route("/cache", get(cache::stats))
        .route("/cache/look", post(cache::look))
        .route("/cache/purge", post(cache::purge))
        .route("/cache/blocks", get(cache::blocks).post(cache::block))
        .route("/cache/unblock", post(cache::unblock))
        .route("/certificates", get(calls::certificates))
        .route("/drift", get(changes::drift))
        .route("/audit", get(changes::audit))
        .route("/health/live", get(calls::live))
        .route("/health/ready", get(calls::ready))
        .route("/config", get(calls::config))
        .route("/reload", post(calls::reload))
        .route("/reopen-logs", post(calls::reopen_logs))
        .route("/upgrade", post(calls::upgrade))
        .route("/stop", post(calls::stop))
        .route("/explain", post(calls::explain))
        .fallback(|| async {
            text::problem(
                StatusCode::NOT_FOUND,
                "there is no such path; GET / lists them",
            )
        })
        .method_not_allowed_fallback(|| async {
            text::problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path takes another method; GET / lists them",
            )
        })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn_with_state(rules, guard))
        .with_state(handle)
}

async fn guard(State(rules): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if !rules.handle.serves(&rules.socket) {
        // A connection from before a reload: its rules are no longer those of the configuration.
        let why = "this admin address has changed; connect again";
        let mut response = text::problem(StatusCode::FORBIDDEN, why);
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        return response;
    }
    let headers = request.headers();
    let facts = Facts {
        host: only(headers, &header::HOST),
        origin: only(headers, &header::ORIGIN),
        content_type: only(headers, &header::CONTENT_TYPE),
        authorization: only(headers, &header::AUTHORIZATION),
    };
    let kind = kind(request.method(), request.uri().path());
    let deed = (kind == Kind::Change).then(|| deed(&request));
    let mut response = match auth::decide(&rules.door, kind, &facts) {
        Ok(()) => next.run(request).await,
        Err(denied) => {
            let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::FORBIDDEN);
            let mut response = text::problem(status, denied.remedy());
            if status == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(
                    header::WWW_AUTHENTICATE,
                    header::HeaderValue::from_static("Bearer"),
                );
            }
            response
        }
    };
    if let Some(deed) = deed {
        rules.handle.audit().note(ended(deed, &mut response));
    }
    harden(response.headers_mut());
    response.into_response()
}

/// What a request wants done, for the audit.
fn deed(request: &Request) -> Deed {
    let who = match request.extensions().get::<ConnectInfo<Peer>>() {
        Some(ConnectInfo(Peer(who))) => who.clone(),
        None => Who::Unix {
            uid: u32::MAX,
            pid: None,
        },
    };
    Deed {
        who,
        what: format!("{} {}", request.method(), request.uri().path()),
        upstream: String::new(),
        server: String::new(),
        before: String::new(),
        after: String::new(),
        refused: None,
    }
}

/// The same with how it ended.
fn ended(mut deed: Deed, response: &mut Response) -> Deed {
    if let Some(cache::Done(done)) = response.extensions_mut().remove::<cache::Done>() {
        deed.after = done;
        return deed;
    }
    let told = response.extensions_mut().remove::<changes::Told>();
    if let Some(changes::Told(changed)) = told {
        deed.upstream = changed.upstream;
        deed.server = changed.server;
        deed.before = changed.before;
        deed.after = changed.after;
    } else if !response.status().is_success() {
        let why = response.extensions_mut().remove::<text::Why>();
        deed.refused = Some(why.map_or_else(|| response.status().to_string(), |why| why.0));
    }
    deed
}

/// A page of ours is nothing to frame, guess types of or keep.
fn harden(headers: &mut HeaderMap) {
    let fixed = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
}

fn kind(method: &Method, path: &str) -> Kind {
    match *method {
        Method::GET | Method::HEAD => Kind::Read,
        Method::POST if matches!(path, "/explain" | "/cache/look") => Kind::Ask,
        _ => Kind::Change,
    }
}

/// The only value of a field; an empty text if it is there more than once or is no text.
fn only<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(match values.next() {
        None => first.to_str().unwrap_or_default(),
        Some(_) => "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_occurs_twice_says_nothing() {
        let mut headers = HeaderMap::new();
        assert_eq!(only(&headers, &header::HOST), None);
        headers.append(header::HOST, "localhost".parse().unwrap());
        assert_eq!(only(&headers, &header::HOST), Some("localhost"));
        headers.append(header::HOST, "localhost".parse().unwrap());
        assert_eq!(only(&headers, &header::HOST), Some(""));
    }

    #[test]
    fn only_explain_asks_with_a_body() {
        assert_eq!(kind(&Method::POST, "/explain"), Kind::Ask);
        for path in ["/reload", "/explain/", "/explain/../reload", "//explain"] {
            assert_eq!(kind(&Method::POST, path), Kind::Change, "{path}");
        }
        assert_eq!(kind(&Method::POST, "/cache/look"), Kind::Ask);
        for path in ["/cache/purge", "/cache/blocks", "/cache/look/"] {
            assert_eq!(kind(&Method::POST, path), Kind::Change, "{path}");
        }
        assert_eq!(kind(&Method::DELETE, "/explain"), Kind::Change);
        assert_eq!(kind(&Method::HEAD, "/config"), Kind::Read);
    }
}

//! What a template may ask for, taken from an exchange.

use narthex_filter::values::Values;
use narthex_message::Head;
use narthex_message::head::Version;
use narthex_net::rt;

use crate::handle::Exchange;
use crate::identity;
use crate::work::Work;

/// Everything that a template may ask for, of an exchange. Apart from [`Exchange`] so that it can be used while parts of the
/// exchange are lent elsewhere.
pub(crate) fn context<T>(
    exchange: &Exchange<'_>,
    work: &Work,
    edits: &narthex_message::Edits,
    response: Option<(u16, Head<'_>, &narthex_message::Edits)>,
    f: impl FnOnce(&Values<'_>) -> T,
) -> T {
    let head = Head::new(&work.input, &work.index);
    let runtime = &exchange.rt.runtime;
    let path = exchange.path.of(work);
    let captured = |name: &str| match (exchange.site, exchange.route) {
        (Some(site), Some(route)) => {
            runtime
                .router
                .captured(site, route, &work.captures, path, name)
        }
        _ => None,
    };
    let peer_ip = identity::peer_ip(exchange.client.peer);
    let id = exchange
        .given_id
        .map_or(&exchange.request_id[..], |span| span.of(&work.input));
    let values = Values {
        client_ip: exchange.identity.ip,
        client_port: exchange.identity.port,
        peer_ip,
        listener: runtime
            .config
            .listeners
            .get(exchange.listener)
            .map_or("", |l| &l.name),
        scheme: if exchange.identity.https {
            "https"
        } else {
            "http"
        },
        method: std::str::from_utf8(head.method()).unwrap_or_default(),
        host: exchange.host.of(work),
        authority: exchange.facts.map_or("", |f| {
            std::str::from_utf8(f.authority.of(&work.input)).unwrap_or_default()
        }),
        path,
        query: exchange.query.map(|q| q.of(&work.input)),
        protocol: if exchange.version() == Version::Http10 {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        },
        tls: exchange.client.tls.as_ref().map(|tls| tls.values()),
        request_id: std::str::from_utf8(id).unwrap_or_default(),
        site: exchange.site_config().map_or("", |s| &s.name),
        route: exchange.route_config().map_or("", |r| &r.name),
        upstream: exchange.story.upstream_name(&exchange.rt),
        server: exchange.story.server(),
        wall_ms: rt::wall_ms(),
        request: Some((head, edits)),
        response,
        captures: &captured,
    };
    f(&values)
}

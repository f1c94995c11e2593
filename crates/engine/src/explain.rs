//! Explaining a request, by the data path's own matcher: live, or for a configuration that nobody serves.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use narthex_config::model::{
    Action, Config, Filter, HeaderAction, HeaderOp, LogTarget, Route, Site,
};
use narthex_proxy::explain::{Explained, Question};
use serde_json::{Value, json};

use crate::command::{ExplainRequest, Explanation, UpstreamStatus};
use crate::plane::{self, Runtime, Shared};

/// Explains a request for a configuration that is not served. Binds nothing, writes nothing.
pub fn offline(mut config: Config, request: &ExplainRequest) -> Result<Explanation, String> {
    for log in &mut config.access_logs {
        // Building opens the logs: not those of the proxy that runs.
        log.target = LogTarget::Stderr;
    }
    let shared = Shared::new(1);
    let runtime = Runtime::build(Arc::new(config), &shared).map_err(|error| error.to_string())?;
    explain(&runtime, &[], request)
}

/// Explains a request for the configuration that is served, with the state of its servers.
pub(crate) fn live(
    runtime: &Runtime,
    shared: &Shared,
    request: &ExplainRequest,
) -> Result<Explanation, String> {
    explain(runtime, &plane::upstreams(shared), request)
}

fn explain(
    runtime: &Runtime,
    status: &[UpstreamStatus],
    request: &ExplainRequest,
) -> Result<Explanation, String> {
    let explained = runtime.explain(&Question {
        method: &request.method,
        url: &request.url,
        headers: &request.headers,
        client: request.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        listener: request.listener.as_deref(),
    })?;
    let story = Story {
        config: runtime.config(),
        status,
        explained: &explained,
        request,
    };
    Ok(Explanation {
        text: story.text(),
        details: story.details(),
    })
}

/// An explanation with the names that its indices stand for.
struct Story<'a> {
    config: &'a Config,
    status: &'a [UpstreamStatus],
    explained: &'a Explained,
    request: &'a ExplainRequest,
}

impl Story<'_> {
    fn site(&self) -> Option<&Site> {
        self.config.sites.get(self.explained.site?)
    }

    fn route(&self) -> Option<&Route> {
        self.site()?.routes.get(self.explained.route?)
    }

    fn listener(&self) -> &str {
        self.config
            .listeners
            .get(self.explained.listener)
            .map_or("(none)", |l| l.name.as_str())
    }

    fn upstream(&self, index: usize) -> &str {
        self.config
            .upstreams
            .get(index)
            .map_or("(unknown)", |u| u.name.as_str())
    }

    fn text(&self) -> String {
        let e = self.explained;
        let mut out = String::new();
        let query = if e.query.is_empty() {
            String::new()
        } else {
            format!("?{}", e.query)
        };
        let _ = writeln!(
            out,
            "request   {} {}{query} for {}",
            self.request.method, e.path, e.host
        );
        let _ = writeln!(out, "listener  {}", self.listener());
        let Some(site) = self.site() else {
            let _ = writeln!(
                out,
                "site      none answers for this host here: 404 (421 if another listener has it)"
            );
            return out;
        };
        let _ = writeln!(
            out,
            "site      {}  ({}:{})",
            site.name, site.origin.file, site.origin.line
        );
        for (route, (won, why)) in site.routes.iter().zip(&e.verdicts) {
            let mark = if *won { ">" } else { " " };
            let place = format!("{}:{}", route.origin.file, route.origin.line);
            let _ = writeln!(out, "  {mark} {:<24} {why}  ({place})", route.name);
        }
        let Some(route) = self.route() else {
            let _ = writeln!(out, "route     none matches: 404");
            return out;
        };
        let _ = writeln!(out, "route     {}", route.name);
        for (name, value) in &e.captures {
            let _ = writeln!(out, "  {{{name}}} is \"{value}\"");
        }
        for filter in filters(route) {
            let _ = writeln!(out, "filter    {filter}");
        }
        for line in self.action(route) {
            let _ = writeln!(out, "{line}");
        }
        out
    }

    fn action(&self, route: &Route) -> Vec<String> {
        match &route.action {
            Action::Proxy(index) => self.servers(*index, ""),
            Action::Split(split) => split
                .to
                .iter()
                .flat_map(|(index, weight)| self.servers(*index, &share(*weight)))
                .collect(),
            Action::Redirect { status, to } => vec![format!("redirect  {status} to {}", to.source)],
            Action::Respond {
                status,
                content_type,
                ..
            } => vec![format!("respond   {status} ({content_type})")],
        }
    }

    fn servers(&self, index: usize, share: &str) -> Vec<String> {
        let name = self.upstream(index);
        let mut lines = vec![format!("proxy     {name}{share}")];
        match self.status.iter().find(|upstream| upstream.name == name) {
            Some(upstream) => lines.extend(
                upstream
                    .servers
                    .iter()
                    .map(|s| format!("  {:<24} {}", s.name, s.state)),
            ),
            None => {
                let servers = self
                    .config
                    .upstreams
                    .get(index)
                    .map(|u| u.servers.as_slice())
                    .unwrap_or_default();
                lines.extend(servers.iter().map(|server| format!("  {}", server.name)));
            }
        }
        lines
    }

    fn details(&self) -> Value {
        let e = self.explained;
        let routes = self
            .site()
            .map(|site| site.routes.as_slice())
            .unwrap_or_default();
        let verdicts: Vec<Value> = routes
            .iter()
            .zip(&e.verdicts)
            .map(|(route, (won, why))| json!({ "route": route.name, "origin": route.origin, "won": won, "why": why }))
            .collect();
        json!({
            "method": self.request.method,
            "host": e.host,
            "path": e.path,
            "query": e.query,
            "listener": self.listener(),
            "site": self.site().map(|site| &site.name),
            "route": self.route().map(|route| &route.name),
            "routes": verdicts,
            "captures": e.captures.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "filters": self.route().map(filters).unwrap_or_default(),
            "action": self.route().map(|route| self.machine_action(route)),
        })
    }

    fn machine_action(&self, route: &Route) -> Value {
        match &route.action {
            Action::Proxy(index) => json!({ "proxy": self.upstream(*index) }),
            Action::Split(split) => {
                let to: Vec<Value> = split
                    .to
                    .iter()
                    .map(|(index, weight)| json!({ "proxy": self.upstream(*index), "per_10000": weight }))
                    .collect();
                json!({ "split": to })
            }
            Action::Redirect { status, to } => json!({ "redirect": to, "status": status }),
            Action::Respond { status, .. } => json!({ "respond": status }),
        }
    }
}

/// Weights sum to 10,000.
fn share(weight: u32) -> String {
    format!("  ({}.{:02}%)", weight / 100, weight % 100)
}

/// The route's filters in the order they run (on a response, in reverse), in words.
fn filters(route: &Route) -> Vec<String> {
    route.filters.iter().flat_map(describe).collect()
}

fn describe(filter: &Filter) -> Vec<String> {
    let networks = |set: &narthex_config::model::IpSet| {
        set.0
            .iter()
            .map(|net| net.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match filter {
        Filter::RequestHeaders(ops) => ops.iter().map(|op| header("request", op)).collect(),
        Filter::ResponseHeaders(ops) => ops.iter().map(|op| header("response", op)).collect(),
        Filter::StripPrefix(prefix) => vec![format!("strip {prefix} from the path")],
        Filter::AddPrefix(prefix) => vec![format!("put {prefix} before the path")],
        Filter::Rewrite(to) => vec![format!("rewrite the path to {}", to.source)],
        Filter::RewriteRegex { pattern, with } => {
            vec![format!("rewrite {pattern} in the path to {with}")]
        }
        Filter::Allow(set) => vec![format!("allow only {}", networks(set))],
        Filter::Deny(set) => vec![format!("deny {}", networks(set))],
    }
}

fn header(side: &str, op: &HeaderOp) -> String {
    let (name, value) = (&op.name, &op.value.source);
    match op.action {
        HeaderAction::Set => format!("{side} header: set {name} to \"{value}\""),
        HeaderAction::Add => format!("{side} header: add {name} \"{value}\""),
        HeaderAction::Remove => format!("{side} header: remove {name}"),
        HeaderAction::Default => format!("{side} header: {name} is \"{value}\" unless it is there"),
    }
}

#[cfg(test)]
mod tests {
    use crate::Source;

    use super::*;

    const CONFIG: &str = "version 1\nlisten \"127.0.0.1:8080\"\nupstream \"api\" { server \"127.0.0.1:1\" }\n\
        site \"shop.example\" {\n\
            route path=\"/u/{id}/*\" method=\"POST\" { proxy \"api\" }\n\
            route path=\"/u/{id}/x\" { proxy \"api\" }\n\
            route { respond 200 \"x\" }\n\
        }\n";

    fn ask(method: &str, url: &str) -> Result<Explanation, String> {
        let source = Source::Text {
            name: "t.kdl".to_owned(),
            text: CONFIG.replace("/u/{id}/*", "/u/{id}/{rest*}"),
        };
        let outcome = source.examine();
        let config = outcome
            .config
            .unwrap_or_else(|| panic!("{}", outcome.human));
        let request = ExplainRequest {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            client: None,
            listener: None,
        };
        offline(config, &request)
    }

    #[test]
    fn the_winner_and_the_losers_are_named() {
        let explanation = ask("GET", "http://SHOP.example:8080/u/7/./x?y=1").unwrap();
        let text = &explanation.text;
        assert!(
            text.starts_with("request   GET /u/7/x?y=1 for shop.example\n"),
            "{text}"
        );
        assert!(text.contains("  > /u/{id}/x"), "{text}");
        assert!(text.contains("method GET is not POST"), "{text}");
        assert!(text.contains("{id} is \"7\""), "{text}");
        assert_eq!(explanation.details["action"]["proxy"], "api");
        assert_eq!(explanation.details["routes"][2]["won"], false);
    }

    #[test]
    fn an_unknown_host_has_no_site() {
        let explanation = ask("GET", "http://other.example/").unwrap();
        assert!(
            explanation.text.contains("none answers for this host"),
            "{}",
            explanation.text
        );
        assert!(explanation.details["site"].is_null());
    }

    #[test]
    fn a_wrong_question_is_answered_in_words() {
        assert!(
            ask("GET", "shop.example/")
                .unwrap_err()
                .contains("write it as http://")
        );
        assert!(
            ask("GET", "http://shop.example/%zz")
                .unwrap_err()
                .contains("refused")
        );
    }
}

//! Templates: text with `{variables}`, parsed and checked for where they stand.

use crate::model::{Part, Template, TlsVar, Var};
use crate::problem::did_you_mean;
use crate::source::Span;

use super::context::Context;
use super::place::within;

/// Where a template is evaluated; a later place knows everything an earlier one knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// Before the request is sent on.
    Request,
    /// When the answer's head is there.
    Response,
    /// When everything is over.
    Log,
}

/// Longest template, in bytes.
const MAX_TEMPLATE: usize = 64 << 10;

/// A capture that a template uses.
#[derive(Debug, Clone)]
pub struct Used {
    /// Its name.
    pub name: String,
    /// Where.
    pub span: Span,
}

/// Every variable that is one word, and where it is first known.
pub const VARIABLES: &[(&str, Var, Position)] = &[
    ("client.ip", Var::ClientIp, Position::Request),
    ("client.port", Var::ClientPort, Position::Request),
    ("peer.ip", Var::PeerIp, Position::Request),
    ("listener", Var::Listener, Position::Request),
    ("scheme", Var::Scheme, Position::Request),
    ("method", Var::Method, Position::Request),
    ("host", Var::Host, Position::Request),
    ("authority", Var::Authority, Position::Request),
    ("path", Var::Path, Position::Request),
    ("query", Var::Query, Position::Request),
    ("uri", Var::Uri, Position::Request),
    ("protocol", Var::Protocol, Position::Request),
    ("request.id", Var::RequestId, Position::Request),
    ("tls.version", Var::Tls(TlsVar::Version), Position::Request),
    ("tls.suite", Var::Tls(TlsVar::Suite), Position::Request),
    ("tls.sni", Var::Tls(TlsVar::Sni), Position::Request),
    (
        "tls.client.subject",
        Var::Tls(TlsVar::Subject),
        Position::Request,
    ),
    (
        "tls.client.issuer",
        Var::Tls(TlsVar::Issuer),
        Position::Request,
    ),
    (
        "tls.client.serial",
        Var::Tls(TlsVar::Serial),
        Position::Request,
    ),
    (
        "tls.client.fingerprint",
        Var::Tls(TlsVar::Fingerprint),
        Position::Request,
    ),
    ("site", Var::Site, Position::Request),
    ("route", Var::Route, Position::Request),
    ("time", Var::Time, Position::Request),
    ("time.msec", Var::TimeMsec, Position::Request),
    ("upstream", Var::Upstream, Position::Response),
    ("server", Var::Server, Position::Response),
    ("status", Var::Status, Position::Response),
    ("duration.ms", Var::DurationMs, Position::Log),
    ("upstream.duration.ms", Var::UpstreamMs, Position::Log),
    ("bytes.sent", Var::BytesSent, Position::Log),
    ("bytes.received", Var::BytesReceived, Position::Log),
    ("attempts", Var::Attempts, Position::Log),
    ("cache", Var::Cache, Position::Log),
    ("outcome", Var::Outcome, Position::Log),
    ("fault", Var::Fault, Position::Log),
];

/// Variables that end in a name, with what they are for the manual.
pub const FAMILIES: &[(&str, Position)] = &[
    ("request.header.", Position::Request),
    ("cookie.", Position::Request),
    ("query.", Position::Request),
    ("response.header.", Position::Response),
];

/// Whether a capture may not have this name, because a variable has it.
pub fn is_variable(name: &str) -> bool {
    VARIABLES.iter().any(|(n, _, _)| *n == name)
}

/// A name a capture may have.
pub fn is_capture_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && !name.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

/// The key of a hash: a short name for a usual one, or a template.
pub fn hash_key(
    ctx: &mut Context<'_>,
    text: &str,
    span: Span,
    uses: &mut Vec<Used>,
) -> Option<Template> {
    if text.contains('{') {
        return parse(ctx, text, span, Position::Request, uses);
    }
    let spelled = match text.split_once(':') {
        None if text == "client-ip" => "{client.ip}".to_owned(),
        None if text == "path" => "{path}".to_owned(),
        Some(("cookie", name)) => format!("{{cookie.{name}}}"),
        Some(("header", name)) => format!("{{request.header.{name}}}"),
        Some(("query", name)) => format!("{{query.{name}}}"),
        _ => {
            let help = "write \"client-ip\", \"path\", \"cookie:NAME\", \"header:NAME\", \"query:NAME\" or a template such as \"{client.ip}\"";
            ctx.error(
                "bad-split-key",
                span,
                format!("\"{text}\" is nothing to choose by"),
                help,
            );
            return None;
        }
    };
    parse(ctx, &spelled, span, Position::Request, uses)
}

/// Parses a template. Captures it uses go to `used`; whether they are bound is known only at the route.
pub fn parse(
    ctx: &mut Context<'_>,
    text: &str,
    span: Span,
    position: Position,
    used: &mut Vec<Used>,
) -> Option<Template> {
    if text.len() > MAX_TEMPLATE {
        ctx.error(
            "too-long",
            span,
            format!("this text is longer than {MAX_TEMPLATE} bytes"),
            "put it in a file",
        );
        return None;
    }
    let mut parser = Parser {
        ctx,
        text,
        span,
        position,
        used,
        parts: Vec::new(),
        literal: String::new(),
        good: true,
    };
    parser.run();
    let (good, parts) = (parser.good, parser.parts);
    good.then(|| Template {
        source: text.to_owned(),
        parts,
    })
}

struct Parser<'p, 'c> {
    ctx: &'p mut Context<'c>,
    text: &'p str,
    span: Span,
    position: Position,
    used: &'p mut Vec<Used>,
    parts: Vec<Part>,
    literal: String,
    good: bool,
}

impl Parser<'_, '_> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some(c) = self.text.get(at..).and_then(|rest| rest.chars().next()) {
            at += match c {
                '{' => self.brace(at),
                '}' => self.closing(at),
                c => {
                    self.literal.push(c);
                    c.len_utf8()
                }
            };
        }
        self.flush();
    }

    fn flush(&mut self) {
        if !self.literal.is_empty() {
            self.parts
                .push(Part::Text(std::mem::take(&mut self.literal)));
        }
    }

    /// At `{`; returns how many bytes it took.
    fn brace(&mut self, at: usize) -> usize {
        let rest = self.text.get(at + 1..).unwrap_or_default();
        if rest.starts_with('{') {
            self.literal.push('{');
            return 2;
        }
        let Some(end) = rest.find('}') else {
            self.fail(
                "bad-template",
                at,
                1,
                "this `{` is never closed".into(),
                "write `{{` for a brace, or `{name}`".into(),
            );
            return 1 + rest.len();
        };
        let name = rest.get(..end).unwrap_or_default();
        self.flush();
        if let Some(var) = self.variable(name, at) {
            self.parts.push(Part::Var(var));
        }
        end + 2
    }

    fn closing(&mut self, at: usize) -> usize {
        if self.text.get(at + 1..).is_some_and(|r| r.starts_with('}')) {
            self.literal.push('}');
            return 2;
        }
        self.fail(
            "bad-template",
            at,
            1,
            "this `}` closes nothing".into(),
            "write `}}` for a brace".into(),
        );
        1
    }

    fn fail(&mut self, code: &'static str, at: usize, len: usize, message: String, help: String) {
        self.good = false;
        let span = within(self.ctx.sources, self.span, self.text, at, len);
        self.ctx.error(code, span, message, help);
    }

    fn variable(&mut self, name: &str, at: usize) -> Option<Var> {
        let len = name.len() + 2;
        if let Some((_, var, since)) = VARIABLES.iter().find(|(n, _, _)| *n == name) {
            return self.known(name, at, *since).then(|| var.clone());
        }
        if let Some((family, since)) = FAMILIES.iter().find(|(f, _)| name.starts_with(f)) {
            let key = name.get(family.len()..).unwrap_or_default();
            return self
                .known(name, at, *since)
                .then(|| self.member(family, key, at, len))
                .flatten();
        }
        if is_capture_name(name) && self.position != Position::Log {
            let span = within(self.ctx.sources, self.span, self.text, at, len);
            self.used.push(Used {
                name: name.to_owned(),
                span,
            });
            return Some(Var::Capture(name.to_owned()));
        }
        let shown: String = name.chars().take(40).collect();
        self.fail(
            "unknown-variable",
            at,
            len,
            format!("`{{{shown}}}` is not a variable"),
            variable_help(name, &[]),
        );
        None
    }

    fn member(&mut self, family: &str, key: &str, at: usize, len: usize) -> Option<Var> {
        if key.is_empty() || key.contains(|c: char| c.is_control() || c == '{') {
            self.fail(
                "unknown-variable",
                at,
                len,
                format!("`{{{family}}}` needs a name"),
                format!("write `{{{family}NAME}}`"),
            );
            return None;
        }
        if family.ends_with("header.") && !super::headers::is_token(key) {
            self.fail(
                "bad-header-name",
                at,
                len,
                format!("\"{key}\" is not a header name"),
                String::new(),
            );
            return None;
        }
        Some(match family {
            "request.header." => Var::RequestHeader(key.to_owned()),
            "response.header." => Var::ResponseHeader(key.to_owned()),
            "cookie." => Var::Cookie(key.to_owned()),
            _ => Var::QueryParam(key.to_owned()),
        })
    }

    fn known(&mut self, name: &str, at: usize, since: Position) -> bool {
        if since <= self.position {
            return true;
        }
        let when = if since == Position::Log {
            "only when the request is over (access log)"
        } else {
            "only once there is a response"
        };
        let message = format!("`{{{name}}}` is known {when}");
        self.fail(
            "variable-too-early",
            at,
            name.len() + 2,
            message,
            "leave it out here".into(),
        );
        false
    }
}

/// What to write instead of an unknown variable.
pub fn variable_help(name: &str, captures: &[String]) -> String {
    let known = VARIABLES
        .iter()
        .map(|(n, _, _)| *n)
        .chain(captures.iter().map(String::as_str));
    if let Some(near) = did_you_mean(name, known) {
        return format!("did you mean `{{{near}}}`? (`{{{{` writes a brace)");
    }
    if let Some((family, _)) = FAMILIES.iter().find(|(f, _)| {
        did_you_mean(
            name.rsplit_once('.').map_or("", |(f, _)| f),
            [f.trim_end_matches('.')],
        )
        .is_some()
    }) {
        return format!("did you mean `{{{family}NAME}}`?");
    }
    if captures.is_empty() {
        "write `{{` for a brace; the manual lists every variable".to_owned()
    } else {
        let list: Vec<String> = captures.iter().map(|c| format!("`{{{c}}}`")).collect();
        format!("this route's path binds {}", list.join(", "))
    }
}

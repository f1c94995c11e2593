//! Header names and header operations.

use crate::model::{HeaderAction, HeaderOp, Template};
use crate::raw::Item;
use crate::source::Span;

use super::context::Context;
use super::template::{self, Position, Used};

/// A token (RFC 9110 section 5.6.2).
pub fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 256
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Why a rule may not touch this field, and what to do instead.
fn owned(name: &str, response: bool) -> Option<(&'static str, &'static str)> {
    Some(match name.to_ascii_lowercase().as_str() {
        "content-length" | "transfer-encoding" => (
            "frames the message",
            "leave it out; the proxy writes it from the message",
        ),
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "upgrade"
        | "http2-settings" => (
            "belongs to one connection (hop by hop)",
            "leave it out; the proxy writes it itself",
        ),
        "proxy-authenticate" | "proxy-authorization" | "proxy-authentication-info" => {
            ("belongs to one connection (hop by hop)", "leave it out")
        }
        "expect" if !response => ("frames the message", "leave it out; the proxy answers it"),
        "host" if !response => (
            "is the proxy's to write",
            "use `host \"keep\"`, `host \"server\"` or `host \"name\"`",
        ),
        "client-cert" | "client-cert-chain" if !response => (
            "tells who the client has proved to be",
            "write `client-certificate` in the site's `tls`",
        ),
        "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-forwarded-port"
        | "x-real-ip" | "forwarded"
            if !response =>
        {
            (
                "is the proxy's to write",
                "use `forwarded \"x-forwarded\"`, `\"forwarded\"`, `\"both\"` or `\"off\"`",
            )
        }
        _ => return None,
    })
}

/// Checks a field name; reports one that is none.
pub fn check_name(ctx: &mut Context<'_>, name: &str, span: Span) -> bool {
    if is_token(name) {
        return true;
    }
    let help = match name.trim_end_matches(':') {
        trimmed if trimmed != name && is_token(trimmed) => format!("write \"{trimmed}\""),
        _ => "write a name such as \"X-Frame-Options\"".to_owned(),
    };
    ctx.error(
        "bad-header-name",
        span,
        format!("\"{}\" is not a header name", name.escape_default()),
        help,
    );
    false
}

/// The operations of a `header request` or `header response` block.
pub fn operations(
    ctx: &mut Context<'_>,
    item: &Item<'_>,
    response: bool,
    used: &mut Vec<Used>,
) -> Vec<HeaderOp> {
    let mut ops = Vec::new();
    for op in &item.children {
        match action(op.name()) {
            HeaderAction::Remove => {
                for (name, span) in op.texts() {
                    if may_touch(ctx, name, span, response) {
                        ops.push(HeaderOp {
                            action: HeaderAction::Remove,
                            name: name.to_owned(),
                            value: Template::default(),
                        });
                    }
                }
            }
            action => ops.extend(operation(ctx, op, action, response, used)),
        }
    }
    if item.children.is_empty() {
        ctx.warning(
            "empty-block",
            item.name_span,
            "this `header` does nothing",
            "write `set`, `add`, `default` or `remove` in its block",
        );
    }
    ops
}

fn action(name: &str) -> HeaderAction {
    match name {
        "add" => HeaderAction::Add,
        "default" => HeaderAction::Default,
        "remove" => HeaderAction::Remove,
        _ => HeaderAction::Set,
    }
}

fn operation(
    ctx: &mut Context<'_>,
    op: &Item<'_>,
    action: HeaderAction,
    response: bool,
    used: &mut Vec<Used>,
) -> Option<HeaderOp> {
    let (name, name_span) = op.arg_text(0)?;
    let fine = may_touch(ctx, name, name_span, response);
    let (value, value_span) = op.arg_text(1)?;
    if value.chars().any(|c| c.is_control() && c != '\t') {
        let help = "a header value is one line; leave line breaks out";
        ctx.error(
            "bad-header-value",
            value_span,
            "this header value has a control character",
            help,
        );
        return None;
    }
    let position = if response {
        Position::Response
    } else {
        Position::Request
    };
    let value = template::parse(ctx, value, value_span, position, used)?;
    fine.then(|| HeaderOp {
        action,
        name: name.to_owned(),
        value,
    })
}

fn may_touch(ctx: &mut Context<'_>, name: &str, span: Span, response: bool) -> bool {
    if !check_name(ctx, name, span) {
        return false;
    }
    if let Some((why, help)) = owned(name, response) {
        ctx.error(
            "proxy-owned-header",
            span,
            format!("`{name}` {why}; no rule may touch it"),
            help,
        );
        return false;
    }
    true
}

/// Whether the proxy itself owns this field, on either side.
pub fn is_reserved(name: &str) -> bool {
    owned(name, false).is_some() || owned(name, true).is_some()
}

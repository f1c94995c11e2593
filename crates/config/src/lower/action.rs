//! What a route does.

use crate::model::{Action, Split, Template};
use crate::raw::{Item, Val};
use crate::schema;
use crate::source::Span;

use super::context::Context;
use super::template::{self, Position, Used};
use super::upstream::Upstreams;

/// Whether this key is an action.
pub fn is_action(name: &str) -> bool {
    schema::ACTIONS.iter().any(|a| a.name == name)
}

/// An action as written.
#[derive(Debug, Clone)]
pub struct Written {
    /// What; `None` when it is wrong.
    pub action: Option<Action>,
    /// Captures it uses.
    pub uses: Vec<Used>,
    /// Where.
    pub span: Span,
    /// It answers here and nothing is sent on.
    pub answers: bool,
}

/// The action of a block, and reports when there are several.
pub fn read(
    ctx: &mut Context<'_>,
    upstreams: &mut Upstreams,
    items: &[Item<'_>],
) -> Option<Written> {
    let mut actions = items.iter().filter(|i| is_action(i.name()));
    let first = actions.next()?;
    for more in actions.filter(|more| more.name() != first.name()) {
        ctx.problems.error_at(
            "two-actions",
            more.name_span,
            format!(
                "a route does one thing, and it is `{}` already",
                first.name()
            ),
            "write another route, or remove one of them",
            (first.name_span, "the first one"),
        );
    }
    let mut uses = Vec::new();
    let action = action(ctx, upstreams, first, &mut uses);
    let answers = matches!(first.name(), "redirect" | "respond");
    Some(Written {
        action,
        uses,
        span: first.span,
        answers,
    })
}

fn action(
    ctx: &mut Context<'_>,
    upstreams: &mut Upstreams,
    item: &Item<'_>,
    uses: &mut Vec<Used>,
) -> Option<Action> {
    match item.name() {
        "proxy" => {
            let texts: Vec<(&str, Span)> = item.texts().collect();
            if texts.len() != item.args.len() {
                return None;
            }
            upstreams.resolve(ctx, &texts).map(Action::Proxy)
        }
        "redirect" => redirect(ctx, item, uses),
        "respond" => respond(ctx, item, uses),
        _ => split(ctx, upstreams, item, uses).map(Action::Split),
    }
}

fn redirect(ctx: &mut Context<'_>, item: &Item<'_>, uses: &mut Vec<Used>) -> Option<Action> {
    let status = match item
        .prop("status")
        .and_then(|g| g.int::<u16>().map(|n| (n, g.span)))
    {
        Some((304..=306, span)) => {
            ctx.error(
                "not-a-redirect",
                span,
                "this status is not a redirect",
                "write 301, 302, 303, 307 or 308",
            );
            308
        }
        Some((status, _)) => status,
        None => 308,
    };
    let (text, span) = item.arg_text(0)?;
    if text.is_empty() || text.chars().any(char::is_control) {
        ctx.error(
            "bad-redirect",
            span,
            "this is not a place to redirect to",
            "write \"/path\" or \"https://name/path\"",
        );
        return None;
    }
    if !text.starts_with(['/', '{']) && !text.contains("://") {
        let help = format!("write \"/{text}\", or \"https://{text}\" for another site");
        ctx.error(
            "bad-redirect",
            span,
            format!("\"{text}\" is neither a path nor a URL"),
            help,
        );
        return None;
    }
    let to = template::parse(ctx, text, span, Position::Request, uses)?;
    Some(Action::Redirect { status, to })
}

fn respond(ctx: &mut Context<'_>, item: &Item<'_>, uses: &mut Vec<Used>) -> Option<Action> {
    let status: Option<u16> = item.arg(0).and_then(|a| a.int());
    let body = match item.arg_text(1) {
        Some((text, span)) => template::parse(ctx, text, span, Position::Request, uses)?,
        None => Template::default(),
    };
    if let (Some(204 | 205 | 304), Some(arg)) = (status, item.arg(1))
        && !body.parts.is_empty()
    {
        ctx.error(
            "body-not-allowed",
            arg.span,
            "an answer with this status has no body",
            "leave the text out",
        );
    }
    let mut content_type = "text/plain; charset=utf-8".to_owned();
    if let Some((text, span)) = item.text("type") {
        if text.chars().any(|c| c.is_control() || !c.is_ascii()) || !text.contains('/') {
            ctx.error(
                "bad-content-type",
                span,
                format!("\"{}\" is not a media type", text.escape_default()),
                "write a type such as \"text/html\"",
            );
        } else {
            text.clone_into(&mut content_type);
        }
    }
    Some(Action::Respond {
        status: status?,
        content_type,
        body,
    })
}

fn split(
    ctx: &mut Context<'_>,
    upstreams: &mut Upstreams,
    item: &Item<'_>,
    uses: &mut Vec<Used>,
) -> Option<Split> {
    let by = item
        .text("by")
        .and_then(|(text, span)| template::hash_key(ctx, text, span, uses));
    let mut to = Vec::new();
    let mut sum = 0;
    let mut good = true;
    for line in item.all("to") {
        let index = line
            .arg_text(0)
            .and_then(|target| upstreams.resolve(ctx, &[target]));
        match (index, line.arg(1).map(|a| &a.val)) {
            (Some(index), Some(Val::Share(share))) => {
                sum += *share;
                to.push((index, *share));
            }
            _ => good = false,
        }
    }
    if !good {
        return None;
    }
    if to.is_empty() {
        ctx.error(
            "empty-block",
            item.name_span,
            "this `split` goes nowhere",
            "write `to \"upstream\" \"50%\"` in its block",
        );
        return None;
    }
    if sum != 10_000 {
        let message = format!("these shares make {}%, not 100%", super::text::percent(sum));
        ctx.error("bad-shares", item.name_span, message, "change one of them");
        return None;
    }
    Some(Split { by, to })
}

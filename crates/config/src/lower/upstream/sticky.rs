//! `sticky`.

use crate::lower::context::{Context, set};
use crate::lower::headers::is_token;
use crate::model::{SameSite, Secure, Sticky};
use crate::raw::Item;
use crate::secret;

/// Shortest secret, in bytes: what is shorter can be guessed offline.
const SECRET_MIN: usize = 16;

pub(super) fn read(ctx: &mut Context<'_>, item: &Item<'_>, upstream: &str) -> Option<Sticky> {
    let mut sticky = Sticky::new(usual_name(upstream));
    if let Some((name, span)) = item.arg_text(0) {
        if !is_token(name) || name.len() > 64 {
            ctx.error(
                "bad-cookie",
                span,
                format!("\"{}\" is not the name of a cookie", name.escape_default()),
                "write letters, digits, `-` and `_`",
            );
            return None;
        }
        name.clone_into(&mut sticky.cookie);
    }
    if let Some((reference, span)) = item.text("secret") {
        sticky.secret = secret::resolve(ctx, reference, span);
        if sticky
            .secret
            .as_ref()
            .is_some_and(|s| s.expose().len() < SECRET_MIN)
        {
            ctx.error(
                "weak-secret",
                span,
                format!("the secret {reference} is shorter than {SECRET_MIN} bytes"),
                "make one with `openssl rand -hex 32`",
            );
        }
    }
    set(&mut sticky.ttl, item.duration("ttl"));
    if let Some((path, span)) = item.text("path") {
        let good = path.starts_with('/')
            && path
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b';' && b != b',');
        if good {
            path.clone_into(&mut sticky.path);
        } else {
            ctx.error(
                "bad-path",
                span,
                format!("\"{}\" is not the path of a cookie", path.escape_default()),
                "write a path such as \"/\"",
            );
        }
    }
    sticky.same_site = match item.text("same-site") {
        Some(("strict", _)) => SameSite::Strict,
        Some(("none", _)) => SameSite::None,
        _ => SameSite::Lax,
    };
    sticky.secure = match item.text("secure") {
        Some(("always", _)) => Secure::Always,
        Some(("never", _)) => Secure::Never,
        _ => Secure::Auto,
    };
    if let (SameSite::None, Secure::Never, Some(given)) =
        (sticky.same_site, sticky.secure, item.prop("same-site"))
    {
        ctx.warning(
            "unused-key",
            given.span,
            "browsers refuse a cookie with `SameSite=None` and without `Secure`",
            "write secure=\"always\"",
        );
    }
    Some(sticky)
}

/// A name of the upstream's own, so that two upstreams of one host do not take each other's cookie for a forged one. A hash
/// (FNV-1a), for it is shown to clients.
fn usual_name(upstream: &str) -> String {
    let hash = upstream.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("narthex-{:08x}", (hash ^ (hash >> 32)) as u32)
}

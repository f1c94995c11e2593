//! Secrets by reference: `env:NAME`, `file:/path`. What they resolve to is shown by nothing.

use std::path::Path;

use crate::lower::context::Context;
use crate::model::Secret;
use crate::source::Span;

/// Largest secret file, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// Resolves a reference.
pub(crate) fn resolve(ctx: &mut Context<'_>, reference: &str, span: Span) -> Option<Secret> {
    let value = if let Some(name) = reference.strip_prefix("env:") {
        (ctx.env.var)(name).ok_or_else(|| {
            (
                format!("the environment variable {name} is not set"),
                format!("set {name} before starting, or use \"file:/path\""),
            )
        })
    } else {
        read_file(
            ctx,
            reference.strip_prefix("file:").unwrap_or_default(),
            span,
        )
    };
    match value {
        Ok(value) if value.is_empty() => {
            ctx.error(
                "empty-secret",
                span,
                format!("the secret {reference} is empty"),
                "give it a value",
            );
            None
        }
        Ok(value) => Some(Secret::new(reference, value)),
        Err((message, help)) => {
            ctx.error("unreadable-secret", span, message, help);
            None
        }
    }
}

/// The file's text without the line break that editors and `echo` leave at its end.
fn read_file(ctx: &Context<'_>, path: &str, span: Span) -> Result<String, (String, String)> {
    let path = ctx.beside(span, path);
    let bytes = read(ctx, &path, MAX_SECRET)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.trim_end_matches(['\n', '\r']).to_owned()),
        Err(_) => Err((
            format!("the secret file {} is not text", path.display()),
            "write it as UTF-8".to_owned(),
        )),
    }
}

/// Reads a file that the configuration names.
pub(crate) fn read(
    ctx: &Context<'_>,
    path: &Path,
    limit: u64,
) -> Result<Vec<u8>, (String, String)> {
    match ctx.env.files.read(path, limit + 1) {
        Ok(bytes) if bytes.len() as u64 > limit => Err((
            format!("{} is larger than {} KiB", path.display(), limit >> 10),
            "use a smaller file".to_owned(),
        )),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err((
            format!("cannot read {}: {}", path.display(), reason(&error)),
            "check the path (it starts at this file's directory) and who may read it".to_owned(),
        )),
    }
}

/// The same words on every system.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

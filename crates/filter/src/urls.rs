//! `Location`, `Content-Location`, `Refresh` and `Set-Cookie` of a response: what names the origin is rewritten, so that
//! its name doesn't leak and the client comes back through the proxy.

mod cookie;
mod refresh;
mod rewrite;

use narthex_message::{Edits, FieldId, FieldSet, Head};

use crate::template::line_value;

/// By which names the origin may call itself, and what the client knows it as.
#[derive(Debug, Clone, Copy)]
pub struct UrlMap<'a> {
    /// Names and addresses, with and without port, by which the origin may call itself; the `Host` sent to it too. An
    /// entry without port stands for the scheme's own port.
    pub server_hosts: &'a [&'a str],
    /// `http` or `https`, as the client speaks it.
    pub public_scheme: &'a str,
    /// Host and port as the client asked.
    pub public_authority: &'a str,
    /// What `strip-prefix` removed; empty if nothing.
    pub public_prefix: &'a str,
    /// What `add-prefix` added; empty if nothing.
    pub upstream_prefix: &'a str,
}

const FIELDS: [FieldId; 4] = [
    FieldId::Location,
    FieldId::ContentLocation,
    FieldId::Refresh,
    FieldId::SetCookie,
];

/// Rewrites what in the origin's response names the origin. Lines that were added by an edit are ours and stay as they
/// are; what is already removed stays removed. Run it before the response filters.
pub fn rewrite_urls(head: Head<'_>, edits: &mut Edits, map: &UrlMap<'_>) {
    if !head.index.present.intersects(FieldSet::of(&FIELDS)) {
        return;
    }
    for id in FIELDS {
        match id {
            FieldId::SetCookie => field(head, edits, id, |value| map.cookie(value)),
            FieldId::Refresh => field(head, edits, id, |value| map.refresh(value)),
            _ => field(head, edits, id, |value| map.url(value)),
        }
    }
}

/// Replaces the lines of one field if `change` changes one of them; all stay in order.
fn field(
    head: Head<'_>,
    edits: &mut Edits,
    id: FieldId,
    change: impl Fn(&[u8]) -> Option<Vec<u8>>,
) {
    if !head.index.present.has(id) || edits.removed().has(id) {
        return;
    }
    let changed: Vec<_> = head.all(id).map(|value| (value, change(value))).collect();
    if changed.iter().all(|(_, new)| new.is_none()) {
        return;
    }
    let added: Vec<Vec<u8>> = edits
        .lines()
        .filter(|(line, _)| *line == id)
        .map(|(_, line)| line_value(line).to_vec())
        .collect();
    edits.remove(id.name());
    for (old, new) in &changed {
        edits.add(id.name(), new.as_deref().unwrap_or(old));
    }
    for value in &added {
        edits.add(id.name(), value);
    }
}

#[cfg(test)]
mod tests;

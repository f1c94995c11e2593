//! `Surrogate-Control` (W3C note "Edge Architecture", 2001): what some origins say to caches in front of them instead of
//! `CDN-Cache-Control`. Read in the profile that allows everything only.

use narthex_message::Head;

use super::cache_control::{Arg, Response, element_end, least, seconds, split};

/// How we call ourselves to origins that name the surrogate they mean.
pub const CAPABILITY: &[u8] = b"narthex=\"Surrogate/1.0\"";
const NAME: &[u8] = b"narthex";

/// What it says to us; none: nothing that we know.
pub fn read(head: Head<'_>) -> Option<Response> {
    // What names us counts before what is for every surrogate.
    said(head, true).or_else(|| said(head, false))
}

fn said(head: Head<'_>, named: bool) -> Option<Response> {
    let mut response = Response::default();
    let mut is_said = false;
    for mut line in head.named(b"Surrogate-Control") {
        while !line.is_empty() {
            let end = element_end(line);
            let element = line.get(..end).unwrap_or_default();
            line = line.get(end + 1..).unwrap_or_default();
            let mut parts = element.splitn(2, |&b| b == b';').map(<[u8]>::trim_ascii);
            let directive = parts.next().unwrap_or_default();
            let is_ours = match parts.next() {
                None => !named,
                Some(target) => named && target == NAME,
            };
            is_said |= is_ours && take(directive, &mut response);
        }
    }
    is_said.then_some(response)
}

/// `no-store`, or `max-age=seconds`, after which `+seconds` is how long it may be served stale. Whether it is one of them.
fn take(directive: &[u8], response: &mut Response) -> bool {
    let (name, arg) = split(directive);
    if name.eq_ignore_ascii_case(b"no-store") {
        response.no_store = true;
        return true;
    }
    if !name.eq_ignore_ascii_case(b"max-age") {
        return false;
    }
    if let Arg::Token(value) = arg
        && let Some(plus) = value.iter().position(|&b| b == b'+')
    {
        let (fresh, stale) = value.split_at(plus);
        let stale = seconds(stale.get(1..).unwrap_or_default()).unwrap_or(0);
        least(&mut response.while_revalidate, stale);
        least(&mut response.if_error, stale);
        response.directive(name, Arg::Token(fresh));
        return true;
    }
    response.directive(name, arg);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::response;

    fn of(lines: &[&str]) -> Option<Response> {
        let lines: Vec<_> = lines.iter().map(|l| ("Surrogate-Control", *l)).collect();
        read(response(200, &lines).head())
    }

    #[test]
    fn what_is_for_us() {
        let max_age = |lines: &[&str]| of(lines).map(|said| said.max_age);
        for (lines, want) in [
            (&["max-age=3600"][..], Some(Some(3600))),
            (&["MaX-aGe=3600"], Some(Some(3600))),
            (&["foobar, max-age=3600"], Some(Some(3600))),
            (&["max-age=3600;narthex"], Some(Some(3600))),
            (&["max-age=3600 ; narthex"], Some(Some(3600))),
            (&["max-age=3600;other"], None),
            (&["max-age=3600;"], None),
            (&["max-age=5;narthex, max-age=1"], Some(Some(5))),
            (&["max-age=1", "max-age=5;narthex"], Some(Some(5))),
            (&["max-age=1, max-age=5;other"], Some(Some(1))),
            (
                &["max-age=99999999999"],
                Some(Some(crate::policy::FOREVER_S)),
            ),
            (&["max-age =100"], Some(Some(0))),
            (&["max-age= 100"], Some(Some(0))),
            (&["max-age=1+x"], Some(Some(1))),
            (&["max-age=+5"], Some(Some(0))),
            (&["max-age=9, max-age=4"], Some(Some(4))),
            (&["content=\"ESI/1.0\""], None),
            (&["content=\"a, max-age=5\""], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(max_age(lines), want, "{lines:?}");
        }
        assert!(of(&["no-store"]).is_some_and(|said| said.no_store));
        assert!(of(&["no-store;other"]).is_none());
        let said = of(&["max-age=30+60"]).unwrap();
        assert_eq!(
            (said.max_age, said.while_revalidate, said.if_error),
            (Some(30), Some(60), Some(60))
        );
    }
}

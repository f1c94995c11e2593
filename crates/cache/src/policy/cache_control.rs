//! `Cache-Control` (RFC 9111 5.2): directives of several lines, quoted or not, broken values read as the stricter meaning.

use narthex_config::model::CacheProfile;
use narthex_message::Head;
use narthex_message::validate::is_token_byte;

use super::FOREVER_S;

/// Fields that a qualified `no-cache` or `private` may name; with more the whole answer is meant.
const MAX_FIELDS: usize = 32;

/// A directive's argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg<'a> {
    /// None.
    None,
    /// A token.
    Token(&'a [u8]),
    /// A quoted string, between its quotes, escapes as they are.
    Quoted(&'a [u8]),
    /// Neither.
    Broken,
}

/// The directives of one field line. Commas in quotes separate nothing.
pub struct Directives<'a>(pub &'a [u8]);

impl<'a> Iterator for Directives<'a> {
    type Item = (&'a [u8], Arg<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.0.is_empty() {
                return None;
            }
            let end = element_end(self.0);
            let element = self.0.get(..end).unwrap_or_default().trim_ascii();
            self.0 = self.0.get(end + 1..).unwrap_or_default();
            if !element.is_empty() {
                return Some(split(element));
            }
        }
    }
}

/// Where the first element ends: at a comma outside quotes, or at the end.
pub fn element_end(value: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &b) in value.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    value.len()
}

pub(super) fn split(element: &[u8]) -> (&[u8], Arg<'_>) {
    let Some(equals) = element.iter().position(|b| *b == b'=') else {
        return (element, Arg::None);
    };
    let (name, value) = (
        element.get(..equals).unwrap_or_default(),
        element.get(equals + 1..).unwrap_or_default(),
    );
    // White space around `=` is not in the grammar. The directive is still known by its name, its value is not believed.
    if name.trim_ascii().len() != name.len() {
        return (name.trim_ascii(), Arg::Broken);
    }
    (name, argument(value))
}

fn argument(value: &[u8]) -> Arg<'_> {
    if let [b'"', inner @ .., b'"'] = value {
        let mut escaped = false;
        for &b in inner {
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => return Arg::Broken,
                _ => {}
            }
        }
        return if escaped {
            Arg::Broken
        } else {
            Arg::Quoted(inner)
        };
    }
    if !value.is_empty() && value.iter().all(|&b| is_token_byte(b)) {
        Arg::Token(value)
    } else {
        Arg::Broken
    }
}

/// Seconds (RFC 9111 1.2.2): digits only, at most [`FOREVER_S`] however many they are. `None` if it is no such number.
pub fn seconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut n = 0u64;
    for &b in digits {
        n = n.saturating_mul(10).saturating_add(u64::from(b - b'0'));
    }
    Some(n.min(u64::from(FOREVER_S)) as u32)
}

fn delta(arg: Arg<'_>) -> Option<u32> {
    match arg {
        Arg::Token(v) | Arg::Quoted(v) => seconds(v),
        Arg::None | Arg::Broken => None,
    }
}

/// `no-cache` or `private`.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Not said.
    #[default]
    None,
    /// Of these fields only (lower case).
    Fields(Vec<Box<[u8]>>),
    /// Of the whole answer.
    All,
}

impl Scope {
    /// Does it name this field (any case)?
    pub fn names(&self, name: &[u8]) -> bool {
        matches!(self, Self::Fields(names) if names.iter().any(|n| name.eq_ignore_ascii_case(n)))
    }

    /// Said once more: without an argument, or with a list of names. What is not a list of names means everything.
    fn widen(&mut self, list: Option<&[u8]>) {
        let names = match (list, std::mem::take(self)) {
            (_, Self::All) | (None, _) => None,
            (Some(list), Self::None) => add_names(list, Vec::new()),
            (Some(list), Self::Fields(names)) => add_names(list, names),
        };
        *self = names.map_or(Self::All, Self::Fields);
    }

    fn said(&mut self, arg: Arg<'_>) {
        match arg {
            Arg::Token(list) | Arg::Quoted(list) => self.widen(Some(list)),
            Arg::None | Arg::Broken => self.widen(None),
        }
    }
}

/// Without these an answer is another one: who names them means all of it.
const INDISPENSABLE: narthex_message::FieldSet = {
    use narthex_message::FieldId as F;
    narthex_message::FieldSet::of(&[
        F::CacheControl,
        F::ContentEncoding,
        F::ContentRange,
        F::ContentType,
        F::Date,
        F::ETag,
        F::Expires,
        F::Location,
        F::Vary,
    ])
};

fn add_names(list: &[u8], mut names: Vec<Box<[u8]>>) -> Option<Vec<Box<[u8]>>> {
    for name in list.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
        if name.is_empty() {
            continue;
        }
        if !name.iter().all(|&b| is_token_byte(b))
            || INDISPENSABLE.has(narthex_message::FieldId::of(name))
            || names.len() == MAX_FIELDS
        {
            return None;
        }
        names.push(name.to_ascii_lowercase().into());
    }
    (!names.is_empty()).then_some(names)
}

/// What a response says. Of several values the least; a value that is none is 0: stale (RFC 9111 4.2.1).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`.
    pub no_cache: Scope,
    /// `private`.
    pub private: Scope,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
    /// `no-transform`.
    pub no_transform: bool,
    /// `max-age`.
    pub max_age: Option<u32>,
    /// `s-maxage`.
    pub s_maxage: Option<u32>,
    /// `stale-while-revalidate` (RFC 5861 3).
    pub while_revalidate: Option<u32>,
    /// `stale-if-error` (RFC 5861 4).
    pub if_error: Option<u32>,
}

impl Response {
    /// Of these lines.
    pub fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut said = Self::default();
        for (name, arg) in lines.flat_map(Directives) {
            said.directive(name, arg);
        }
        said
    }

    /// One directive. Unknown ones say nothing.
    pub(super) fn directive(&mut self, name: &[u8], arg: Arg<'_>) {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        // By length first: no line is compared with every name.
        match name.len() {
            6 if is(b"public") => self.public = true,
            7 if is(b"max-age") => least(&mut self.max_age, delta(arg).unwrap_or(0)),
            7 if is(b"private") => self.private.said(arg),
            8 if is(b"no-store") => self.no_store = true,
            8 if is(b"no-cache") => self.no_cache.said(arg),
            8 if is(b"s-maxage") => least(&mut self.s_maxage, delta(arg).unwrap_or(0)),
            9 if is(b"immutable") => self.immutable = true,
            12 if is(b"no-transform") => self.no_transform = true,
            14 if is(b"stale-if-error") => least(&mut self.if_error, delta(arg).unwrap_or(0)),
            15 if is(b"must-revalidate") => self.must_revalidate = true,
            15 if is(b"must-understand") => self.must_understand = true,
            16 if is(b"proxy-revalidate") => self.proxy_revalidate = true,
            22 if is(b"stale-while-revalidate") => {
                least(&mut self.while_revalidate, delta(arg).unwrap_or(0));
            }
            _ => {}
        }
    }
}

pub(super) fn least(slot: &mut Option<u32>, value: u32) {
    *slot = Some(slot.map_or(value, |old| old.min(value)));
}

/// A member of a targeted field, by its key.
impl Response {
    /// A directive of a structured field (RFC 9213 2.1), where types are strict and a key stands for its last member.
    pub(super) fn member(&mut self, key: &[u8], value: &super::structured::Value<'_>) {
        use super::structured::Value;
        let on = !matches!(value, Value::False);
        let seconds = match value {
            Value::Integer(n) => {
                Some(u64::try_from(*n).unwrap_or(0).min(u64::from(FOREVER_S)) as u32)
            }
            // Another type is no number: stale, as for an unreadable one.
            _ => Some(0),
        };
        let scope = |slot: &mut Scope| match value {
            Value::False => *slot = Scope::None,
            Value::String(list) => {
                *slot = Scope::None;
                slot.widen(Some(list));
            }
            _ => *slot = Scope::All,
        };
        match key {
            b"public" => self.public = on,
            b"max-age" => self.max_age = seconds,
            b"private" => scope(&mut self.private),
            b"no-store" => self.no_store = on,
            b"no-cache" => scope(&mut self.no_cache),
            b"s-maxage" => self.s_maxage = seconds,
            b"immutable" => self.immutable = on,
            b"no-transform" => self.no_transform = on,
            b"stale-if-error" => self.if_error = seconds,
            b"must-revalidate" => self.must_revalidate = on,
            b"must-understand" => self.must_understand = on,
            b"proxy-revalidate" => self.proxy_revalidate = on,
            b"stale-while-revalidate" => self.while_revalidate = seconds,
            _ => {}
        }
    }
}

/// The fields that are for caches like this one, before `Cache-Control` (RFC 9213 2.2).
const TARGETED: &[u8] = b"CDN-Cache-Control";

/// What governs a response, and whether it is a targeted field: then `Expires` and `Cache-Control` count for nothing.
pub fn of_response(head: Head<'_>, profile: CacheProfile) -> (Response, bool) {
    let mut lines = head.named(TARGETED);
    if let Some(first) = lines.next() {
        let mut joined = first.to_vec();
        for more in lines {
            joined.extend_from_slice(b", ");
            joined.extend_from_slice(more);
        }
        // One that is empty or cannot be read is as if it were not there.
        if let Some(members) = super::structured::dictionary(&joined)
            && !members.is_empty()
        {
            let mut said = Response::default();
            for (key, value) in &members {
                said.member(key, value);
            }
            return (said, true);
        }
    }
    if profile == CacheProfile::Rfc9111
        && let Some(said) = super::surrogate::read(head)
    {
        return (said, true);
    }
    (
        Response::read(head.all(narthex_message::FieldId::CacheControl)),
        false,
    )
}

/// What a request says. Times that are none: `max-age` and `min-fresh` are taken at their strictest, the lenient ones ignored.
pub fn of_request<'a>(lines: impl Iterator<Item = &'a [u8]>, asked: &mut super::Asked) {
    for (name, arg) in lines.flat_map(Directives) {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            7 if is(b"max-age") => least(&mut asked.max_age, delta(arg).unwrap_or(0)),
            8 if is(b"no-cache") => asked.no_cache = true,
            8 if is(b"no-store") => asked.no_store = true,
            9 if is(b"max-stale") => {
                let value = if arg == Arg::None {
                    Some(FOREVER_S)
                } else {
                    delta(arg)
                };
                if let Some(value) = value {
                    least(&mut asked.max_stale, value);
                }
            }
            9 if is(b"min-fresh") => {
                let value = delta(arg).unwrap_or(FOREVER_S);
                asked.min_fresh = Some(asked.min_fresh.map_or(value, |old| old.max(value)));
            }
            14 if is(b"only-if-cached") => asked.only_if_cached = true,
            14 if is(b"stale-if-error") => {
                if let Some(value) = delta(arg) {
                    least(&mut asked.stale_if_error, value);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Response {
        Response::read(lines.iter().map(|l| l.as_bytes()))
    }

    #[test]
    fn max_age_in_every_spelling() {
        for (lines, want) in [
            (&["max-age=3600"][..], Some(3600)),
            (&["MaX-aGe=3600"], Some(3600)),
            (&["foobar, max-age=3600"], Some(3600)),
            (&["max-age=\"3600\""], Some(3600)),
            (&["max-age='3600'"], Some(0)),
            (&["max-age=003600"], Some(3600)),
            (&["max-age=2147483647"], Some(2_147_483_647)),
            (&["max-age=2147483648"], Some(FOREVER_S)),
            (&["max-age=99999999999"], Some(FOREVER_S)),
            (
                &["max-age=99999999999999999999999999999999999"],
                Some(FOREVER_S),
            ),
            (&["max-age=-3600"], Some(0)),
            (&["max-age=3600.0"], Some(0)),
            (&["max-age=3600.5"], Some(0)),
            (&["max-age=a3600"], Some(0)),
            (&["max-age=3600a"], Some(0)),
            (&["max-age =3600"], Some(0)),
            (&["max-age= 3600"], Some(0)),
            (&["max-age="], Some(0)),
            (&["max-age"], Some(0)),
            (&["max-age=1 2"], Some(0)),
            (&["max-age=\"12"], Some(0)),
            (&["max-age=\"1\"2"], Some(0)),
            (&["max-age=\"1\\2\""], Some(0)),
            (&["extension=\"max-age=3600\", max-age=1"], Some(1)),
            (&["max-age=1, extension=\"max-age=3600\""], Some(1)),
            (
                &["extension=\"a\\\", max-age=3600\", max-age=\"1\""],
                Some(1),
            ),
            (&["max-age=3600, max-age=1800"], Some(1800)),
            (&["max-age=1", "max-age=1800"], Some(1)),
            (&["max-age=1800", "max-age=1"], Some(1)),
            (&[",, ,max-age=5,"], Some(5)),
            (&["xmax-age=5", "max-agex=5", ""], None),
        ] {
            assert_eq!(read(lines).max_age, want, "{lines:?}");
        }
    }

    #[test]
    fn scopes() {
        let fields =
            |names: &[&str]| Scope::Fields(names.iter().map(|n| n.as_bytes().into()).collect());
        for (line, want) in [
            ("private", Scope::All),
            ("private=\"a\"", fields(&["a"])),
            ("private=\"A, b ,,c\"", fields(&["a", "b", "c"])),
            ("private=a", fields(&["a"])),
            ("private=\"a\", private=\"b\"", fields(&["a", "b"])),
            ("private=\"a\", private", Scope::All),
            ("private, private=\"a\"", Scope::All),
            ("private=\"\"", Scope::All),
            ("private=\"a b\"", Scope::All),
            ("private=\"a", Scope::All),
            ("private=", Scope::All),
            ("private=\"content-type\"", Scope::All),
            ("private=\"set-cookie\"", fields(&["set-cookie"])),
            ("x=\"private\"", Scope::None),
        ] {
            assert_eq!(read(&[line]).private, want, "{line}");
        }
        let many: Vec<_> = (0..40).map(|n| format!("f{n}")).collect();
        assert_eq!(
            read(&[&format!("no-cache=\"{}\"", many.join(","))]).no_cache,
            Scope::All
        );
    }

    #[test]
    fn flags() {
        let said = read(&[
            "No-StOrE, PUBLIC, must-revalidate",
            "proxy-revalidate,must-understand, immutable,no-transform, s-maxage=7, stale-while-revalidate=8, stale-if-error=\"9\"",
        ]);
        assert!(said.no_store && said.public && said.must_revalidate && said.proxy_revalidate);
        assert!(said.must_understand && said.immutable && said.no_transform);
        assert_eq!(
            (said.s_maxage, said.while_revalidate, said.if_error),
            (Some(7), Some(8), Some(9))
        );
        assert_eq!(
            read(&["x=\"no-store\", \"no-store\", y=no-store"]),
            Response::default()
        );
    }

    #[test]
    fn requests() {
        let ask = |line: &str| {
            let mut asked = super::super::Asked::default();
            of_request(std::iter::once(line.as_bytes()), &mut asked);
            asked
        };
        let a = ask(
            "max-age=0, no-cache, no-store, only-if-cached, min-fresh=5, min-fresh=7, stale-if-error=3",
        );
        assert!(a.no_cache && a.no_store && a.only_if_cached);
        assert_eq!(
            (a.max_age, a.min_fresh, a.stale_if_error, a.max_stale),
            (Some(0), Some(7), Some(3), None)
        );
        assert_eq!(ask("max-stale").max_stale, Some(FOREVER_S));
        assert_eq!(ask("max-stale=10").max_stale, Some(10));
        assert_eq!(ask("max-stale=x").max_stale, None);
        assert_eq!(ask("max-age=x").max_age, Some(0));
        assert_eq!(ask("min-fresh=x").min_fresh, Some(FOREVER_S));
        assert_eq!(ask("nothing-to-see-here"), super::super::Asked::default());
    }

    /// A second reader, written from the grammar without a state machine: for lines without broken quotes both agree.
    fn naive(line: &str) -> Vec<(String, Option<String>)> {
        let (mut out, mut rest) = (Vec::new(), line.to_owned());
        let mut strings = Vec::new();
        while let Some(open) = rest.find('"') {
            let close = rest[open + 1..].find('"').unwrap() + open + 1;
            strings.push(rest[open + 1..close].to_owned());
            rest.replace_range(open..=close, &format!("\u{1}{}\u{1}", strings.len() - 1));
        }
        for element in rest.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            match element.split_once('=') {
                None => out.push((element.to_owned(), None)),
                Some((name, value)) => {
                    let value = value.strip_prefix('\u{1}').map_or_else(
                        || value.to_owned(),
                        |v| strings[v.trim_end_matches('\u{1}').parse::<usize>().unwrap()].clone(),
                    );
                    out.push((name.to_owned(), Some(value)));
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_reader(line in "([a-z-]{1,6}(=([a-z0-9]{1,4}|\"[a-z0-9=, ]{0,6}\"))?[ ]{0,2},[ ]{0,2}){0,6}") {
            let ours: Vec<_> = Directives(line.as_bytes()).map(|(name, arg)| {
                let text = |v: &[u8]| String::from_utf8(v.to_vec()).unwrap();
                (text(name), match arg {
                    Arg::None => None,
                    Arg::Token(v) | Arg::Quoted(v) => Some(text(v)),
                    Arg::Broken => panic!("broken: {line}"),
                })
            }).collect();
            prop_assert_eq!(ours, naive(&line));
        }

        #[test]
        fn never_panics(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Response::read(std::iter::once(&line[..]));
        }

        /// A restriction is never lost by what stands beside it, unless a quote swallows it.
        #[test]
        fn restrictions_hold(before in "[a-z=0-9, ]{0,20}", after in "[a-z=0-9, \"]{0,20}") {
            let line = format!("{before},no-store,{after}");
            prop_assert!(read(&[&line]).no_store);
        }
    }
}

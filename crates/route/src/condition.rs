//! Conditions beside the path: method, header, cookie, query, client address. One evaluation serves requests and
//! `explain`.

use std::fmt;
use std::net::IpAddr;

use narthex_config::model::{CertificatePart, Condition, IpSet, ValueMatch};
use narthex_message::{cookie, query};

use crate::regexes::{Collector, Regexes};

/// Deepest nesting of `not` and `any`.
const MAX_DEPTH: usize = 16;

/// Header fields of a request, whatever their form.
pub trait Fields {
    /// Calls `each` with every value of the field `name` (compared without regard to case), in order, one call a line,
    /// until it returns `false`.
    fn each(&self, name: &str, each: &mut dyn FnMut(&[u8]) -> bool);

    /// Of the certificate by which the client has proved who it is; empty without one.
    #[allow(clippy::unnecessary_literal_bound)] // of a request that has one it is the request's
    fn certificate(&self, _part: CertificatePart) -> &str {
        ""
    }
}

/// No fields.
impl Fields for () {
    fn each(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) {}
}

/// Names and values, such as `explain` is given.
impl Fields for Vec<(String, Vec<u8>)> {
    fn each(&self, name: &str, each: &mut dyn FnMut(&[u8]) -> bool) {
        for (_, value) in self.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)) {
            if !each(value) {
                return;
            }
        }
    }
}

/// What is asked: everything of a request that routing looks at.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// Canonical host without port (`narthex_message::authority`).
    pub host: &'a str,
    /// Canonical path with the site's choice of merged slashes (`narthex_message::path`), or `*`.
    pub path: &'a str,
    /// Case-sensitive.
    pub method: &'a str,
    /// After trusted proxies and PROXY protocol.
    pub client: IpAddr,
    /// Without `?`; empty if there is none.
    pub query: &'a [u8],
    /// Header fields.
    pub fields: &'a dyn Fields,
}

/// A compiled condition.
#[derive(Debug)]
pub(crate) enum Test {
    Header(Box<str>, Value),
    Cookie(Box<str>, Value),
    Query(Box<str>, Value),
    Client(IpSet),
    Certificate(CertificatePart, Value),
    Not(Box<Test>),
    Any(Box<[Test]>),
}

/// What a value must be.
#[derive(Debug)]
pub(crate) enum Value {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(u32, Box<str>),
}

impl Test {
    pub(crate) fn build(written: &Condition, regexes: &mut Collector) -> Result<Self, String> {
        Self::nested(written, regexes, 0)
    }

    fn nested(written: &Condition, regexes: &mut Collector, depth: usize) -> Result<Self, String> {
        if depth > MAX_DEPTH {
            return Err(format!("conditions are nested deeper than {MAX_DEPTH}"));
        }
        Ok(match written {
            Condition::Header(name, value) => {
                Self::Header(name.as_str().into(), Value::build(value, regexes)?)
            }
            Condition::Cookie(name, value) => {
                Self::Cookie(name.as_str().into(), Value::build(value, regexes)?)
            }
            Condition::Query(name, value) => {
                Self::Query(name.as_str().into(), Value::build(value, regexes)?)
            }
            Condition::Client(set) => Self::Client(set.clone()),
            Condition::Certificate(part, value) => {
                Self::Certificate(*part, Value::build(value, regexes)?)
            }
            Condition::Not(inner) => Self::Not(Box::new(Self::nested(inner, regexes, depth + 1)?)),
            Condition::Any(all) => Self::Any(
                all.iter()
                    .map(|c| Self::nested(c, regexes, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
        })
    }

    /// Does it hold? Each value of a repeated header, cookie or parameter is looked at by itself; one is enough.
    pub(crate) fn holds(&self, q: &Query<'_>, regexes: &Regexes) -> bool {
        match self {
            Self::Header(name, want) => some(q.fields, name, |value| want.holds(value, regexes)),
            Self::Cookie(name, want) => some(q.fields, "cookie", |field| {
                cookie::values(field, name).any(|value| want.holds(value, regexes))
            }),
            Self::Query(name, want) => {
                query::values(q.query, name).any(|value| want.holds(&query::decode(value), regexes))
            }
            Self::Client(set) => set.contains(q.client),
            Self::Certificate(part, want) => {
                // Nobody has an empty name: no value matches it.
                let value = q.fields.certificate(*part).as_bytes();
                !value.is_empty() && want.holds(value, regexes)
            }
            Self::Not(inner) => !inner.holds(q, regexes),
            Self::Any(all) => all.iter().any(|test| test.holds(q, regexes)),
        }
    }
}

/// Does some value of the field satisfy `test`?
fn some(fields: &dyn Fields, name: &str, mut test: impl FnMut(&[u8]) -> bool) -> bool {
    let mut found = false;
    fields.each(name, &mut |value| {
        found = found || test(value);
        !found
    });
    found
}

impl Value {
    fn build(written: &ValueMatch, regexes: &mut Collector) -> Result<Self, String> {
        Ok(match written {
            ValueMatch::Present => Self::Present,
            ValueMatch::Exact(text) => Self::Exact(text.as_bytes().into()),
            ValueMatch::Prefix(text) => Self::Prefix(text.as_bytes().into()),
            ValueMatch::Regex(text) => {
                let id = regexes
                    .add(text)
                    .map_err(|e| format!("the regular expression `{text}` is refused: {e}"))?;
                Self::Regex(id, text.as_str().into())
            }
        })
    }

    fn holds(&self, value: &[u8], regexes: &Regexes) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(want) => **want == *value,
            Self::Prefix(want) => value.starts_with(want),
            Self::Regex(id, _) => regexes.matches(*id, value),
        }
    }
}

/// The condition as a person would say it: "header `X-Beta` equals `1`".
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name, value) => write!(f, "header `{name}` {value}"),
            Self::Cookie(name, value) => write!(f, "cookie `{name}` {value}"),
            Self::Query(name, value) => write!(f, "query parameter `{name}` {value}"),
            Self::Client(set) => {
                f.write_str("client address is in")?;
                set.0.iter().try_for_each(|net| write!(f, " {net}"))
            }
            Self::Certificate(part, value) => {
                let part = match part {
                    CertificatePart::Subject => "subject",
                    CertificatePart::Issuer => "issuer",
                    CertificatePart::Serial => "serial number",
                    CertificatePart::Fingerprint => "fingerprint",
                };
                write!(f, "{part} of the client's certificate {value}")
            }
            Self::Not(inner) => write!(f, "not ({inner})"),
            Self::Any(all) => {
                f.write_str("any of (")?;
                for (i, test) in all.iter().enumerate() {
                    write!(f, "{}{test}", if i == 0 { "" } else { "; " })?;
                }
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("is present"),
            Self::Exact(want) => write!(f, "equals `{}`", String::from_utf8_lossy(want)),
            Self::Prefix(want) => write!(f, "starts with `{}`", String::from_utf8_lossy(want)),
            Self::Regex(_, want) => write!(f, "matches `{want}`"),
        }
    }
}

//! gRPC-Web of clients to gRPC of servers, where the route has `grpc-web`: the form is another, the call the same. The codec is in
//! `wire/src/grpc_web.rs`; what of it concerns bodies is done by the relay, as they pass.

use narthex_message::{FieldId, Head, Method};

use crate::grpc;
use crate::handle::Exchange;

const BINARY: &[u8] = b"application/grpc-web";
const TEXT: &[u8] = b"application/grpc-web-text";

/// How bytes of a message are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    /// Base64.
    Text,
}

/// A call of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Of the request.
    pub(crate) asked: Form,
    /// Of the answer.
    pub(crate) wanted: Form,
    /// Of its messages: `+proto`, or nothing.
    suffix: Vec<u8>,
}

/// The form that a media type names, and what follows it there, `+proto` for one.
fn form(value: &[u8]) -> Option<(Form, &[u8])> {
    [(Form::Text, TEXT), (Form::Binary, BINARY)]
        .into_iter()
        .find_map(|(form, name)| Some((form, grpc::suffix(value, name)?)))
}

impl Call {
    /// Is a request one? A client that says nothing of the answer's form wants its own.
    fn of(head: Head<'_>) -> Option<Self> {
        let (asked, suffix) = form(head.get(FieldId::ContentType)?)?;
        let wanted = head
            .all(FieldId::Accept)
            .flat_map(|v| v.split(|b| *b == b','));
        let mut wanted = wanted.map(<[u8]>::trim_ascii);
        let wanted = wanted.find_map(form);
        Some(Self {
            asked,
            wanted: wanted.map_or(asked, |(form, _)| form),
            suffix: suffix.to_vec(),
        })
    }

    /// `Content-Type` for the server.
    pub(crate) fn upwards(&self) -> Vec<u8> {
        [grpc::NAME, &self.suffix].concat()
    }

    /// `Content-Type` for the client; `answer`: the server's, if it is the server that answers. `None`: that is no answer of gRPC.
    pub(crate) fn downwards(&self, answer: Option<&[u8]>) -> Option<Vec<u8>> {
        let own = match answer {
            Some(answer) => grpc::suffix(answer, grpc::NAME)?,
            None => b"",
        };
        let suffix = match (own, self.suffix.as_slice()) {
            (b"", b"") => b"+proto",
            (b"", asked) => asked,
            (own, _) => own,
        };
        let name = match self.wanted {
            Form::Binary => BINARY,
            Form::Text => TEXT,
        };
        Some([name, suffix].concat())
    }
}

impl Exchange<'_> {
    /// The client's call by gRPC-Web, if the route translates them.
    #[inline]
    pub(crate) fn called_by_web(&self) -> Option<Box<Call>> {
        let posts = self.facts.is_some_and(|f| f.method == Method::Post);
        if !posts {
            return None;
        }
        self.route_config().filter(|r| r.settings.grpc_web)?;
        Call::of(self.head()).map(Box::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (text, expected) in [
            ("application/grpc-web", Some((Form::Binary, ""))),
            ("application/grpc-web+proto", Some((Form::Binary, "+proto"))),
            (
                "Application/gRPC-Web-Text+json; a=b",
                Some((Form::Text, "+json")),
            ),
            ("application/grpc-web-text", Some((Form::Text, ""))),
            (
                "application/grpc-web;charset=utf-8",
                Some((Form::Binary, "")),
            ),
            ("application/grpc", None),
            ("application/grpc+proto", None),
            ("application/grpc-webx", None),
            ("application/grpc-web-textual", None),
            ("application/grpc-web+", None),
            ("application/grpc-web+a b", None),
            ("", None),
        ] {
            let found = form(text.as_bytes());
            assert_eq!(found, expected.map(|(f, s)| (f, s.as_bytes())), "{text}");
        }
    }

    #[test]
    fn types_of_both_ways() {
        let call = |suffix: &str| Call {
            asked: Form::Binary,
            wanted: Form::Text,
            suffix: suffix.into(),
        };
        assert_eq!(call("").upwards(), b"application/grpc");
        assert_eq!(call("+json").upwards(), b"application/grpc+json");
        let down = |suffix: &str, answer: Option<&str>| {
            let found = call(suffix).downwards(answer.map(str::as_bytes));
            found.map(|v| String::from_utf8(v).unwrap())
        };
        let text = |suffix: &str| Some(format!("application/grpc-web-text{suffix}"));
        assert_eq!(down("", None), text("+proto"));
        assert_eq!(down("+json", Some("application/grpc")), text("+json"));
        assert_eq!(down("", Some("application/grpc+x")), text("+x"));
        assert_eq!(down("", Some("text/html")), None);
    }
}

//! The check of a path: a request, and a response whose status, and perhaps whose body, must be right.

use std::fmt::Write;
use std::io;

use narthex_config::model::HttpProbe;
use narthex_net::stream::Stream;

use super::body::{Body, Matcher, WINDOW};
use super::head::{Answer, Framing, HEAD_MAX, Head, parse};
use super::{Ended, lost, receive, send};

/// A body without meaning is read up to here, so that the connection can be kept.
const READ_THROUGH: usize = 64 << 10;

/// What is sent, and what is to come.
#[derive(Debug)]
pub(super) struct Question {
    bytes: Vec<u8>,
    /// Inclusive ranges.
    status: Vec<(u16, u16)>,
    body: Option<Matcher>,
    /// The answer has no body, whatever it says.
    is_head: bool,
    reuse: bool,
}

impl Question {
    pub(super) fn new(probe: &HttpProbe, host: &str, reuse: bool) -> Result<Self, String> {
        Ok(Self {
            bytes: head(probe, host, reuse)?,
            status: probe.status.clone(),
            body: probe.body.as_ref().map(Matcher::new).transpose()?,
            is_head: probe.method == "HEAD",
            reuse,
        })
    }

    pub(super) async fn exchange(&self, stream: &Stream, greeting: &[u8]) -> Ended {
        if let Err(error) = send(stream, greeting, &self.bytes).await {
            // It may have answered before it closed, but not to this question.
            return Ended::Died(lost(&error));
        }
        let mut held = Held::default();
        let answered = loop {
            match receive(stream, |came| self.look(&mut held, came)).await {
                Ok(None) => {}
                Ok(Some(answered)) => break answered,
                Err(ended) => return ended,
            }
        };
        let (answer, mut body) = answered;
        match &self.body {
            Some(matcher) => self.match_body(stream, &mut body, matcher, answer).await,
            None => Ended::Good {
                clean: self.reuse
                    && answer.persistent
                    && Self::read_through(stream, &mut body).await,
            },
        }
    }

    /// Looks at what came. `None`: more of the head is to come.
    fn look(
        &self,
        held: &mut Held,
        came: io::Result<&[u8]>,
    ) -> Result<Option<(Answer, Body)>, Ended> {
        let bad = |words: &str| Err(Ended::Bad(words.to_owned()));
        let came = match came {
            Ok([]) if held.begun => return bad("the connection ended inside the response head"),
            Ok([]) => {
                let words = "the connection ended before the response";
                return Err(Ended::Died(words.to_owned()));
            }
            Ok(came) => came,
            Err(error) if held.begun => return Err(Ended::Bad(lost(&error))),
            Err(error) => return Err(Ended::Died(lost(&error))),
        };
        held.begun = true;
        // An answer that comes at once is not copied.
        if held.bytes.is_empty() {
            return self.answered(came).map(|found| {
                found
                    .map_err(|rest| held.bytes.extend_from_slice(rest))
                    .ok()
            });
        }
        held.bytes.extend_from_slice(came);
        match self.answered(&held.bytes)? {
            Ok(found) => Ok(Some(found)),
            Err(rest) => {
                let done = held.bytes.len() - rest.len();
                held.bytes.drain(..done);
                Ok(None)
            }
        }
    }

    /// The head of the answer, after the interim ones, and what there is of its body; or what is left of the bytes while it is
    /// not whole.
    fn answered<'a>(&self, mut bytes: &'a [u8]) -> Result<Result<(Answer, Body), &'a [u8]>, Ended> {
        let bad = |words: &str| Ended::Bad(words.to_owned());
        loop {
            let answer = match parse(bytes).map_err(bad)? {
                Head::Partial if bytes.len() >= HEAD_MAX => {
                    return Err(bad("the response head is too long"));
                }
                Head::Partial => return Ok(Err(bytes)),
                Head::Interim(length) => {
                    bytes = bytes.get(length..).unwrap_or_default();
                    continue;
                }
                Head::Final(answer) => answer,
            };
            if !self.is_good(answer.status) {
                return Err(Ended::Bad(format!("status {}", answer.status)));
            }
            let window = if self.body.is_some() { WINDOW } else { 0 };
            let mut body = Body::new(self.framing(answer), window);
            body.take(bytes.get(answer.length..).unwrap_or_default())
                .map_err(bad)?;
            return Ok(Ok((answer, body)));
        }
    }

    fn framing(&self, answer: Answer) -> Framing {
        if self.is_head {
            Framing::Length(0)
        } else {
            answer.framing
        }
    }

    fn is_good(&self, status: u16) -> bool {
        self.status
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&status))
    }

    async fn match_body(
        &self,
        stream: &Stream,
        body: &mut Body,
        matcher: &Matcher,
        answer: Answer,
    ) -> Ended {
        const MISSING: &str = "the body does not have what is expected";
        loop {
            let enough = body.is_enough();
            if matcher.is_in(&body.data, enough) {
                return Ended::Good {
                    clean: self.reuse && answer.persistent && body.is_done() && !body.surplus,
                };
            }
            if enough {
                return Ended::Bad(MISSING.to_owned());
            }
            let more = receive(stream, |came| match came {
                Ok(came) => body.take(came).map(|()| came.len()).map_err(str::to_owned),
                Err(error) => Err(lost(&error)),
            });
            match more.await {
                Ok(0) if body.ends_with_connection() && matcher.is_in(&body.data, true) => {
                    return Ended::Good { clean: false };
                }
                Ok(0) if body.ends_with_connection() => return Ended::Bad(MISSING.to_owned()),
                Ok(0) => return Ended::Bad("the connection ended inside the body".to_owned()),
                Ok(_) => {}
                Err(words) => return Ended::Bad(words),
            }
        }
    }

    /// Reads a small body to its end. What goes wrong here is the connection's matter, not the server's: it
    /// has answered.
    async fn read_through(stream: &Stream, body: &mut Body) -> bool {
        let mut left = READ_THROUGH;
        while !body.is_done() {
            if !body.is_short(left) {
                return false;
            }
            let more = receive(stream, |came| {
                let came = came.ok().filter(|came| body.take(came).is_ok())?;
                (!came.is_empty()).then_some(came.len())
            });
            let Some(more) = more.await else {
                return false;
            };
            left = left.saturating_sub(more);
        }
        !body.surplus
    }
}

/// What has come of an answer whose head is not whole.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    begun: bool,
}

fn head(probe: &HttpProbe, host: &str, reuse: bool) -> Result<Vec<u8>, String> {
    let host = probe.host.as_deref().unwrap_or(host);
    // The configuration has checked all of it; what would break the message apart must not get here.
    let breaks = |text: &str| text.bytes().any(|b| b <= b' ' || b == 0x7f);
    let breaks_value = |text: &str| text.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f);
    if breaks(&probe.path)
        || breaks(host)
        || breaks(&probe.method)
        || probe.method.is_empty()
        || !probe.path.starts_with('/')
        || probe
            .headers
            .iter()
            .any(|(name, value)| name.is_empty() || breaks(name) || breaks_value(value))
    {
        return Err("the check's method, path, host or fields cannot be sent".to_owned());
    }
    let set = |name: &str| {
        probe
            .headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {host}\r\n",
        probe.method, probe.path
    );
    for (name, value) in [("User-Agent", "narthex-health"), ("Accept", "*/*")] {
        if !set(name) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    for (name, value) in &probe.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if matches!(probe.method.as_str(), "POST" | "PUT" | "PATCH") {
        head.push_str("Content-Length: 0\r\n");
    }
    if !reuse {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(probe: &HttpProbe, reuse: bool) -> String {
        String::from_utf8(head(probe, "h:1", reuse).unwrap()).unwrap()
    }

    #[test]
    fn asks_as_the_configuration_says() {
        let mut probe = HttpProbe::new("/a?b");
        assert_eq!(
            text(&probe, true),
            "GET /a?b HTTP/1.1\r\nHost: h:1\r\nUser-Agent: narthex-health\r\nAccept: */*\r\n\r\n"
        );
        assert!(text(&probe, false).ends_with("Connection: close\r\n\r\n"));
        probe.method = "POST".to_owned();
        probe.host = Some("api".to_owned());
        probe.headers = vec![
            ("X-Check".to_owned(), "1 2".to_owned()),
            ("accept".to_owned(), "text/plain".to_owned()),
        ];
        assert_eq!(
            text(&probe, true),
            "POST /a?b HTTP/1.1\r\nHost: api\r\nUser-Agent: narthex-health\r\nX-Check: 1 2\r\naccept: text/plain\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn never_sends_a_broken_question() {
        let probe = |path: &str, value: &str| HttpProbe {
            headers: vec![("A".to_owned(), value.to_owned())],
            ..HttpProbe::new(path)
        };
        assert!(head(&probe("/a", "b c"), "h", true).is_ok());
        for (path, host, value) in [
            ("/a b", "h", ""),
            ("/a\r\nX: y", "h", ""),
            ("a", "h", ""),
            ("/a", "h\r\n", ""),
            ("/a", "h i", ""),
            ("/a", "h", "b\r\nX: y"),
        ] {
            assert!(head(&probe(path, value), host, true).is_err());
        }
    }
}

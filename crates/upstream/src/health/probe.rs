//! One check: a connection of its own, one GET, the status line and the fields, then the close.
//!
//! A small strict client: a server that answers it wrongly is not one to send people to. It does not count against the
//! server's sockets, so that a server at its limit is not called dead.

use narthex_net::dial::{DialOptions, Target, dial};

use super::tally::Failure;

/// A longer head is a failure.
const HEAD_MAX: usize = 16 * 1024;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) path: String,
    pub(super) host: String,
    /// Inclusive ranges.
    pub(super) status: Vec<(u16, u16)>,
    pub(super) proxy_protocol: Option<u8>,
}

impl Question {
    fn is_good(&self, status: u16) -> bool {
        self.status
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&status))
    }

    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        // The configuration has checked both; what would break the message apart must not get here.
        let breaks = |text: &str| text.bytes().any(|b| b <= b' ' || b == 0x7f);
        if breaks(&self.path) || breaks(&self.host) || !self.path.starts_with('/') {
            return Err(Failure::Unwell(
                "the check's path or host cannot be sent".to_owned(),
            ));
        }
        let mut bytes: Vec<u8> = match self.proxy_protocol {
            None => Vec::new(),
            Some(1) => b"PROXY UNKNOWN\r\n".to_vec(),
            // Version 2, command LOCAL: the connection is the proxy's own.
            Some(_) => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(),
        };
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: narthex-health\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.path, self.host
        );
        bytes.extend_from_slice(head.as_bytes());
        Ok(bytes)
    }
}

/// Asks. The caller bounds the time.
pub(super) async fn ask(
    target: &Target,
    options: &DialOptions,
    question: &Question,
    connected: impl FnOnce(),
) -> Result<(), Failure> {
    let bytes = question.bytes()?;
    let stream = dial(target, options)
        .await
        .map_err(|e| Failure::Unreachable(format!("connect: {e}")))?;
    connected();
    let failed = |e: std::io::Error| Failure::Unwell(format!("connection lost: {e}"));
    stream.send_all(&bytes).await.map_err(failed)?;
    let mut head = Vec::new();
    let mut buffer = [0u8; 2048];
    loop {
        match parse(&head).map_err(|words| Failure::Unwell(words.to_owned()))? {
            Head::Partial if head.len() >= HEAD_MAX => {
                return Err(Failure::Unwell("the response head is too long".to_owned()));
            }
            Head::Partial => {}
            Head::Interim(length) => {
                head.drain(..length);
                continue;
            }
            Head::Final(status) if question.is_good(status) => return Ok(()),
            Head::Final(status) => return Err(Failure::Unwell(format!("status {status}"))),
        }
        match stream.recv(&mut buffer).await.map_err(failed)? {
            0 => {
                return Err(Failure::Unwell(
                    "the connection ended inside the response head".to_owned(),
                ));
            }
            n => head.extend_from_slice(buffer.get(..n).unwrap_or_default()),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Head {
    Partial,
    /// 1xx, so many bytes long.
    Interim(usize),
    Final(u16),
}

/// RFC 9112 section 4: `HTTP/1.x SP 3DIGIT SP [reason] CRLF`, then fields up to an empty line.
fn parse(bytes: &[u8]) -> Result<Head, &'static str> {
    const START: &[u8] = b"HTTP/1.";
    let known = bytes.len().min(START.len());
    if bytes.get(..known) != START.get(..known) {
        return Err("the answer is not HTTP/1");
    }
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(Head::Partial);
    };
    let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    let ([
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        b'1',
        b'.',
        b'0' | b'1',
        b' ',
        a @ b'1'..=b'9',
        b,
        c,
    ]
    | [
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        b'1',
        b'.',
        b'0' | b'1',
        b' ',
        a @ b'1'..=b'9',
        b,
        c,
        b' ',
        ..,
    ]) = line
    else {
        return Err("the status line is malformed");
    };
    if !b.is_ascii_digit() || !c.is_ascii_digit() {
        return Err("the status line is malformed");
    }
    let status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    Ok(if status < 200 && status != 101 {
        Head::Interim(end + 4)
    } else {
        Head::Final(status)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_status() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), Ok(Head::Final(200)));
        assert_eq!(
            parse(b"HTTP/1.0 503\r\nA: b\r\n\r\nbody"),
            Ok(Head::Final(503))
        );
        assert_eq!(parse(b"HTTP/1.1 204 \r\n\r\n"), Ok(Head::Final(204)));
        assert_eq!(
            parse(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 2"),
            Ok(Head::Interim(35 + 2))
        );
    }

    #[test]
    fn waits_for_the_whole_head() {
        let head = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        for n in 0..head.len() {
            assert_eq!(parse(&head[..n]), Ok(Head::Partial), "{n}");
        }
    }

    #[test]
    fn refuses_what_is_not_http() {
        for bad in [
            "SSH-2.0-x",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 20\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1 099 X\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn never_sends_a_broken_question() {
        let question = |path: &str, host: &str| Question {
            path: path.to_owned(),
            host: host.to_owned(),
            status: vec![(200, 399)],
            proxy_protocol: None,
        };
        assert!(question("/a", "h").bytes().is_ok());
        for (path, host) in [
            ("/a b", "h"),
            ("/a\r\nX: y", "h"),
            ("a", "h"),
            ("/a", "h\r\n"),
            ("/a", "h i"),
        ] {
            assert!(question(path, host).bytes().is_err());
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            let mut start = b"HTTP/1.1 ".to_vec();
            start.extend(&bytes);
            start.extend(b"\r\n\r\n");
            let _ = parse(&start);
        }
    }
}

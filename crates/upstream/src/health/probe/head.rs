//! The head of a check's answer: pure.

/// A longer head is a failure.
pub(super) const HEAD_MAX: usize = 16 * 1024;

/// What a head says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Not all of it is there.
    Partial,
    /// 1xx, so many bytes long.
    Interim(usize),
    /// The answer.
    Final(Answer),
}

/// An answer, as far as a check wants to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Bytes of the head.
    pub(super) length: usize,
    pub(super) framing: Framing,
    /// The connection may carry another question afterwards, if the body has an end of its own.
    pub(super) persistent: bool,
}

/// Where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After its last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// RFC 9112 section 4: `HTTP/1.x SP 3DIGIT SP [reason] CRLF`, then fields up to an empty line.
pub(super) fn parse(bytes: &[u8]) -> Result<Head, &'static str> {
    const START: &[u8] = b"HTTP/1.";
    let known = bytes.len().min(START.len());
    if bytes.get(..known) != START.get(..known) {
        return Err("the answer is not HTTP/1");
    }
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(Head::Partial);
    };
    let head = bytes.get(..end).unwrap_or_default();
    let mut lines = head
        .split(|b| *b == b'\n')
        .map(|line| line.trim_ascii_end());
    let (minor, status) = start_line(lines.next().unwrap_or_default())?;
    let length = end + 4;
    if status < 200 && status != 101 {
        return Ok(Head::Interim(length));
    }
    let (framing, persistent) = fields(lines, minor)?;
    Ok(Head::Final(Answer {
        status,
        length,
        framing: if matches!(status, 204 | 304) {
            Framing::Length(0)
        } else {
            framing
        },
        persistent: persistent && status != 101,
    }))
}

/// The minor version and the status.
fn start_line(line: &[u8]) -> Result<(u8, u16), &'static str> {
    const MALFORMED: &str = "the status line is malformed";
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(MALFORMED)?;
    let (code, minor) = match rest {
        [b'0', b' ', code @ ..] => (code, 0),
        [b'1', b' ', code @ ..] => (code, 1),
        _ => return Err(MALFORMED),
    };
    let ([a @ b'1'..=b'9', b, c] | [a @ b'1'..=b'9', b, c, b' ', ..]) = code else {
        return Err(MALFORMED);
    };
    if !b.is_ascii_digit() || !c.is_ascii_digit() {
        return Err(MALFORMED);
    }
    let status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    Ok((minor, status))
}

/// Where the body ends, and whether the connection may go on after it.
fn fields<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    minor: u8,
) -> Result<(Framing, bool), &'static str> {
    let (mut length, mut chunked, mut coded) = (None, false, false);
    let mut persistent = minor == 1;
    for line in lines {
        let colon = line.iter().position(|b| *b == b':');
        let Some((name, [_, value @ ..])) = colon.and_then(|at| line.split_at_checked(at)) else {
            return Err("a field of the answer is malformed");
        };
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = std::str::from_utf8(value)
                .ok()
                .filter(|_| !value.is_empty() && value.iter().all(u8::is_ascii_digit));
            let number = number.and_then(|text| text.parse::<u64>().ok());
            if number.is_none() || length.is_some_and(|known| Some(known) != number) {
                return Err("the answer's Content-Length is not a number");
            }
            length = number;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            chunked = !coded && value.eq_ignore_ascii_case(b"chunked");
            coded = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            let close = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"close");
            persistent &= !value.split(|b| *b == b',').any(close);
        }
    }
    Ok(match (coded, length) {
        (true, None) if chunked && minor == 1 => (Framing::Chunked, persistent),
        (false, Some(length)) => (Framing::Length(length), persistent),
        // Two framings, or one that is not known: the connection's end is one as well.
        _ => (Framing::Close, false),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(text: &str) -> Answer {
        match parse(text.as_bytes()) {
            Ok(Head::Final(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_the_status() {
        assert_eq!(answer("HTTP/1.1 200 OK\r\n\r\n").status, 200);
        assert_eq!(answer("HTTP/1.0 503\r\nA: b\r\n\r\nbody").status, 503);
        assert_eq!(answer("HTTP/1.1 204 \r\n\r\n").status, 204);
        assert_eq!(
            parse(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 2"),
            Ok(Head::Interim(35 + 2))
        );
    }

    #[test]
    fn reads_where_the_body_ends() {
        let framing = |fields: &str| {
            let answer = answer(&format!("HTTP/1.1 200 OK\r\n{fields}\r\nbody"));
            (answer.framing, answer.persistent)
        };
        assert_eq!(framing("Content-Length: 4\r\n"), (Framing::Length(4), true));
        assert_eq!(
            framing("content-length: 4\r\nContent-Length:4\r\n"),
            (Framing::Length(4), true)
        );
        assert_eq!(
            framing("Content-Length: 4\r\nConnection: a, Close\r\n"),
            (Framing::Length(4), false)
        );
        assert_eq!(
            framing("Transfer-Encoding: CHUNKED\r\n"),
            (Framing::Chunked, true)
        );
        for unsure in [
            "",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        ] {
            assert_eq!(framing(unsure), (Framing::Close, false), "{unsure}");
        }
        let old = answer("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n");
        assert_eq!((old.framing, old.persistent), (Framing::Length(4), false));
        let none = answer("HTTP/1.1 204 No\r\nContent-Length: 4\r\n\r\n");
        assert_eq!((none.framing, none.persistent), (Framing::Length(0), true));
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
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
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
            let mut fields = b"HTTP/1.1 200 OK\r\nContent-Length:".to_vec();
            fields.extend(&bytes);
            fields.extend(b"\r\n\r\n");
            let _ = parse(&fields);
        }
    }
}

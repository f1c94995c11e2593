//! Narthex's own rooms put together as the data path does: a connection's bytes into requests.

use narthex_message::field::NOT_IN_TRAILERS;
use narthex_message::validate::{self, Body};
use narthex_message::{FieldId, Form, Head, Index, Reject, authority, path, query};
use narthex_wire::h1::chunk::{ChunkDecoder, Step};
use narthex_wire::h1::scan::{self, HeadLimits, Progress};

use crate::LIMITS;
use crate::chunked::EXTENSION;

const TRAILERS: HeadLimits = HeadLimits {
    line: 8 << 10,
    field: 8 << 10,
    head: 8 << 10,
    fields: 32,
};

/// A request that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// On a boundary, or because the last request says so.
    Clean,
    /// More bytes are needed.
    Incomplete,
    /// What follows is refused: status and word.
    Reject(u16, &'static str),
}

enum Stop {
    More,
    No(u16, &'static str),
}

impl From<Reject> for Stop {
    fn from(r: Reject) -> Self {
        Self::No(r.status(), r.word())
    }
}

/// Reads a whole connection's bytes.
pub(crate) fn read(bytes: &[u8]) -> (Vec<Request>, End) {
    let mut requests = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty() && *r != b"\r\n") {
        match one(rest) {
            Ok((request, used, keep_alive)) => {
                requests.push(request);
                at += used;
                if !keep_alive {
                    break;
                }
            }
            Err(Stop::More) => return (requests, End::Incomplete),
            Err(Stop::No(status, word)) => return (requests, End::Reject(status, word)),
        }
    }
    (requests, End::Clean)
}

fn one(bytes: &[u8]) -> Result<(Request, usize, bool), Stop> {
    let mut index = Index::default();
    let Progress::Complete(end) = scan::request(bytes, &mut index, &LIMITS)? else {
        return Err(Stop::More);
    };
    let head = Head::new(bytes, &index);
    let facts = validate::request(head)?;
    let host = facts.authority.of(bytes);
    // HTTP/1.0 knew no Host; one that is there must be one.
    if !host.is_empty() || index.present.has(FieldId::Host) {
        authority::parse(host).map_err(|e| Stop::No(400, e.word()))?;
    }
    if facts.form != Form::Asterisk {
        let (raw, asked) = path::split_target(facts.path.of(bytes));
        let raw = if raw.is_empty() { b"/" } else { raw };
        path::canonical(raw, false, &mut String::new()).map_err(|e| Stop::No(400, e.word()))?;
        if let Some(asked) = asked {
            query::validate(asked).map_err(|e| Stop::No(400, e.word()))?;
        }
    }
    let rest = bytes.get(end..).unwrap_or_default();
    let (body, used) = match facts.body {
        Body::Length(n) => {
            let n = usize::try_from(n).unwrap_or(usize::MAX);
            (rest.get(..n).ok_or(Stop::More)?.to_vec(), n)
        }
        Body::Chunked => chunked(rest)?,
        _ => (Vec::new(), 0),
    };
    let request = Request {
        method: head.method().to_vec(),
        target: head.target().to_vec(),
        fields: head
            .fields()
            .map(|(_, n, v)| (n.to_vec(), v.to_vec()))
            .collect(),
        body,
    };
    Ok((request, end + used, facts.keep_alive))
}

fn chunked(bytes: &[u8]) -> Result<(Vec<u8>, usize), Stop> {
    let mut decoder = ChunkDecoder::new(EXTENSION);
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = bytes
            .get(at..)
            .filter(|r| !r.is_empty())
            .ok_or(Stop::More)?;
        match decoder.step(rest)? {
            Step::Framing { consumed } => at += consumed,
            Step::Data { skip, data } => {
                body.extend_from_slice(rest.get(skip..skip + data).unwrap_or_default());
                at += skip + data;
            }
            Step::Trailers { consumed } => {
                at += consumed;
                break;
            }
        }
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let mut index = Index::default();
    let Progress::Complete(end) = scan::trailers(rest, &mut index, &TRAILERS)? else {
        return Err(Stop::More);
    };
    let forbidden = index.fields.iter().any(|f| {
        NOT_IN_TRAILERS.has(f.id)
            || (f.sloppy && NOT_IN_TRAILERS.has(FieldId::resembling(f.name.of(rest))))
    });
    if forbidden {
        return Err(Reject::Trailer.into());
    }
    Ok((body, at + end))
}

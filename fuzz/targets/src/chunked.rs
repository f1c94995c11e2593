//! The chunk decoder: the same body however the bytes arrive, never more than there is, and what our own writer makes is
//! read back.

use narthex_message::Reject;
use narthex_wire::h1::chunk::{self, ChunkDecoder, Step};

use crate::{cuts, seed};

/// Most bytes of extension on a line.
pub(crate) const EXTENSION: usize = 256;

/// Body bytes, how many bytes the chunks took, and whether the last chunk came.
pub(crate) type Decoded = (Vec<u8>, usize, bool);

/// The target.
pub fn chunked(data: &[u8]) {
    let whole = decode(data, &[data.len()]);
    let pieces = decode(data, &cuts(seed(data), data.len()));
    assert_eq!(whole, pieces, "whole and in pieces");
    if let Ok((body, used, _)) = whole {
        assert!(used <= data.len() && body.len() <= used);
    }
    round_trip(data);
}

/// Decodes up to each cut in turn.
pub(crate) fn decode(data: &[u8], cuts: &[usize]) -> Result<Decoded, Reject> {
    let mut decoder = ChunkDecoder::new(EXTENSION);
    let (mut body, mut at) = (Vec::new(), 0);
    for cut in cuts {
        while let Some(rest) = data.get(at..*cut).filter(|rest| !rest.is_empty()) {
            match decoder.step(rest)? {
                Step::Framing { consumed } => {
                    assert!((1..=rest.len()).contains(&consumed), "no progress");
                    at += consumed;
                }
                Step::Data { skip, data } => {
                    assert!(data > 0 && skip + data <= rest.len());
                    body.extend_from_slice(rest.get(skip..skip + data).unwrap_or_default());
                    at += skip + data;
                }
                Step::Trailers { consumed } => {
                    assert!(consumed <= rest.len());
                    assert_eq!(decoder.body_total(), body.len() as u64);
                    return Ok((body, at + consumed, true));
                }
            }
        }
    }
    assert_eq!(decoder.body_total(), body.len() as u64);
    Ok((body, at, false))
}

fn round_trip(body: &[u8]) {
    let mut wire = Vec::new();
    let mut from = 0;
    for cut in cuts(seed(body), body.len()) {
        let piece = body.get(from..cut).unwrap_or_default();
        chunk::size_line(piece.len(), &mut wire);
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
        from = cut;
    }
    let before = wire.len();
    wire.extend_from_slice(chunk::LAST_CHUNK);
    let (back, used, last) = decode(&wire, &[wire.len()]).unwrap_or_default();
    assert!(last && back == body, "our own chunks are not read back");
    assert_eq!(
        used,
        before + 3,
        "the trailer section begins after the last chunk's line"
    );
}

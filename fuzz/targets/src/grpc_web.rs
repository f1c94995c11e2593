//! gRPC-Web's text form and trailer frame: the same however the bytes arrive, never more than was sent, and what our own writer
//! makes is read back.

use narthex_wire::grpc_web::{BadText, TextDecoder, encode_text, trailer_frame};

use crate::{cuts, seed};

/// The target.
pub fn grpc_web(data: &[u8]) {
    let cuts = cuts(seed(data), data.len());
    let whole = decode(data, &[data.len()]);
    assert_eq!(whole, decode(data, &cuts), "whole and in pieces");
    if let Ok(plain) = whole {
        assert!(plain.len() <= data.len() / 4 * 3);
    }
    let (mut text, mut from) = (Vec::new(), 0);
    for cut in cuts {
        encode_text(data.get(from..cut).unwrap_or_default(), &mut text);
        assert!(text.len().is_multiple_of(4), "a group that is not whole");
        from = cut;
    }
    let back = decode(&text, &[text.len()]);
    assert_eq!(back.as_deref(), Ok(data), "our own text is not read back");
    let mut frame = Vec::new();
    trailer_frame(data, &mut frame);
    let Some((&[0x80, a, b, c, d], lines)) = frame.split_first_chunk::<5>() else {
        panic!("no frame of trailers");
    };
    assert_eq!(u32::from_be_bytes([a, b, c, d]) as usize, lines.len());
    assert!(lines.eq_ignore_ascii_case(data));
}

fn decode(text: &[u8], cuts: &[usize]) -> Result<Vec<u8>, BadText> {
    let (mut decoder, mut out, mut from) = (TextDecoder::default(), Vec::new(), 0);
    for cut in cuts {
        decoder.feed(text.get(from..*cut).unwrap_or_default(), &mut out)?;
        from = *cut;
    }
    decoder.finish().map(|()| out)
}

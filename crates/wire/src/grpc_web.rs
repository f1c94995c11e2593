//! gRPC-Web (the protocol's `PROTOCOL-WEB.md`): what of it differs from gRPC. Messages are the same; a text form is Base64 in pieces,
//! each padded by itself; trailers are the last frame of the body.

use narthex_message::base64;

/// First byte of the frame that has the trailers.
const TRAILERS: u8 = 0x80;

/// What came is no Base64, or ends inside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadText;

/// Reads the text form as it comes. Holds three letters at most.
#[derive(Debug, Default, Clone, Copy)]
pub struct TextDecoder {
    held: [u8; 4],
    n: usize,
}

impl TextDecoder {
    /// Appends what `text` says to `out`.
    pub fn feed(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), BadText> {
        out.reserve(text.len() / 4 * 3 + 3);
        let mut rest = text;
        while self.n > 0 || rest.len() < 4 {
            let Some((letter, after)) = rest.split_first() else {
                return Ok(());
            };
            rest = after;
            if let Some(place) = self.held.get_mut(self.n) {
                *place = *letter;
                self.n += 1;
            }
            if self.n == self.held.len() {
                self.n = 0;
                take(self.held, out)?;
            }
        }
        let (fours, last) = rest.as_chunks::<4>();
        for four in fours {
            take(*four, out)?;
        }
        if let Some(place) = self.held.get_mut(..last.len()) {
            place.copy_from_slice(last);
            self.n = last.len();
        }
        Ok(())
    }

    /// May the text end here?
    pub fn finish(&self) -> Result<(), BadText> {
        if self.n == 0 { Ok(()) } else { Err(BadText) }
    }
}

fn take(four: [u8; 4], out: &mut Vec<u8>) -> Result<(), BadText> {
    let (three, n) = base64::decode_four(four).ok_or(BadText)?;
    out.extend_from_slice(three.get(..n).unwrap_or_default());
    Ok(())
}

/// The text form of `bytes`, padded: whoever reads it has all of it at once.
pub fn encode_text(bytes: &[u8], out: &mut Vec<u8>) {
    base64::encode_to(bytes, out);
}

/// The frame that has these trailers: whole lines, `name: value CRLF` each. Names become lower case, as in HTTP/2.
pub fn trailer_frame(lines: &[u8], out: &mut Vec<u8>) {
    out.push(TRAILERS);
    // A section has a bound far below.
    let len = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    for line in lines.split_inclusive(|b| *b == b'\n') {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let (name, rest) = line.split_at(colon);
        out.extend(name.iter().map(u8::to_ascii_lowercase));
        out.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<u8>, BadText> {
        let (mut decoder, mut out) = (TextDecoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece, &mut out)?;
        }
        decoder.finish().map(|()| out)
    }

    #[test]
    fn pieces_are_padded_each_by_itself() {
        assert_eq!(
            decode(&[b"Zg==Zm8=Zm9v", b"", b"Zg=="]).unwrap(),
            b"ffofoof"
        );
        assert_eq!(decode(&[b"Z", b"m", b"8", b"=", b"Zm9"]), Err(BadText));
        assert_eq!(decode(&[]).unwrap(), b"");
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "====", "Z===", "=Zg=", "Zg=v", "Zg==\n", "Zm9 ", "Zm9_", "Zh==",
            "Zm9=",
        ] {
            assert_eq!(decode(&[text.as_bytes()]), Err(BadText), "{text}");
            for byte in text.as_bytes().chunks(1).take(3) {
                assert!(decode(&[byte]).is_err());
            }
        }
    }

    #[test]
    fn trailers_are_a_frame() {
        let mut out = Vec::new();
        trailer_frame(b"Grpc-Status: 0\r\nGRPC-Message: A:b\r\n", &mut out);
        assert_eq!(out[..5], [0x80, 0, 0, 0, 35]);
        assert_eq!(&out[5..], b"grpc-status: 0\r\ngrpc-message: A:b\r\n");
        let mut none = Vec::new();
        trailer_frame(b"", &mut none);
        assert_eq!(none, [0x80, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_comes(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in proptest::collection::vec(0_usize..400, 0..12),
        ) {
            let mut text = Vec::new();
            for piece in &pieces {
                encode_text(piece, &mut text);
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let (mut decoder, mut out, mut from) = (TextDecoder::default(), Vec::new(), 0);
            for cut in cuts {
                decoder.feed(&text[from..cut], &mut out).unwrap();
                from = cut;
                prop_assert!(decoder.n < 4);
            }
            prop_assert_eq!(decoder.finish(), Ok(()));
            prop_assert_eq!(out, pieces.concat());
        }

        #[test]
        fn anything_is_judged_the_same_in_pieces(text in "[A-Za-d=+/ ]{0,24}", at in 0_usize..24) {
            let text = text.as_bytes();
            let (a, b) = text.split_at(at.min(text.len()));
            prop_assert_eq!(decode(&[text]), decode(&[a, b]));
        }
    }
}

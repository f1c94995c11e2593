//! The Huffman code of RFC 7541 appendix B. It is canonical: the lengths say everything, the build makes the codes of them.

/// The end of string: never sent, but its first bits are the padding.
const EOS: usize = 256;
const LONGEST: usize = 30;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The canonical code: per length its first code and where its symbols begin; symbols by length, then by value.
struct Canonical {
    first: [u32; LONGEST + 1],
    offset: [u16; LONGEST + 2],
    symbols: [u16; 257],
    codes: [u32; 257],
}

static CODE: Canonical = CANONICAL;
const CANONICAL: Canonical = canonical();

const fn canonical() -> Canonical {
    let mut c = Canonical {
        first: [0; LONGEST + 1],
        offset: [0; LONGEST + 2],
        symbols: [0; 257],
        codes: [0; 257],
    };
    let (mut length, mut code, mut at) = (1, 0u32, 0usize);
    while length <= LONGEST {
        code <<= 1;
        c.first[length] = code;
        c.offset[length] = at as u16;
        let mut symbol = 0;
        while symbol <= EOS {
            if LENGTHS[symbol] as usize == length {
                c.symbols[at] = symbol as u16;
                c.codes[symbol] = code;
                code += 1;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    c.offset[LONGEST + 1] = at as u16;
    // The code is complete: what follows the last one needs another bit.
    assert!(code == 1 << LONGEST && at == 257);
    c
}

/// Bits looked at in one step: two of the shortest codes.
const STEP: u32 = 10;

/// What `STEP` bits begin with.
#[derive(Clone, Copy)]
struct Begin {
    symbols: [u8; 2],
    /// Bits of the first code; 0 if it is longer than a step.
    first: u8,
    /// Bits of both; equal to `first` if the second is not whole.
    both: u8,
}

static BEGIN: [Begin; 1 << STEP] = begin();

const fn symbol_of(bits: u32, width: u32) -> (u8, u32) {
    let mut length = 5;
    while length <= width {
        let code = bits >> (width - length);
        let l = length as usize;
        let count = (CANONICAL.offset[l + 1] - CANONICAL.offset[l]) as u32;
        if code >= CANONICAL.first[l] && code - CANONICAL.first[l] < count {
            let at = CANONICAL.offset[l] as usize + (code - CANONICAL.first[l]) as usize;
            return (CANONICAL.symbols[at] as u8, length);
        }
        length += 1;
    }
    (0, 0)
}

const fn begin() -> [Begin; 1 << STEP] {
    let mut table = [Begin {
        symbols: [0; 2],
        first: 0,
        both: 0,
    }; 1 << STEP];
    let mut bits = 0u32;
    while bits < 1 << STEP {
        let (a, first) = symbol_of(bits, STEP);
        if first != 0 {
            let left = STEP - first;
            let (b, second) = symbol_of(bits & ((1 << left) - 1), left);
            table[bits as usize] = Begin {
                symbols: [a, b],
                first: first as u8,
                both: (first + second) as u8,
            };
        }
        bits += 1;
    }
    table
}

/// The symbol of a code that is longer than a step, and its length.
#[cold]
fn long(top: u64) -> (u16, u32) {
    let mut length = STEP as usize + 1;
    while length < LONGEST {
        let code = (top >> (64 - length)) as u32;
        let (from, to) = (
            CODE.offset.get(length).copied().unwrap_or_default(),
            CODE.offset.get(length + 1).copied().unwrap_or_default(),
        );
        let nth = code.wrapping_sub(CODE.first.get(length).copied().unwrap_or_default());
        if nth < u32::from(to - from) {
            let at = usize::from(from) + nth as usize;
            return (
                CODE.symbols.get(at).copied().unwrap_or_default(),
                length as u32,
            );
        }
        length += 1;
    }
    // The code is complete, so it is one of the longest.
    let nth = ((top >> (64 - LONGEST)) as u32)
        .wrapping_sub(CODE.first.get(LONGEST).copied().unwrap_or_default());
    let at = usize::from(CODE.offset.get(LONGEST).copied().unwrap_or_default()) + nth as usize;
    (
        CODE.symbols.get(at).copied().unwrap_or(EOS as u16),
        LONGEST as u32,
    )
}

/// Appends what `input` stands for: at most 8/5 of its length. False if it has the end-of-string symbol, or a padding that is
/// longer than 7 bits or not of ones (RFC 7541 5.2).
pub fn decode(input: &[u8], out: &mut Vec<u8>) -> bool {
    out.reserve(input.len() * 8 / 5 + 1);
    let mut rest = input;
    // The next bits, at the top; and how many they are.
    let (mut bits, mut have) = (0u64, 0u32);
    while let Some((word, tail)) = rest.split_first_chunk::<4>() {
        bits |= u64::from(u32::from_be_bytes(*word)) << (32 - have);
        have += 32;
        rest = tail;
        // Whole codes only, whatever they are; fewer than 30 bits stay.
        while have >= LONGEST as u32 {
            let begin = BEGIN[(bits >> (64 - STEP)) as usize & ((1 << STEP) - 1)];
            let taken = if begin.first == 0 {
                let (symbol, length) = long(bits);
                if symbol == EOS as u16 {
                    return false;
                }
                out.push(symbol as u8);
                length
            } else {
                out.push(begin.symbols[0]);
                if begin.both != begin.first {
                    out.push(begin.symbols[1]);
                }
                u32::from(begin.both)
            };
            bits <<= taken;
            have -= taken;
        }
    }
    for &byte in rest {
        bits |= u64::from(byte) << (56 - have);
        have += 8;
    }
    last(bits, have, out)
}

/// The last codes, of `have` bits (below 64), and the padding.
fn last(mut bits: u64, mut have: u32, out: &mut Vec<u8>) -> bool {
    loop {
        let padded = bits | u64::MAX.checked_shr(have).unwrap_or_default();
        let begin = BEGIN[(padded >> (64 - STEP)) as usize & ((1 << STEP) - 1)];
        let (symbol, length) = if begin.first == 0 {
            long(padded)
        } else {
            (u16::from(begin.symbols[0]), u32::from(begin.first))
        };
        if length > have {
            // What is left is the beginning of a code: padding, if it is short and of ones.
            return have < 8 && padded == u64::MAX;
        }
        if symbol == EOS as u16 {
            return false;
        }
        out.push(symbol as u8);
        bits <<= length;
        have -= length;
    }
}

/// Bytes that `text` takes encoded.
#[inline]
pub fn encoded_len(text: &[u8]) -> usize {
    // No sum is too large: the text is in memory, and no code has more than 30 bits. So nothing checks it, byte by byte.
    let bits = text.iter().fold(0usize, |bits, &b| {
        bits.wrapping_add(usize::from(LENGTHS_OF_BYTES[usize::from(b)]))
    });
    bits.div_ceil(8)
}

static LENGTHS_OF_BYTES: [u8; 256] = lengths_of_bytes();

const fn lengths_of_bytes() -> [u8; 256] {
    let mut lengths = [0; 256];
    let mut b = 0;
    while b < 256 {
        lengths[b] = LENGTHS[b];
        b += 1;
    }
    lengths
}

/// Code and length of each byte.
static CODES: [(u32, u8); 256] = codes();

const fn codes() -> [(u32, u8); 256] {
    let mut codes = [(0, 0); 256];
    let mut b = 0;
    while b < 256 {
        codes[b] = (CANONICAL.codes[b], LENGTHS[b]);
        b += 1;
    }
    codes
}

/// Appends `text` encoded, padded with ones.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut have) = (0u64, 0u32);
    for &b in text {
        let (code, length) = CODES[usize::from(b)];
        // At most 31 bits stay, and a code has 30: there is always room, and no step needs its own check.
        bits = bits.wrapping_shl(u32::from(length)) | u64::from(code);
        have = have.wrapping_add(u32::from(length));
        if have >= 32 {
            have = have.wrapping_sub(32);
            out.extend_from_slice(&(bits.wrapping_shr(have) as u32).to_be_bytes());
        }
    }
    while have >= 8 {
        have -= 8;
        out.push((bits >> have) as u8);
    }
    if have > 0 {
        out.push(((bits << (8 - have)) as u8) | (0xff >> have));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(input: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(input, &mut out).then_some(out)
    }

    #[test]
    fn every_byte_alone_and_in_a_row() {
        for b in 0..=255u8 {
            for n in 1..20 {
                let text = vec![b; n];
                let mut code = Vec::new();
                encode(&text, &mut code);
                assert_eq!(code.len(), encoded_len(&text));
                assert_eq!(decoded(&code), Some(text));
            }
        }
    }

    #[test]
    fn padding_is_strict() {
        // `a` is 00011 and three ones.
        assert_eq!(decoded(&[0b0001_1111]), Some(b"a".to_vec()));
        for bad in [0b0001_1000, 0b0001_1110, 0b0001_1011] {
            assert_eq!(decoded(&[bad]), None, "{bad:#b}");
        }
        // A whole byte of padding; nothing but padding.
        assert_eq!(decoded(&[0b0001_1111, 0xff]), None);
        assert_eq!(decoded(&[0xff]), None);
        assert_eq!(decoded(&[]), Some(Vec::new()));
        // The end of string, in the middle and at the end.
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc]), None);
        assert_eq!(
            decoded(&[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            None
        );
    }

    /// Bit by bit, as the RFC says it.
    fn slowly(input: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut code, mut length) = (Vec::new(), 0u32, 0u8);
        for bit in input
            .iter()
            .flat_map(|b| (0..8).rev().map(move |i| b >> i & 1))
        {
            code = code << 1 | u32::from(bit);
            length += 1;
            if let Some(symbol) =
                (0..257).find(|&s| LENGTHS[s] == length && CANONICAL.codes[s] == code)
            {
                out.push(u8::try_from(symbol).ok()?);
                (code, length) = (0, 0);
            }
        }
        (length < 8 && code == (1 << length) - 1).then_some(out)
    }

    proptest! {
        #[test]
        fn round_trip(text: Vec<u8>) {
            let mut code = Vec::new();
            encode(&text, &mut code);
            prop_assert_eq!(code.len(), encoded_len(&text));
            prop_assert_eq!(decoded(&code), Some(text));
        }

        #[test]
        fn any_bytes_as_a_slow_reader_reads_them(input: Vec<u8>, ones in 0usize..6) {
            let mut input = input;
            input.extend(std::iter::repeat_n(0xff, ones));
            prop_assert_eq!(decoded(&input), slowly(&input));
        }
    }
}

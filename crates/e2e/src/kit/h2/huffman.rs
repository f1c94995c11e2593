//! The code of RFC 7541, appendix B. It is canonical: codes of one length are consecutive and in the order of symbols, so the
//! lengths say all.

/// Bits of each symbol's code; the last is the end of string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The symbol that never appears in a string.
pub const END: usize = 256;

/// Code and bits of each symbol.
fn codes() -> &'static [(u32, u8); 257] {
    static CODES: std::sync::OnceLock<[(u32, u8); 257]> = std::sync::OnceLock::new();
    CODES.get_or_init(|| {
        let mut order: Vec<usize> = (0..257).collect();
        order.sort_by_key(|s| (LENGTHS[*s], *s));
        let mut table = [(0, 0); 257];
        let (mut code, mut bits) = (0_u32, 0_u8);
        for symbol in order {
            let next = LENGTHS[symbol];
            if bits > 0 {
                code += 1;
            }
            code <<= next - bits;
            bits = next;
            table[symbol] = (code, bits);
        }
        table
    })
}

/// These symbols (of 257), padded with ones.
pub fn encode_symbols(symbols: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let (mut out, mut held, mut n) = (Vec::new(), 0_u64, 0_u32);
    for symbol in symbols {
        let (code, bits) = codes()[symbol];
        held = held << bits | u64::from(code);
        n += u32::from(bits);
        while n >= 8 {
            n -= 8;
            out.push((held >> n) as u8);
        }
    }
    if n > 0 {
        out.push((held << (8 - n)) as u8 | 0xff >> n);
    }
    out
}

/// Encodes bytes.
pub fn encode(bytes: &[u8]) -> Vec<u8> {
    encode_symbols(bytes.iter().map(|b| usize::from(*b)))
}

/// Decodes strictly: no end of string inside, padding of fewer than eight bits, all ones (RFC 7541, 5.2).
pub fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    use std::collections::HashMap;
    static SYMBOLS: std::sync::OnceLock<HashMap<(u32, u8), usize>> = std::sync::OnceLock::new();
    let symbols = SYMBOLS.get_or_init(|| {
        let all = codes().iter().enumerate();
        all.map(|(symbol, code)| (*code, symbol)).collect()
    });
    let (mut out, mut code, mut bits) = (Vec::new(), 0_u32, 0_u8);
    for byte in bytes {
        for at in (0..8).rev() {
            code = code << 1 | u32::from(byte >> at & 1);
            bits += 1;
            match symbols.get(&(code, bits)) {
                Some(&END) => return Err("end of string within a string".to_owned()),
                Some(symbol) => {
                    out.push(*symbol as u8);
                    (code, bits) = (0, 0);
                }
                None if bits >= 30 => return Err("no such code".to_owned()),
                None => {}
            }
        }
    }
    if bits >= 8 || code != (1 << bits) - 1 {
        return Err(format!("padding of {bits} bits, {code:#b}"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, C.4 and C.6.
    #[test]
    fn the_examples_of_the_rfc() {
        for (text, hex) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            (
                "Mon, 21 Oct 2013 20:13:21 GMT",
                "d07abe941054d444a8200595040b8166e082a62d1bff",
            ),
        ] {
            let coded = encode(text.as_bytes());
            let shown: String = coded
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect::<Vec<_>>()
                .concat();
            assert_eq!(shown, hex);
            assert_eq!(decode(&coded).unwrap(), text.as_bytes());
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        assert!(decode(&encode_symbols([97, END])).is_err());
        assert!(decode(b"\xff\xff").is_err() && decode(&[0x00]).is_err());
    }
}

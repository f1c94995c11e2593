//! Bytes from outside to text that stays on its line: as JSON string contents, or with `\xHH` like nginx. And numbers.

use std::io::Write;
use std::net::IpAddr;

/// Longest value in bytes, before escaping; the rest is cut off and [`CUT`] says so.
pub const MAX_FIELD_BYTES: usize = 8 * 1024;
/// Follows a value that was cut.
pub(super) const CUT: &[u8] = b"[cut]";

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// True for what neither form may write as it is: controls, quote, backslash, DEL, all above ASCII.
fn is_special(byte: u8) -> bool {
    !(0x20..0x7f).contains(&byte) || byte == b'"' || byte == b'\\'
}

/// [`is_special`] for eight bytes at once: true if any of them is.
fn any_special(word: [u8; 8]) -> bool {
    let x = u64::from_ne_bytes(word);
    // a lane's high bit is set by the subtraction if it was below the subtrahend; a borrow into the next lane needs one that was
    let below = |y: u64, n: u64| y.wrapping_sub(ONES * n) & !y;
    let quote = below(x ^ (ONES * b'"' as u64), 1);
    let backslash = below(x ^ (ONES * b'\\' as u64), 1);
    let above = x | x.wrapping_add(ONES);
    (below(x, 0x20) | quote | backslash | above) & HIGH != 0
}

/// True if the value can be written as it is: nearly every value of nearly every request.
fn is_plain(value: &[u8]) -> bool {
    if let Some(last) = value.last_chunk::<8>() {
        let (words, _) = value.as_chunks::<8>();
        // the last eight bytes overlap the last whole word instead of a loop over single bytes
        !words.iter().any(|word| any_special(*word)) && !any_special(*last)
    } else {
        !value.iter().any(|byte| is_special(*byte))
    }
}

/// At most [`MAX_FIELD_BYTES`], not within a UTF-8 sequence, and whether that is less than all.
fn cut(value: &[u8]) -> (&[u8], bool) {
    let Some(next) = value.get(MAX_FIELD_BYTES) else {
        return (value, false);
    };
    let mut end = MAX_FIELD_BYTES;
    let mut next = *next;
    while next & 0xc0 == 0x80 && end > MAX_FIELD_BYTES - 3 {
        end -= 1;
        next = value.get(end).copied().unwrap_or(0);
    }
    (value.get(..end).unwrap_or_default(), true)
}

/// Appends `value` as the contents of a JSON string (RFC 8259): always valid UTF-8, no control, no line separator of any kind.
pub(super) fn json(value: &[u8], out: &mut Vec<u8>) {
    escape(value, out, json_special);
}

/// Appends `value` with `\xHH` for controls, quote, backslash and everything above ASCII, as nginx does.
pub(super) fn hex(value: &[u8], out: &mut Vec<u8>) {
    escape(value, out, hex_special);
}

fn escape(value: &[u8], out: &mut Vec<u8>, special: fn(&[u8], &mut Vec<u8>)) {
    if value.len() <= MAX_FIELD_BYTES && is_plain(value) {
        out.extend_from_slice(value);
        return;
    }
    let (value, was_cut) = cut(value);
    special(value, out);
    if was_cut {
        out.extend_from_slice(CUT);
    }
}

#[cold]
fn json_special(value: &[u8], out: &mut Vec<u8>) {
    for chunk in value.utf8_chunks() {
        for letter in chunk.valid().chars() {
            json_letter(letter, out);
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn json_letter(letter: char, out: &mut Vec<u8>) {
    match letter {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // C1 controls drive terminals, the separators end lines in some readers, the directional marks reorder what is shown
        '\0'..='\x1f'
        | '\x7f'..='\u{9f}'
        | '\u{200e}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => {
            let _ = write!(out, "\\u{:04x}", letter as u32);
        }
        other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cold]
fn hex_special(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        if is_special(byte) {
            let digit = |nibble: u8| {
                if nibble < 10 {
                    b'0' + nibble
                } else {
                    b'A' - 10 + nibble
                }
            };
            out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
        } else {
            out.push(byte);
        }
    }
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Appends a decimal number.
pub(super) fn number(mut value: u64, out: &mut Vec<u8>) {
    if value < 10 {
        out.push(b'0' + value as u8);
        return;
    }
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while value >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value > 0 {
        at -= 1;
        digits[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends thousandths: microseconds as milliseconds, milliseconds as seconds.
pub(super) fn thousandths(value: u64, out: &mut Vec<u8>) {
    number(value / 1000, out);
    let rest = value % 1000;
    let [tens, ones] = PAIRS[(rest % 100) as usize];
    out.extend_from_slice(&[b'.', b'0' + (rest / 100) as u8, tens, ones]);
}

/// Appends an address; IPv4 in its own way because it is the common one.
pub(super) fn address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            number(a.into(), out);
            for octet in [b, c, d] {
                out.push(b'.');
                number(octet.into(), out);
            }
        }
        IpAddr::V6(v6) => {
            let _ = write!(out, "{v6}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hex_is_nginx_s() {
        assert_eq!(
            text(|out| hex(b"a\"\\\x1b[0m\r\n\xc3\xa9\x7f", out)),
            r"a\x22\x5C\x1B[0m\x0D\x0A\xC3\xA9\x7F"
        );
    }

    #[test]
    fn json_keeps_letters_and_escapes_what_drives_terminals() {
        assert_eq!(
            text(|out| json(
                "gr\u{fc}\u{df}e\u{9b}\u{2028}\u{202e}\u{7f}\t".as_bytes(),
                out
            )),
            "gr\u{fc}\u{df}e\\u009b\\u2028\\u202e\\u007f\\t"
        );
        assert_eq!(
            text(|out| json(b"a\xff\xfe\xc3b", out)),
            "a\u{fffd}\u{fffd}\u{fffd}b"
        );
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        for lead in 0..4 {
            let value = format!("{}{}", "x".repeat(lead), "\u{20ac}".repeat(4000));
            let written = text(|out| json(value.as_bytes(), out));
            let kept = written.strip_suffix("[cut]").unwrap();
            assert!(value.starts_with(kept));
            assert!(kept.len() > MAX_FIELD_BYTES - 3 && kept.len() <= MAX_FIELD_BYTES);
        }
        let whole = "y".repeat(MAX_FIELD_BYTES);
        assert_eq!(text(|out| json(whole.as_bytes(), out)), whole);
        assert_eq!(
            text(|out| hex(&vec![b'z'; 1 << 20], out)).len(),
            MAX_FIELD_BYTES + CUT.len()
        );
        assert_eq!(
            text(|out| hex(&vec![0x80; 1 << 20], out)).len(),
            (MAX_FIELD_BYTES - 3) * 4 + CUT.len()
        );
    }

    proptest! {
        #[test]
        fn plain_is_what_byte_by_byte_says(value in proptest::collection::vec(any::<u8>(), 0..40), ascii in any::<bool>()) {
            let value: Vec<u8> = value.into_iter().map(|byte| if ascii { byte % 95 + 32 } else { byte }).collect();
            prop_assert_eq!(is_plain(&value), !value.iter().any(|byte| is_special(*byte)));
        }

        #[test]
        fn one_special_byte_anywhere_is_found(at in 0usize..30, byte in any::<u8>()) {
            let mut value = vec![b'a'; 30];
            value[at] = byte;
            prop_assert_eq!(is_plain(&value), !is_special(byte));
        }

        #[test]
        fn numbers_are_display_s(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            prop_assert_eq!(text(|out| number(value, out)), value.to_string());
            let thousandth = format!("{}.{:03}", value / 1000, value % 1000);
            prop_assert_eq!(text(|out| thousandths(value, out)), thousandth);
        }

        #[test]
        fn addresses_are_display_s(four in any::<[u8; 4]>(), six in any::<[u8; 16]>()) {
            for one in [IpAddr::from(four), IpAddr::from(six)] {
                prop_assert_eq!(text(|out| address(one, out)), one.to_string());
            }
        }
    }
}

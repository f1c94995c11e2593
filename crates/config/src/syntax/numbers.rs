//! What a word that looks like a number says, and what was probably meant by one that isn't.

use super::tree::Scalar;

/// Why a word is no number.
#[derive(Debug, PartialEq)]
pub(super) enum NotNumber {
    /// Digits and a unit: `10s`, `64KiB`, `100/s`, `30%`, an address, a version.
    Unit,
    /// A shape that only a number would have, but wrong.
    Malformed(&'static str),
    /// More than 128 bits, or no finite float.
    TooLarge,
}

/// Whether the word can only be a number (or a mistake): a digit first, perhaps behind a sign or a point.
pub(super) fn looks_like_number(word: &str) -> bool {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
    digits.starts_with(|first: char| first.is_ascii_digit())
}

/// Reads a number: decimal, `0x`, `0o`, `0b`, with `_` between digits.
pub(super) fn parse(word: &str) -> Result<Scalar, NotNumber> {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let negative = word.starts_with('-');
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            return radix_number(digits, radix, negative);
        }
    }
    if unsigned.starts_with('.') {
        return Err(NotNumber::Malformed(
            "a number needs a digit before its point",
        ));
    }
    decimal(word, unsigned)
}

fn radix_number(digits: &str, radix: u32, negative: bool) -> Result<Scalar, NotNumber> {
    let shape_ok = digits.starts_with(|first: char| first.is_digit(radix))
        && digits
            .chars()
            .all(|digit| digit.is_digit(radix) || digit == '_');
    if !shape_ok {
        let reason = match radix {
            16 => "after `0x` come hexadecimal digits",
            8 => "after `0o` come octal digits (0 to 7)",
            _ => "after `0b` come binary digits (0 and 1)",
        };
        return Err(NotNumber::Malformed(reason));
    }
    integer(digits, radix, negative)
}

fn integer(digits: &str, radix: u32, negative: bool) -> Result<Scalar, NotNumber> {
    let sign = if negative { "-" } else { "" };
    let plain: String = sign
        .chars()
        .chain(digits.chars().filter(|digit| *digit != '_'))
        .collect();
    i128::from_str_radix(&plain, radix)
        .map(Scalar::Integer)
        .map_err(|_| NotNumber::TooLarge)
}

fn decimal(word: &str, unsigned: &str) -> Result<Scalar, NotNumber> {
    let (whole, mut rest) = split_digits(unsigned);
    if rest.is_empty() {
        return integer(whole, 10, word.starts_with('-'));
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        let (digits, tail) = split_digits(fraction);
        if digits.is_empty() {
            let missing = fraction.is_empty() || fraction.starts_with(['e', 'E', '_']);
            return Err(if missing {
                NotNumber::Malformed("a number needs a digit behind its point")
            } else {
                NotNumber::Unit
            });
        }
        rest = tail;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let (digits, tail) = split_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
        if digits.is_empty() {
            let bare = exponent.is_empty() || exponent.starts_with(['+', '-', '_']);
            return Err(if bare {
                NotNumber::Malformed("an exponent needs a digit")
            } else {
                NotNumber::Unit
            });
        }
        rest = tail;
    }
    if !rest.is_empty() {
        return Err(NotNumber::Unit);
    }
    let plain: String = word.chars().filter(|digit| *digit != '_').collect();
    match plain.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Scalar::Float(value)),
        _ => Err(NotNumber::TooLarge),
    }
}

/// The digits (and `_` behind the first) at the beginning, and the rest.
fn split_digits(text: &str) -> (&str, &str) {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return ("", text);
    }
    let end = text
        .find(|digit: char| !digit.is_ascii_digit() && digit != '_')
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (word, value) in [
            ("0", 0),
            ("-1", -1),
            ("+12_000_", 12000),
            ("0xfF_", 255),
            ("-0b1010", -10),
            ("0o17", 15),
            ("007", 7),
            ("170141183460469231731687303715884105727", i128::MAX),
            ("-170141183460469231731687303715884105728", i128::MIN),
        ] {
            assert_eq!(parse(word), Ok(Scalar::Integer(value)), "{word}");
        }
        for (word, value) in [
            ("1.5", 1.5),
            ("-1_0.2_5e+0_2", -1025.0),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
        ] {
            assert_eq!(parse(word), Ok(Scalar::Float(value)), "{word}");
        }
        for word in [
            "1.", "1._0", "1.e3", "1e", "1e+", ".5", "-.5", "0x", "0x_1", "0b2", "0o8", "0xg",
        ] {
            assert!(
                matches!(parse(word), Err(NotNumber::Malformed(_))),
                "{word}: {:?}",
                parse(word)
            );
        }
        for word in [
            "10s",
            "64KiB",
            "30%",
            "1.5ms",
            "127.0.0.1",
            "1.x",
            "10:20",
            "3e2s",
            "1everything",
        ] {
            assert_eq!(parse(word), Err(NotNumber::Unit), "{word}");
        }
        for word in ["170141183460469231731687303715884105728", "1e400"] {
            assert_eq!(parse(word), Err(NotNumber::TooLarge), "{word}");
        }
    }
}

//! Dictionaries of structured fields (RFC 8941 3.2), as far as targeted cache control (RFC 9213) needs them: strict, keys and
//! values; parameters are read and dropped.

/// Members of a dictionary, and of an inner list.
const MAX_MEMBERS: usize = 64;

/// A member's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer of at most 15 digits.
    Integer(i64),
    /// A string, between its quotes, without escapes. One with escapes is [`Value::Other`]: no field name has any.
    String(&'a [u8]),
    /// `?1`, or a key alone.
    True,
    /// `?0`.
    False,
    /// Any other type.
    Other,
}

/// Keys and values in order, the last of equal keys in the first's place. `None`: not a dictionary.
pub fn dictionary(input: &[u8]) -> Option<Vec<(&[u8], Value<'_>)>> {
    let mut at = Cursor(input.trim_ascii());
    let mut members: Vec<(&[u8], Value<'_>)> = Vec::new();
    if at.0.is_empty() {
        return Some(members);
    }
    loop {
        let key = at.key()?;
        let value = if at.eat(b'=') {
            at.member()?
        } else {
            Value::True
        };
        at.parameters()?;
        let full = members.len() == MAX_MEMBERS;
        match members.iter_mut().find(|(k, _)| *k == key) {
            Some(old) => old.1 = value,
            None if full => return None,
            None => members.push((key, value)),
        }
        at.white();
        if at.0.is_empty() {
            return Some(members);
        }
        if !at.eat(b',') {
            return None;
        }
        at.white();
        // A trailing comma is an error: `key` fails on nothing.
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((b, rest)) if *b == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn white(&mut self) {
        self.take(|b| matches!(b, b' ' | b'\t'));
    }

    fn spaces(&mut self) {
        self.take(|b| b == b' ');
    }

    fn take(&mut self, mut belongs: impl FnMut(u8) -> bool) -> &'a [u8] {
        let end = self
            .0
            .iter()
            .position(|b| !belongs(*b))
            .unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at_checked(end).unwrap_or_default();
        self.0 = rest;
        taken
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        matches!(self.0.first()?, b'a'..=b'z' | b'*').then_some(())?;
        Some(self.take(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*')))
    }

    fn member(&mut self) -> Option<Value<'a>> {
        if !self.eat(b'(') {
            return self.bare();
        }
        let mut count = 0;
        loop {
            self.spaces();
            if self.eat(b')') {
                return Some(Value::Other);
            }
            count += 1;
            if count > MAX_MEMBERS {
                return None;
            }
            self.bare()?;
            self.parameters()?;
            matches!(self.0.first()?, b' ' | b')').then_some(())?;
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.eat(b';') {
            self.spaces();
            self.key()?;
            if self.eat(b'=') {
                self.bare()?;
            }
        }
        Some(())
    }

    fn bare(&mut self) -> Option<Value<'a>> {
        match self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'?' => {
                self.eat(b'?');
                if self.eat(b'1') {
                    Some(Value::True)
                } else {
                    self.eat(b'0').then_some(Value::False)
                }
            }
            b':' => {
                self.eat(b':');
                self.take(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
                self.eat(b':').then_some(Value::Other)
            }
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.take(|b| {
                    narthex_message::validate::is_token_byte(b) || matches!(b, b':' | b'/')
                });
                Some(Value::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value<'a>> {
        let negative = self.eat(b'-');
        let digits = self.take(|b| b.is_ascii_digit());
        if digits.is_empty() || digits.len() > 15 {
            return None;
        }
        if self.eat(b'.') {
            let fraction = self.take(|b| b.is_ascii_digit());
            return (digits.len() <= 12 && matches!(fraction.len(), 1..=3)).then_some(Value::Other);
        }
        let n = digits
            .iter()
            .fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
        Some(Value::Integer(if negative { -n } else { n }))
    }

    fn string(&mut self) -> Option<Value<'a>> {
        self.eat(b'"');
        let whole = self.0;
        let mut escapes = false;
        loop {
            let (&b, rest) = self.0.split_first()?;
            self.0 = rest;
            match b {
                b'"' => break,
                b'\\' => {
                    escapes = true;
                    let (next, rest) = self.0.split_first()?;
                    matches!(next, b'"' | b'\\').then_some(())?;
                    self.0 = rest;
                }
                b' '..=b'~' => {}
                _ => return None,
            }
        }
        let length = whole.len() - self.0.len() - 1;
        Some(if escapes {
            Value::Other
        } else {
            Value::String(whole.get(..length).unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<Vec<(String, Value<'_>)>> {
        dictionary(text.as_bytes()).map(|members| {
            members
                .into_iter()
                .map(|(k, v)| (String::from_utf8(k.to_vec()).unwrap(), v))
                .collect()
        })
    }

    #[test]
    fn members() {
        let one = |k: &str, v| Some(vec![(k.to_owned(), v)]);
        for (text, want) in [
            ("max-age=60", one("max-age", Value::Integer(60))),
            ("max-age=-60", one("max-age", Value::Integer(-60))),
            (
                "max-age=60;a;b=1;c=\"x\";d=?0",
                one("max-age", Value::Integer(60)),
            ),
            ("max-age=1, max-age=2", one("max-age", Value::Integer(2))),
            ("max-age=60.0", one("max-age", Value::Other)),
            ("max-age=\"60\"", one("max-age", Value::String(b"60"))),
            ("a=\"x\\\"y\"", one("a", Value::Other)),
            ("no-store", one("no-store", Value::True)),
            ("no-store=?1", one("no-store", Value::True)),
            ("no-store=?0", one("no-store", Value::False)),
            ("a=tok/en:x", one("a", Value::Other)),
            ("a=:aGk=:", one("a", Value::Other)),
            ("a=(1 \"b\";c  d)", one("a", Value::Other)),
            ("a=()", one("a", Value::Other)),
            ("  a  ", one("a", Value::True)),
            ("", Some(vec![])),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
        assert_eq!(
            read("a=1 \t, b;x, c=?0"),
            Some(vec![
                ("a".into(), Value::Integer(1)),
                ("b".into(), Value::True),
                ("c".into(), Value::False)
            ])
        );
    }

    #[test]
    fn no_dictionaries() {
        for bad in [
            "max-age=60,",
            ",a",
            "Max-Age=60",
            "max-age =60",
            "max-age= 60",
            "max-age=",
            "max-age=1x",
            "a=1234567890123456",
            "a=1.",
            "a=1.2345",
            "a=\"x",
            "a=\"\\x\"",
            "a=\"\u{e9}\"",
            "a=?2",
            "a=(1",
            "a=(1\"b\")",
            "a;",
            "a;B",
            "a b",
            "a=:x",
            "1=2",
            "a=--1",
            "a, , b",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let many: Vec<_> = (0..65).map(|n| format!("k{n}")).collect();
        assert_eq!(read(&many.join(",")), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[a-c=;,?:()\" .0-9*-]{0,30}") {
            let _ = dictionary(text.as_bytes());
        }
    }
}

//! What a quoted string says: escapes, and the indentation of multi-line strings.

use std::borrow::Cow;
use std::ops::Range;

use super::chars::{is_newline, is_space, lines, newline_len};
use super::lexer::{Quote, Token};

/// A mistake inside a string. The range is in bytes of the file.
pub(super) struct Mistake {
    pub(super) range: Range<usize>,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: String,
}

/// The string's value. Mistakes are reported and left out of the value. The token must be closed.
pub(super) fn decode(
    text: &str,
    token: Token,
    quote: Quote,
    report: &mut dyn FnMut(Mistake),
) -> String {
    let mark = quote.mark();
    let base = token.start + mark;
    let body = text
        .get(base..token.end.saturating_sub(mark))
        .unwrap_or_default();
    match (quote.multi, quote.hashes) {
        (false, 0) => unescape(body, &|at| base + at, report),
        (false, _) => body.to_owned(),
        (true, hashes) => multi(body, base, hashes == 0, report),
    }
}

/// Text after white space escapes are resolved, with a way back to the places in the file.
struct Joined<'a> {
    text: Cow<'a, str>,
    /// From this byte of `text` on, the file is this much ahead. Ascending.
    jumps: Vec<(usize, usize)>,
    base: usize,
}

impl Joined<'_> {
    fn file_offset(&self, at: usize) -> usize {
        let index = self.jumps.partition_point(|(from, _)| *from <= at);
        let skipped = index
            .checked_sub(1)
            .and_then(|index| self.jumps.get(index))
            .map_or(0, |(_, by)| *by);
        self.base + at + skipped
    }
}

/// `"""`: white space escapes first, then the indentation of the last line is taken off every line, then the other escapes.
fn multi(body: &str, base: usize, escapes: bool, report: &mut dyn FnMut(Mistake)) -> String {
    let joined = if escapes {
        join(body, base)
    } else {
        Joined {
            text: body.into(),
            jumps: Vec::new(),
            base,
        }
    };
    let text = joined.text.as_ref();
    let first = newline_len(text);
    if first == 0 {
        report(Mistake {
            range: base.saturating_sub(3)..base,
            code: "multi-line-string",
            message: "`\"\"\"` must be followed by a line break".into(),
            help: "write a one-line string between single quotation marks: \"...\"".into(),
        });
        return text.to_owned();
    }
    let content = text.get(first..).unwrap_or_default();
    let prefix = last_line(content);
    if !prefix.chars().all(is_space) {
        let end = joined.file_offset(text.len());
        report(Mistake {
            range: joined.file_offset(text.len() - prefix.len())..end,
            code: "multi-line-string",
            message: "the closing `\"\"\"` must stand alone on its line".into(),
            help: "put it on a line of its own; its indentation is taken off every line above"
                .into(),
        });
        return content.to_owned();
    }
    let mut dedented = Joined {
        text: Cow::Borrowed(""),
        jumps: Vec::new(),
        base: 0,
    };
    let mut out = String::with_capacity(content.len());
    let mut count = lines(content).count();
    let mut at = first;
    for line in lines(content) {
        count -= 1;
        let offset = at;
        at += line.len();
        at += newline_len(text.get(at..).unwrap_or_default());
        if count == 0 {
            break;
        }
        if offset > first {
            out.push('\n');
        }
        if line.chars().all(is_space) {
            continue;
        }
        let stripped = line.strip_prefix(prefix).unwrap_or_else(|| {
            let indent = line.len() - line.trim_start_matches(is_space).len();
            let first = line.chars().next().map_or(1, char::len_utf8);
            report(Mistake {
                range: joined.file_offset(offset)..joined.file_offset(offset + indent.max(first)),
                code: "multi-line-string",
                message: "this line is not indented like the closing `\"\"\"`".into(),
                help: "indent every line with the same spaces or tabs as the closing `\"\"\"`"
                    .into(),
            });
            line.trim_start_matches(is_space)
        });
        // Where this line's text stands in the file, for mistakes found by the last step.
        let from = offset + (line.len() - stripped.len());
        dedented.jumps.push((
            out.len(),
            joined.file_offset(from).saturating_sub(out.len()),
        ));
        out.push_str(stripped);
    }
    if escapes && out.contains('\\') {
        return unescape(&out, &|at| dedented.file_offset(at), report);
    }
    out
}

fn last_line(text: &str) -> &str {
    let start = text
        .char_indices()
        .rev()
        .find(|(_, character)| is_newline(*character));
    start.map_or(text, |(at, character)| {
        text.get(at + character.len_utf8()..).unwrap_or_default()
    })
}

/// Resolves `\` followed by white space, and nothing else.
fn join(body: &str, base: usize) -> Joined<'_> {
    let mut out = String::new();
    let mut jumps = Vec::new();
    let mut copied = 0;
    let mut search = 0;
    while let Some(found) = body.get(search..).and_then(|rest| rest.find('\\')) {
        let at = search + found;
        let rest = body.get(at + 1..).unwrap_or_default();
        let blank = blank_len(rest);
        if blank == 0 {
            search = at + 1 + rest.chars().next().map_or(0, char::len_utf8);
            continue;
        }
        out.push_str(body.get(copied..at).unwrap_or_default());
        search = at + 1 + blank;
        copied = search;
        jumps.push((out.len(), copied - out.len()));
    }
    if jumps.is_empty() {
        return Joined {
            text: body.into(),
            jumps,
            base,
        };
    }
    out.push_str(body.get(copied..).unwrap_or_default());
    Joined {
        text: out.into(),
        jumps,
        base,
    }
}

/// Bytes of white space, line breaks included, at the beginning.
fn blank_len(text: &str) -> usize {
    text.len()
        - text
            .trim_start_matches(|next| is_space(next) || is_newline(next))
            .len()
}

/// Resolves every escape. `place` turns an offset in `body` into one in the file.
fn unescape(body: &str, place: &dyn Fn(usize) -> usize, report: &mut dyn FnMut(Mistake)) -> String {
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let offset = body.len() - rest.len() + at;
        let tail = rest.get(at + 1..).unwrap_or_default();
        let used = escape(tail, &mut out).unwrap_or_else(|bad| {
            report(Mistake {
                range: place(offset)..place(offset) + 1 + bad.length,
                code: "escape",
                message: bad.message,
                help: bad.help.into(),
            });
            bad.length
        });
        rest = tail.get(used..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

struct BadEscape {
    length: usize,
    message: String,
    help: &'static str,
}

/// One escape, behind its backslash: bytes used.
fn escape(tail: &str, out: &mut String) -> Result<usize, BadEscape> {
    let Some(first) = tail.chars().next() else {
        return Ok(0);
    };
    let plain = match first {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'b' => '\u{08}',
        'f' => '\u{0C}',
        's' => ' ',
        '\\' | '"' => first,
        'u' => return unicode(tail, out),
        _ if is_space(first) || is_newline(first) => {
            return Ok(blank_len(tail));
        }
        _ => {
            return Err(BadEscape {
                length: first.len_utf8(),
                message: format!("`\\{first}` is not an escape"),
                help: "write `\\\\` for a backslash, or use a raw string where backslashes mean themselves: #\"^/v\\d+/\"#",
            });
        }
    };
    out.push(plain);
    Ok(1)
}

/// `u{1F600}`: one to six hexadecimal digits, no surrogate.
fn unicode(tail: &str, out: &mut String) -> Result<usize, BadEscape> {
    let digits = tail.strip_prefix("u{").map(|rest| {
        let length = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        (
            rest.get(..length).unwrap_or_default(),
            rest.as_bytes().get(length) == Some(&b'}'),
        )
    });
    let bad = |length, message: String| BadEscape {
        length,
        message,
        help: "write one to six hexadecimal digits between braces, e.g. \\u{e9}",
    };
    let Some((digits, true)) = digits else {
        return Err(bad(1, "`\\u` needs its code point between braces".into()));
    };
    let length = digits.len() + 3;
    let code = if (1..=6).contains(&digits.len()) {
        u32::from_str_radix(digits, 16).ok()
    } else {
        None
    };
    match code.and_then(char::from_u32) {
        Some(character) => {
            out.push(character);
            Ok(length)
        }
        None => Err(bad(
            length,
            "this is not the number of a Unicode character".into(),
        )),
    }
}

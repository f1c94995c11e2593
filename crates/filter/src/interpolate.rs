//! `$1` and `${name}` in the replacement of a regular expression, parsed once.

use regex_automata::PatternID;
use regex_automata::meta::Regex;

/// A piece of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Verbatim.
    Text(String),
    /// The group with this number.
    Group(usize),
}

/// Parses a replacement: `$1`, `$name` (the longest run of letters, digits and `_`), `${1}`, `${name}`, `$$` for a dollar
/// sign. A `$` before anything else stands for itself.
pub(crate) fn parse(with: &str, regex: &Regex) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = with;
    while let Some((before, after)) = rest.split_once('$') {
        literal.push_str(before);
        let Some((name, tail)) = reference(after) else {
            literal.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
            continue;
        };
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Group(group(name, regex)?));
        rest = tail;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

/// The name at the beginning of `text`, and what follows.
fn reference(text: &str) -> Option<(&str, &str)> {
    if let Some(inner) = text.strip_prefix('{') {
        return inner.split_once('}').filter(|(name, _)| !name.is_empty());
    }
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    text.split_at_checked(end)
        .filter(|(name, _)| !name.is_empty())
}

fn group(name: &str, regex: &Regex) -> Result<usize, String> {
    let info = regex.group_info();
    let found = match name.parse::<usize>() {
        Ok(number) => (number < info.group_len(PatternID::ZERO)).then_some(number),
        Err(_) => info.to_index(PatternID::ZERO, name),
    };
    found.ok_or_else(|| {
        format!("the pattern has no group `{name}`; write `$$` if a dollar sign is meant")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(t: &str) -> Piece {
        Piece::Text(t.to_owned())
    }

    #[test]
    fn forms() {
        let regex = Regex::new(r"/(?<user>\w+)/(\d+)").unwrap();
        for (with, want) in [
            ("/x", vec![text("/x")]),
            ("", vec![]),
            ("$1", vec![Piece::Group(1)]),
            (
                "/$2/$user-$0",
                vec![
                    text("/"),
                    Piece::Group(2),
                    text("/"),
                    Piece::Group(1),
                    text("-"),
                    Piece::Group(0),
                ],
            ),
            (
                "${user}s${2}0",
                vec![Piece::Group(1), text("s"), Piece::Group(2), text("0")],
            ),
            ("a$$1", vec![text("a$1")]),
            ("$", vec![text("$")]),
            ("$-$", vec![text("$-$")]),
            ("${", vec![text("${")]),
            ("${}", vec![text("${}")]),
            ("$$$1", vec![text("$"), Piece::Group(1)]),
        ] {
            assert_eq!(parse(with, &regex).unwrap(), want, "{with}");
        }
        for bad in ["$3", "$users", "${3}", "$1a", "${use}"] {
            assert!(parse(bad, &regex).is_err(), "{bad}");
        }
    }
}

//! Character classes of KDL 2.

/// Unicode white space that does not end a line.
pub(super) fn is_space(character: char) -> bool {
    matches!(
        character,
        '\t' | ' ' | '\u{A0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}'
    )
}

/// Line breaks: CR, LF, NEL, VT, FF, LS, PS. `\r\n` is one, see [`newline_len`].
pub(super) fn is_newline(character: char) -> bool {
    matches!(
        character,
        '\n' | '\r' | '\u{0B}' | '\u{0C}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// Bytes of the line break at the beginning of `text`; 0 without one.
pub(super) fn newline_len(text: &str) -> usize {
    if text.starts_with("\r\n") {
        return 2;
    }
    text.chars()
        .next()
        .filter(|first| is_newline(*first))
        .map_or(0, char::len_utf8)
}

/// Code points that may not appear literally anywhere: controls, directional marks, a byte order mark after the
/// beginning.
pub(super) fn is_disallowed(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{08}' | '\u{0E}'..='\u{1F}' | '\u{7F}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}' | '\u{FEFF}'
    )
}

/// What words are made of: identifiers, numbers, and what people write in their place.
pub(super) fn is_word(character: char) -> bool {
    if character.is_ascii() {
        let marks = matches!(
            character,
            '\\' | '/' | '(' | ')' | '{' | '}' | ';' | '[' | ']' | '"' | '#' | '='
        );
        return character > ' ' && character != '\u{7F}' && !marks;
    }
    !is_space(character) && !is_newline(character) && !is_disallowed(character)
}

/// A line's break-free pieces: [`str::lines`] with KDL's line breaks. A text without one is one line.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        let Some(end) = current.find(is_newline) else {
            rest = None;
            return Some(current);
        };
        let (line, tail) = current.split_at(end);
        rest = tail.get(newline_len(tail)..);
        Some(line)
    })
}

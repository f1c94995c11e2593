//! Regular expressions: linear in time, bounded in memory, anchored at both ends, over bytes.

use std::collections::HashMap;

use regex_automata::meta;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

/// Memory that one compiled expression may take, bytes.
const MAX_COMPILED: usize = 2 << 20;
/// Most groups of one expression, the whole match included.
const MAX_GROUPS: usize = 32;

/// Start and end of each group.
pub(crate) type Slots = [Option<NonMaxUsize>; MAX_GROUPS * 2];

/// Every expression of a router, each text once. Cloning gives each its own scratch memory, so that cores share none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Regexes(Vec<meta::Regex>);

impl Regexes {
    /// Does expression `id` match all of `text`?
    pub(crate) fn matches(&self, id: u32, text: &[u8]) -> bool {
        self.0
            .get(id as usize)
            .is_some_and(|r| r.is_match(Input::new(text).anchored(Anchored::Yes)))
    }

    /// The groups of expression `id` on `text`.
    pub(crate) fn groups(&self, id: u32, text: &[u8]) -> Slots {
        let mut slots = [None; MAX_GROUPS * 2];
        if let Some(regex) = self.0.get(id as usize) {
            regex.search_slots(&Input::new(text).anchored(Anchored::Yes), &mut slots);
        }
        slots
    }
}

/// Collects [`Regexes`].
#[derive(Debug, Default)]
pub(crate) struct Collector {
    regexes: Regexes,
    known: HashMap<String, u32>,
}

impl Collector {
    /// Compiles `pattern`, or finds that it is there already.
    pub(crate) fn add(&mut self, pattern: &str) -> Result<u32, String> {
        if let Some(id) = self.known.get(pattern) {
            return Ok(*id);
        }
        let regex = compile(pattern)?;
        let id = self.regexes.0.len() as u32;
        self.regexes.0.push(regex);
        self.known.insert(pattern.to_owned(), id);
        Ok(id)
    }

    /// Group numbers and names of expression `id`.
    pub(crate) fn names(&self, id: u32) -> Vec<(u32, Box<str>)> {
        let Some(regex) = self.regexes.0.get(id as usize) else {
            return Vec::new();
        };
        let names = regex
            .group_info()
            .pattern_names(regex_automata::PatternID::ZERO);
        names
            .enumerate()
            .filter_map(|(group, name)| Some((group as u32, name?.into())))
            .collect()
    }

    pub(crate) fn finish(self) -> Regexes {
        self.regexes
    }
}

/// Compiles one expression that has to match the whole text.
fn compile(pattern: &str) -> Result<meta::Regex, String> {
    // On its own first: the message shows what was written, and `a)|(b` can't break out of the anchors below.
    syntax::parse_with(pattern, &syntax_config()).map_err(|e| e.to_string())?;
    // A comment at the end of a `(?x)` pattern would swallow the bracket; the line break ends it.
    let regex = build(&format!(r"\A(?:{pattern})\z"))
        .or_else(|_| build(&format!("\\A(?:{pattern}\n)\\z")))?;
    match regex.captures_len() {
        0..=MAX_GROUPS => Ok(regex),
        n => Err(format!(
            "{} groups, at most {} are allowed; write `(?:...)` where nothing is captured",
            n - 1,
            MAX_GROUPS - 1
        )),
    }
}

fn build(anchored: &str) -> Result<meta::Regex, String> {
    let config = meta::Config::new()
        .nfa_size_limit(Some(MAX_COMPILED))
        .onepass_size_limit(Some(MAX_COMPILED / 8))
        .hybrid_cache_capacity(MAX_COMPILED / 8)
        .utf8_empty(false);
    meta::Builder::new()
        .configure(config)
        .syntax(syntax_config())
        .build(anchored)
        .map_err(|e| match e.size_limit() {
            Some(limit) => format!(
                "the expression needs more than {limit} bytes when compiled; make it simpler"
            ),
            None => e.to_string(),
        })
}

/// Bytes, not characters: `.` matches every byte, line breaks and invalid UTF-8 too, so that no value escapes a `.*`.
/// `(?u)` switches Unicode classes on where they are wanted.
fn syntax_config() -> syntax::Config {
    syntax::Config::new()
        .unicode(false)
        .utf8(false)
        .dot_matches_new_line(true)
        .nest_limit(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &[u8]) -> bool {
        let mut all = Collector::default();
        let id = all.add(pattern).unwrap();
        all.finish().matches(id, text)
    }

    #[test]
    fn anchored_at_both_ends() {
        assert!(matches("/a|/ab", b"/ab"));
        assert!(matches("/a|/ab", b"/a"));
        assert!(!matches("/a", b"/ab"));
        assert!(!matches("b", b"/ab"));
        assert!(!matches("/a$", b"/a\n"));
        assert!(matches("(?x) /a # the letter", b"/a"));
        assert!(matches("", b""));
    }

    #[test]
    fn ac16_the_dot_is_every_byte() {
        assert!(matches(".*evil.*", b"\xff\nevil\0"));
        assert!(matches("(?i)ADMIN", b"admin"));
        assert!(matches("(?u:\\pL+)", "é".as_bytes()));
    }

    #[test]
    fn refused() {
        let mut all = Collector::default();
        for bad in [
            "(",
            "a)|(b",
            "[",
            "(?<n>a)(?<n>b)",
            "a{1,1000}{1,1000}",
            &"(a)".repeat(40),
            &"(?:".repeat(200),
        ] {
            assert!(all.add(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_text_once() {
        let mut all = Collector::default();
        assert_eq!(
            (all.add("a"), all.add("b"), all.add("a")),
            (Ok(0), Ok(1), Ok(0))
        );
    }
}

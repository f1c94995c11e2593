//! What stands after a chore's name: words and `--options`.

use std::collections::BTreeMap;

/// Words and options not yet asked for.
#[derive(Debug, Default)]
pub struct Args {
    words: Vec<String>,
    options: BTreeMap<String, String>,
}

/// Options that take no value.
const FLAGS: &[&str] = &[
    "--check",
    "--help",
    "--keep",
    "--only-cargo",
    "--quick",
    "--update",
    "--verbose",
];

impl Args {
    /// Reads `--flag`, `--option VALUE`, `--option=VALUE` and words, in any order.
    pub fn new(given: impl Iterator<Item = String>) -> Self {
        let mut args = Self::default();
        let mut given = given.peekable();
        while let Some(one) = given.next() {
            if let Some((name, value)) = one.split_once('=').filter(|_| one.starts_with("--")) {
                args.options.insert(name.to_owned(), value.to_owned());
            } else if one.starts_with("--") {
                let value = if FLAGS.contains(&one.as_str()) {
                    None
                } else {
                    given.next()
                };
                args.options.insert(one, value.unwrap_or_default());
            } else {
                args.words.push(one);
            }
        }
        args
    }

    /// Is the flag there?
    pub fn flag(&mut self, name: &str) -> bool {
        self.options.remove(name).is_some()
    }

    /// The text after an option.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.options.remove(name)
    }

    /// The number after an option.
    pub fn number<T: std::str::FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        match self.options.remove(name) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .map_err(|_| format!("{name} wants a number, not `{value}`")),
        }
    }

    /// The next word.
    pub fn word(&mut self) -> Option<String> {
        (!self.words.is_empty()).then(|| self.words.remove(0))
    }

    /// Nothing may be left over.
    pub fn end(self) -> Result<(), String> {
        match self.options.keys().chain(self.words.iter()).next() {
            None => Ok(()),
            Some(other) => Err(format!("what is `{other}`? See `cargo xtask help`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Args {
        Args::new(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_stand_anywhere() {
        let mut a = args("a,b --rounds 3 --quick --dur=1.5");
        assert!(a.flag("--quick"));
        assert_eq!(a.number("--rounds", 5), Ok(3));
        assert_eq!(a.number("--dur", 2.0), Ok(1.5));
        assert_eq!(a.word().as_deref(), Some("a,b"));
        assert!(a.end().is_ok());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(args("--nonsense 1").end().is_err());
        assert!(args("word").end().is_err());
        assert!(args("--rounds many").number("--rounds", 1).is_err());
    }
}

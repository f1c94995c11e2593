//! Old files, brought to the current version of the language.
//!
//! Version 1 is the only one so far. A later version adds one function from its predecessor's document to its own, and a
//! row to [`STEPS`]; a file walks through as many as it needs.

use crate::source::FileId;
use crate::syntax::tree::Scalar;
use crate::syntax::{self, Document};

/// The current version of the language.
pub const CURRENT: u32 = 1;

/// From version `n` to `n + 1`; the first row is from version 1.
type Step = fn(&str) -> String;
const STEPS: &[Step] = &[];

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migration {
    /// It is of the current version; nothing to do (exit 0).
    Current,
    /// The new text (exit 0).
    Migrated {
        /// What it was.
        from: u32,
        /// The file as the current version writes it.
        text: String,
    },
    /// It is newer than this program (exit 2).
    Newer(u64),
    /// It does not say its version first (exit 2).
    Unknown,
}

impl Migration {
    /// One sentence for the operator.
    pub fn message(&self) -> String {
        match self {
            Self::Current => format!("version {CURRENT} is current: nothing to migrate"),
            Self::Migrated { from, .. } => {
                format!("migrated from version {from} to version {CURRENT}")
            }
            Self::Newer(version) => {
                format!(
                    "version {version} is newer than this Narthex, which knows version {CURRENT}; use a newer Narthex"
                )
            }
            Self::Unknown => format!(
                "the file does not begin with its version; write `version {CURRENT}` as the first line"
            ),
        }
    }

    /// Exit code of `narthex config migrate`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Current | Self::Migrated { .. } => 0,
            Self::Newer(_) | Self::Unknown => 2,
        }
    }
}

/// Brings a file to the current version. The text need not be right otherwise.
pub fn migrate(text: &str) -> Migration {
    let document = syntax::parse(FileId::default(), text, &mut Vec::new());
    let Some(version) = version(&document) else {
        return Migration::Unknown;
    };
    match u32::try_from(version) {
        Ok(CURRENT) => Migration::Current,
        Ok(from) if (1..CURRENT).contains(&from) => {
            let steps = STEPS.iter().skip(from as usize - 1);
            Migration::Migrated {
                from,
                text: steps.fold(text.to_owned(), |text, step| step(&text)),
            }
        }
        _ => Migration::Newer(version),
    }
}

fn version(document: &Document) -> Option<u64> {
    let first = document
        .nodes
        .first()
        .filter(|n| n.name.text == "version")?;
    match first.args.first()?.scalar {
        Scalar::Integer(n) if n > 0 => u64::try_from(n).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(
            migrate("version 1\nsite \"*\" { porxy }"),
            Migration::Current
        );
        assert_eq!(migrate("version 7"), Migration::Newer(7));
        assert_eq!(migrate("site \"*\"\nversion 1"), Migration::Unknown);
        assert_eq!(migrate("version \"1\""), Migration::Unknown);
        assert_eq!(
            (migrate("version 1").exit_code(), migrate("").exit_code()),
            (0, 2)
        );
        assert!(migrate("version 1").message().contains("current"));
        assert_eq!(STEPS.len() as u32 + 1, CURRENT);
    }
}

//! The table of keys: one description of the language that drives reading, "did you mean", the JSON Schema and the
//! reference manual.
//!
//! A block of the file is a list of groups of [`NodeSpec`]s; a group (the filters, the settings, the actions) is shared
//! by every block that takes it.

mod cache;
mod globals;
mod json;
mod later;
mod listen;
pub(crate) mod pending;
mod reference;
mod site;
mod tls;
mod upstream;

pub use globals::TOP;
pub use json::json_schema;
pub(crate) use later::LATER_BALANCE;
pub use later::{foreign, later};
pub use reference::reference_markdown;
pub use site::{ACTIONS, CONDITIONS, FILTERS, SETTINGS};

/// The keys a block takes, in groups.
pub type Groups = &'static [&'static [NodeSpec]];

/// One key of a block.
#[derive(Debug, Clone, Copy)]
pub struct NodeSpec {
    /// As written.
    pub name: &'static str,
    /// One or two sentences for the manual.
    pub doc: &'static str,
    /// Arguments in order.
    pub args: &'static [ArgSpec],
    /// Properties.
    pub props: &'static [PropSpec],
    /// What its block takes; empty: no block.
    pub children: Groups,
    /// May be written more than once in its block.
    pub repeat: bool,
    /// A line to copy.
    pub example: &'static str,
}

/// One argument.
#[derive(Debug, Clone, Copy)]
pub struct ArgSpec {
    /// Its name in the manual and in messages.
    pub name: &'static str,
    /// What it must be.
    pub kind: Kind,
    /// May be left out.
    pub optional: bool,
    /// Stands for one or more (the last argument only).
    pub many: bool,
    /// Default, as text for the manual.
    pub default: &'static str,
}

/// One property.
#[derive(Debug, Clone, Copy)]
pub struct PropSpec {
    /// As written.
    pub name: &'static str,
    /// What it must be.
    pub kind: Kind,
    /// For the manual.
    pub doc: &'static str,
    /// Default as it would be written; empty: none.
    pub default: &'static str,
    /// Must be written.
    pub required: bool,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, not empty.
    Text,
    /// Text, may be empty.
    AnyText,
    /// `#true` or `#false`.
    Bool,
    /// A whole number in this range.
    Int(i64, i64),
    /// `"10s"`; more than nothing.
    Duration,
    /// `"10s"` or `"0s"`, which switches it off.
    DurationOrZero,
    /// `"64KiB"`.
    Size,
    /// `"64KiB"` or `"none"`.
    SizeOrNone,
    /// `"240B/s"`.
    Rate,
    /// `"30%"`, whole.
    Percent,
    /// `"0.5%"`.
    Share,
    /// `"75%"` or `"512MiB"`.
    Memory,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Text, or `#false`.
    TextOrFalse,
    /// A status (`404`) or a range (`"500-599"`).
    Status,
    /// The name of something, a path, an address ...: text with a meaning of its own, named here.
    Of(&'static str),
    /// Text with `{variables}`.
    Template,
    /// A secret by reference: `"env:NAME"` or `"file:/path"`.
    Secret,
    /// A regular expression, in a raw string.
    Regex,
}

/// Defaults of a [`NodeSpec`].
pub(crate) const NODE: NodeSpec = NodeSpec {
    name: "",
    doc: "",
    args: &[],
    props: &[],
    children: &[],
    repeat: false,
    example: "",
};

pub(crate) const fn arg(name: &'static str, kind: Kind) -> ArgSpec {
    ArgSpec {
        name,
        kind,
        optional: false,
        many: false,
        default: "",
    }
}

pub(crate) const fn prop(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> PropSpec {
    PropSpec {
        name,
        kind,
        doc,
        default,
        required: false,
    }
}

impl ArgSpec {
    pub(crate) const fn optional(mut self, default: &'static str) -> Self {
        self.optional = true;
        self.default = default;
        self
    }
    pub(crate) const fn many(mut self) -> Self {
        self.many = true;
        self
    }
}

impl PropSpec {
    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

impl NodeSpec {
    /// The property of this name.
    pub fn prop(&self, name: &str) -> Option<&'static PropSpec> {
        self.props.iter().find(|p| p.name == name)
    }
}

/// The key of this name in a block of these groups.
pub fn find(groups: Groups, name: &str) -> Option<&'static NodeSpec> {
    groups
        .iter()
        .flat_map(|g| g.iter())
        .find(|s| s.name == name)
}

/// Every key a block of these groups takes.
pub fn names(groups: Groups) -> impl Iterator<Item = &'static str> {
    groups.iter().flat_map(|g| g.iter()).map(|s| s.name)
}

/// Everything that the language has and the program does not honour yet, by name.
pub fn pending_names() -> Vec<&'static str> {
    [pending::KEYS, pending::PROPS, pending::WORDS]
        .concat()
        .into_iter()
        .map(|(_, name)| name)
        .collect()
}

/// The words of a key that are built.
pub(crate) fn built_words(key: &str, words: &[&'static str]) -> Vec<&'static str> {
    words
        .iter()
        .copied()
        .filter(|word| !pending::word(key, word))
        .collect()
}

/// The blocks in which a key of this name may be written ("the top level" is not a block), for "belongs in".
pub fn homes(name: &str) -> Vec<&'static str> {
    let mut homes = Vec::new();
    let mut visit = |block: &'static str, groups: Groups| {
        if find(groups, name).is_some() && !homes.contains(&block) {
            homes.push(block);
        }
    };
    visit("", TOP);
    for spec in TOP.iter().flat_map(|g| g.iter()) {
        visit(spec.name, spec.children);
        for inner in spec.children.iter().flat_map(|g| g.iter()) {
            visit(inner.name, inner.children);
        }
    }
    homes
}

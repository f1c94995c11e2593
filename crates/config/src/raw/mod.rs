//! What was written, read against the table of keys: every key known, every value of its kind, nothing twice.
//!
//! The result is a tree of [`Item`]s in which a wrong value is [`Val::Bad`] (and reported), so that the steps after it go
//! on and find what else is wrong.

pub mod value;

use std::collections::HashMap;
use std::time::Duration;

use crate::check::Problems;
use crate::problem::did_you_mean;
use crate::schema::{self, ArgSpec, Groups, NodeSpec};
use crate::source::Span;
use crate::syntax::tree::{Node, Scalar, Text};

pub use value::Val;
use value::shown;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Given<'a> {
    /// What.
    pub val: Val<'a>,
    /// Where.
    pub span: Span,
}

/// A known key with its values.
#[derive(Debug)]
pub struct Item<'a> {
    /// Its row in the table.
    pub spec: &'static NodeSpec,
    /// From the name to the end of the arguments.
    pub span: Span,
    /// The name alone.
    pub name_span: Span,
    /// As many as were written.
    pub args: Vec<Given<'a>>,
    /// Known properties in written order.
    pub props: Vec<(&'static str, Given<'a>)>,
    /// The block, if there is one.
    pub children: Vec<Item<'a>>,
    /// Whether there is a block.
    pub block: bool,
    /// Something in it was wrong (and reported): what is missing may be what was misspelt.
    pub broken: bool,
}

impl<'a> Item<'a> {
    /// The key.
    pub fn name(&self) -> &'static str {
        self.spec.name
    }

    /// The property, unless it is wrong.
    pub fn prop(&self, name: &str) -> Option<&Given<'a>> {
        debug_assert!(self.spec.prop(name).is_some(), "{name} is not in the table");
        self.props
            .iter()
            .find(|(n, g)| *n == name && g.val != Val::Bad)
            .map(|(_, g)| g)
    }

    /// The argument, unless it is wrong.
    pub fn arg(&self, index: usize) -> Option<&Given<'a>> {
        self.args.get(index).filter(|g| g.val != Val::Bad)
    }

    /// Text of an argument.
    pub fn arg_text(&self, index: usize) -> Option<(&'a str, Span)> {
        self.arg(index).and_then(Given::text)
    }

    /// All arguments that are text.
    pub fn texts(&self) -> impl Iterator<Item = (&'a str, Span)> + '_ {
        self.args.iter().filter_map(Given::text)
    }

    /// Text of a property.
    pub fn text(&self, name: &str) -> Option<(&'a str, Span)> {
        self.prop(name).and_then(Given::text)
    }

    /// A duration.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.prop(name)?.val {
            Val::Duration(d) => Some(d),
            _ => None,
        }
    }

    /// A number, in the type its range in the table guarantees.
    pub fn int<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        self.prop(name)?.int()
    }

    /// A size or rate.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        match self.prop(name)?.val {
            Val::Bytes(n) => Some(n),
            _ => None,
        }
    }

    /// A size that may be unlimited: `Some(None)`.
    #[allow(clippy::option_option)] // silence and `none` are different words
    pub fn bytes_or_none(&self, name: &str) -> Option<Option<u64>> {
        match self.prop(name)?.val {
            Val::Bytes(n) => Some(Some(n)),
            Val::Unlimited => Some(None),
            _ => None,
        }
    }

    /// Whole percent.
    pub fn percent(&self, name: &str) -> Option<u8> {
        match self.prop(name)?.val {
            Val::Share(n) => u8::try_from(n / 100).ok(),
            _ => None,
        }
    }

    /// A switch.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.prop(name)?.val {
            Val::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// A key that is a switch: its argument, `#true` without one.
    pub fn switch(&self) -> bool {
        !matches!(
            self.args.first(),
            Some(Given {
                val: Val::Bool(false),
                ..
            })
        )
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Item<'a>> {
        debug_assert!(
            schema::find(self.spec.children, name).is_some(),
            "{name} is not in the table"
        );
        self.children.iter().find(|c| c.name() == name)
    }

    /// All children of this name.
    pub fn all<'s>(&'s self, name: &'static str) -> impl Iterator<Item = &'s Item<'a>> {
        self.children.iter().filter(move |c| c.name() == name)
    }
}

impl<'a> Given<'a> {
    /// Text and its place.
    pub fn text(&self) -> Option<(&'a str, Span)> {
        match self.val {
            Val::Text(t) => Some((t, self.span)),
            _ => None,
        }
    }

    /// A number.
    pub fn int<T: TryFrom<i64>>(&self) -> Option<T> {
        match self.val {
            Val::Int(n) => T::try_from(n).ok(),
            _ => None,
        }
    }
}

/// Where a key stands, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// The block's key; empty at the top level.
    pub name: &'static str,
    /// What it takes.
    pub groups: Groups,
}

/// The top level.
pub const TOP: Block = Block {
    name: "",
    groups: schema::TOP,
};

/// Reads one node of a block, and everything in it.
pub fn read<'a>(node: &'a Node, block: Block, problems: &mut Problems) -> Option<Item<'a>> {
    let Some(spec) = schema::find(block.groups, &node.name.text) else {
        unknown_key(node, block, problems);
        return None;
    };
    if !problems.unbuilt && schema::pending::key(block.name, spec.name) {
        not_built(node.name.span, &format!("`{}`", spec.name), problems);
        return None;
    }
    let errors = problems.errors();
    let mut item = Item {
        spec,
        span: node.span,
        name_span: node.name.span,
        args: read_args(node, spec, problems),
        props: read_props(node, spec, problems),
        children: Vec::new(),
        block: node.children.is_some(),
        broken: false,
    };
    read_children(node, spec, &mut item, problems);
    item.broken = problems.errors() != errors;
    Some(item)
}

fn read_children<'a>(
    node: &'a Node,
    spec: &'static NodeSpec,
    item: &mut Item<'a>,
    problems: &mut Problems,
) {
    let Some(children) = &node.children else {
        return;
    };
    if spec.children.is_empty() {
        problems.error(
            "no-block-here",
            node.name.span,
            format!("`{}` has no block", spec.name),
            format!("write it on one line: {}", spec.example),
        );
        return;
    }
    let block = Block {
        name: spec.name,
        groups: spec.children,
    };
    let mut seen = Duplicates::default();
    for child in children {
        if let Some(child) = read(child, block, problems) {
            seen.check(&child, problems);
            item.children.push(child);
        }
    }
}

/// Keys that were written in a block, to find one that stands there twice.
#[derive(Debug, Default)]
pub struct Duplicates(HashMap<&'static str, Span>);

impl Duplicates {
    /// Reports `item` if it may stand only once and has been seen.
    pub fn check(&mut self, item: &Item<'_>, problems: &mut Problems) {
        if item.spec.repeat {
            return;
        }
        if let Some(first) = self.0.get(item.name()) {
            problems.error_at(
                "duplicate-key",
                item.name_span,
                format!("`{}` is written twice in this block", item.name()),
                "keep one of them",
                (*first, "first written here"),
            );
        } else {
            self.0.insert(item.name(), item.name_span);
        }
    }
}

fn read_args<'a>(
    node: &'a Node,
    spec: &'static NodeSpec,
    problems: &mut Problems,
) -> Vec<Given<'a>> {
    let mut out = Vec::with_capacity(node.args.len());
    for (index, value) in node.args.iter().enumerate() {
        let Some(arg) = arg_at(spec, index) else {
            too_many(value.span, &value.scalar, spec, problems);
            break;
        };
        out.push(read_value(value, arg.kind, spec, problems));
    }
    let missing = spec.args.iter().skip(node.args.len()).find(|a| !a.optional);
    if let Some(missing) = missing.filter(|_| !given_otherwise(node, spec)) {
        problems.error(
            "missing-value",
            node.name.span,
            format!("`{}` needs a value: the {}", spec.name, missing.name),
            format!("for example: {}", spec.example),
        );
    }
    out
}

/// `status=404` where `404` is an argument: the property is reported, the argument is not missed.
fn given_otherwise(node: &Node, spec: &NodeSpec) -> bool {
    node.props
        .iter()
        .any(|(key, _)| spec.args.iter().any(|a| a.name == key.text))
}

fn arg_at(spec: &'static NodeSpec, index: usize) -> Option<&'static ArgSpec> {
    spec.args
        .get(index)
        .or_else(|| spec.args.last().filter(|a| a.many))
}

fn too_many(span: Span, scalar: &Scalar, spec: &NodeSpec, problems: &mut Problems) {
    let written = shown(scalar);
    let message = format!("`{}` takes no {} here", spec.name, written);
    let help = match spec.props.first() {
        Some(prop) if spec.args.is_empty() => format!(
            "write {}={written}, or another of its properties",
            prop.name
        ),
        _ => format!("for example: {}", spec.example),
    };
    problems.error("unexpected-value", span, message, help);
}

fn read_props<'a>(
    node: &'a Node,
    spec: &'static NodeSpec,
    problems: &mut Problems,
) -> Vec<(&'static str, Given<'a>)> {
    let mut out: Vec<(&'static str, Given<'a>)> = Vec::with_capacity(node.props.len());
    for (key, value) in &node.props {
        let Some(prop) = spec.prop(&key.text) else {
            unknown_prop(key, &value.scalar, spec, problems);
            continue;
        };
        if out.iter().any(|(name, _)| *name == prop.name) {
            continue; // the parser has said so
        }
        if !problems.unbuilt && schema::pending::prop(spec.name, prop.name) {
            not_built(key.span, &format!("`{}=`", prop.name), problems);
            continue;
        }
        out.push((prop.name, read_value(value, prop.kind, spec, problems)));
    }
    for prop in spec.props.iter().filter(|p| p.required) {
        if !out.iter().any(|(name, _)| *name == prop.name) {
            problems.error(
                "missing-value",
                node.name.span,
                format!("`{}` needs `{}=`", spec.name, prop.name),
                format!("for example: {}", spec.example),
            );
        }
    }
    out
}

fn read_value<'a>(
    value: &'a crate::syntax::tree::Value,
    kind: schema::Kind,
    spec: &NodeSpec,
    problems: &mut Problems,
) -> Given<'a> {
    match value::read(value, kind) {
        Ok(Val::Text(word)) if !problems.unbuilt && is_pending(word, kind, spec) => {
            not_built(value.span, &format!("\"{word}\""), problems);
            Given {
                val: Val::Bad,
                span: value.span,
            }
        }
        Ok(val) => Given {
            val,
            span: value.span,
        },
        Err(wrong) => {
            let help = if wrong.help.is_empty() {
                format!("for example: {}", spec.example)
            } else {
                wrong.help
            };
            problems.error(wrong.code, value.span, wrong.message, help);
            Given {
                val: Val::Bad,
                span: value.span,
            }
        }
    }
}

/// A word that the table lists and the program does not honour yet.
fn is_pending(word: &str, kind: schema::Kind, spec: &NodeSpec) -> bool {
    matches!(kind, schema::Kind::Word(_) | schema::Kind::TextOrFalse)
        && schema::pending::word(spec.name, word)
}

/// Says that it is not built yet.
pub fn not_built(span: Span, what: &str, problems: &mut Problems) {
    problems.error(
        "not-built-yet",
        span,
        format!("{what} is not built yet in this version"),
        schema::pending::REMEDY,
    );
}

fn unknown_prop(key: &Text, value: &Scalar, spec: &NodeSpec, problems: &mut Problems) {
    let name = &key.text;
    if let Some(remedy) = schema::later(name) {
        return problems.error(
            "not-built-yet",
            key.span,
            format!("`{name}=` is not built yet in this version"),
            remedy,
        );
    }
    let known = || {
        let names = spec.props.iter().map(|p| p.name);
        names.filter(|n| problems.unbuilt || !schema::pending::prop(spec.name, n))
    };
    let help = if let Some(near) = did_you_mean(name, known()) {
        format!("did you mean `{near}=`?")
    } else if spec.args.iter().any(|a| a.name == *name) {
        format!("write it without a name: {}", spec.example)
    } else if schema::find(spec.children, name).is_some() {
        format!(
            "`{name}` is a line of its own in the block: {{ {name} {} }}",
            shown(value)
        )
    } else if spec.props.is_empty() {
        format!(
            "`{}` takes no properties; for example: {}",
            spec.name, spec.example
        )
    } else {
        format!("it takes {}", listed(known()))
    };
    problems.error(
        "unknown-key",
        key.span,
        format!("`{}` has no property `{name}`", spec.name),
        help,
    );
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|n| format!("`{n}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn unknown_key(node: &Node, block: Block, problems: &mut Problems) {
    let name = node.name.text.as_str();
    let span = node.name.span;
    if let Some(remedy) = schema::later(name) {
        return problems.error(
            "not-built-yet",
            span,
            format!("`{name}` is not built yet in this version"),
            remedy,
        );
    }
    let place = if block.name.is_empty() {
        "at the top level".to_owned()
    } else {
        format!("in `{}`", block.name)
    };
    let shown: String = name.chars().take(60).collect();
    problems.error(
        "unknown-key",
        span,
        format!("`{shown}` is not known {place}"),
        remedy(name, block, problems.unbuilt),
    );
}

fn remedy(name: &str, block: Block, unbuilt: bool) -> String {
    let known =
        || schema::names(block.groups).filter(|n| unbuilt || !schema::pending::key(block.name, n));
    if let Some(near) = did_you_mean(name, known()) {
        return format!("did you mean `{near}`?");
    }
    let homes = schema::homes(name);
    if !homes.is_empty() {
        let homes: Vec<String> = homes
            .iter()
            .map(|h| {
                if h.is_empty() {
                    "at the top level".to_owned()
                } else {
                    format!("in `{h}`")
                }
            })
            .collect();
        return format!("`{name}` belongs {}", homes.join(" or "));
    }
    if let Some(ours) = schema::foreign(name) {
        return format!("Narthex calls it `{ours}`");
    }
    format!("it takes {}", listed(known()))
}

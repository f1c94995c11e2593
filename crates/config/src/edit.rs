//! Changes of servers written into the files they stand in: only the lines concerned are touched, comments and layout stay.
//! Pure: texts in, texts out.

use std::collections::BTreeMap;
use std::path::Path;

use crate::lower::text::quoted;
use crate::source::{FileId, Loaded, Sources, Span};
use crate::syntax::tree::{Node, Scalar, Value};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// One more server, with its properties as they are written.
    Add {
        /// The upstream's name.
        upstream: String,
        /// The server's address.
        server: String,
        /// Its properties, in order.
        props: Vec<(&'static str, Prop)>,
    },
    /// One server less.
    Remove {
        /// The upstream's name.
        upstream: String,
        /// The server, as it is written.
        server: String,
    },
    /// Another value of a property.
    Set {
        /// The upstream's name.
        upstream: String,
        /// The server, as it is written.
        server: String,
        /// The property.
        prop: (&'static str, Prop),
    },
}

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prop {
    /// A number.
    Int(u32),
    /// A text.
    Text(String),
    /// `#true`.
    True,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edited {
    /// New texts of the files that are concerned.
    pub files: Vec<(FileId, String)>,
    /// By edit: why it cannot be written, if it cannot.
    pub left: Vec<Option<String>>,
}

/// A piece of text and what stands there afterwards.
#[derive(Debug)]
struct Splice {
    span: Span,
    text: String,
    /// It is a node of its own, and comes after what belongs to the node before.
    node: bool,
}

/// Makes every edit that can be made.
pub fn apply(loaded: &Loaded, edits: &[Edit]) -> Edited {
    let mut splices: Vec<Splice> = Vec::new();
    let mut left = Vec::with_capacity(edits.len());
    for edit in edits {
        match splice(loaded, edit, edits) {
            Ok(splice) => {
                splices.push(splice);
                left.push(None);
            }
            Err(why) => left.push(Some(why)),
        }
    }
    let mut by_file: BTreeMap<FileId, Vec<Splice>> = BTreeMap::new();
    for splice in splices {
        by_file.entry(splice.span.file).or_default().push(splice);
    }
    let files = by_file
        .into_iter()
        .map(|(file, splices)| (file, spliced(loaded.sources.text(file), splices)))
        .collect();
    Edited { files, left }
}

fn spliced(text: &str, mut splices: Vec<Splice>) -> String {
    // Stable: several new servers at one place stay in their order.
    splices.sort_by_key(|splice| (splice.span.start, splice.node));
    let mut out = String::with_capacity(text.len() + 64 * splices.len());
    let mut done = 0;
    for Splice {
        span, text: new, ..
    } in splices
    {
        let start = (span.start as usize).max(done);
        out.push_str(text.get(done..start).unwrap_or_default());
        out.push_str(&new);
        done = (span.end as usize).max(start);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

fn splice(loaded: &Loaded, edit: &Edit, all: &[Edit]) -> Result<Splice, String> {
    let sources = &loaded.sources;
    match edit {
        Edit::Add {
            upstream,
            server,
            props,
        } => {
            let goes = |node: &Node| {
                all.iter().any(|other| {
                    matches!(other, Edit::Remove { upstream: of, server }
                        if of == upstream && is(node.args.first(), server))
                })
            };
            add(sources, block(loaded, upstream)?, goes, server, props)
        }
        Edit::Remove { upstream, server } => {
            let node = written(sources, block(loaded, upstream)?, server)?;
            Ok(remove(sources, node))
        }
        Edit::Set {
            upstream,
            server,
            prop: (name, prop),
        } => {
            let node = written(sources, block(loaded, upstream)?, server)?;
            Ok(set(node, name, prop))
        }
    }
}

/// What stands in the block of an upstream.
fn block<'a>(loaded: &'a Loaded, upstream: &str) -> Result<&'a [Node], String> {
    let mut all = loaded.document.nodes.iter();
    let found = all.find(|node| node.name.text == "upstream" && is(node.args.first(), upstream));
    found
        .and_then(|node| node.children.as_deref())
        .ok_or_else(|| {
            format!(
                "no file has a block for it; write `upstream {} {{ ... }}` and use it by that name",
                quoted(upstream)
            )
        })
}

fn written<'a>(sources: &Sources, block: &'a [Node], server: &str) -> Result<&'a Node, String> {
    let mut servers = block.iter().filter(|node| node.name.text == "server");
    let node = servers
        .find(|node| is(node.args.first(), server))
        .ok_or("no file has this server: it was found, or is one address of a name")?;
    in_kdl(sources, node)
}

/// Only KDL is rewritten: a program that writes JSON writes it again.
fn in_kdl<'a>(sources: &Sources, node: &'a Node) -> Result<&'a Node, String> {
    let name = sources.name(node.span.file);
    let json = Path::new(name).extension().is_some_and(|e| e == "json");
    if json {
        return Err(format!("{name} is JSON: change it where it is made"));
    }
    Ok(node)
}

fn is(value: Option<&Value>, text: &str) -> bool {
    matches!(value, Some(Value { scalar: Scalar::String(s), .. }) if s == text)
}

fn add(
    sources: &Sources,
    block: &[Node],
    goes: impl Fn(&Node) -> bool,
    server: &str,
    props: &[(&str, Prop)],
) -> Result<Splice, String> {
    let mut servers = block.iter().filter(|node| node.name.text == "server");
    if servers.any(|node| is(node.args.first(), server)) {
        return Err("the file has this server already; reload it".to_owned());
    }
    let a_server = |node: &&Node| node.name.text == "server";
    let stays = |node: &&Node| a_server(node) && !goes(node);
    let after = block.iter().rfind(stays);
    let after = after
        .or_else(|| block.iter().rfind(a_server))
        .or(block.last());
    let after = in_kdl(sources, after.ok_or("its block is empty")?)?;
    let mut line = format!("server {}", quoted(server));
    for (name, prop) in props {
        line.extend([" ", name, "=", &prop.text()]);
    }
    let text = sources.text(after.span.file);
    let end = node_end(text, after);
    let place = |at: usize, text: String| Splice {
        span: Span::new(after.span.file, at, at),
        text,
        node: true,
    };
    Ok(match own_line(text, after.span.start as usize, end) {
        Some((start, stop)) => {
            let indent = text
                .get(start..after.span.start as usize)
                .unwrap_or_default();
            let before = if text.get(..stop).is_some_and(|t| t.ends_with('\n')) {
                ""
            } else {
                "\n"
            };
            place(stop, format!("{before}{indent}{line}\n"))
        }
        // It takes the place of one that goes.
        None if goes(after) => place(after.span.start as usize, format!("{line}; ")),
        None => place(end, format!("; {line}")),
    })
}

fn remove(sources: &Sources, node: &Node) -> Splice {
    let text = sources.text(node.span.file);
    let start = node.span.start as usize;
    let end = node_end(text, node);
    let (start, stop) = own_line(text, start, end).unwrap_or_else(|| {
        let end = blank(text, end);
        let rest = text.get(end..).unwrap_or_default();
        match rest.strip_prefix(';') {
            Some(rest) => (
                start,
                end + 1 + rest.len() - rest.trim_start_matches([' ', '\t']).len(),
            ),
            None => (start, end),
        }
    });
    Splice {
        span: Span::new(node.span.file, start, stop),
        text: String::new(),
        node: false,
    }
}

fn set(node: &Node, name: &str, prop: &Prop) -> Splice {
    match node.props.iter().find(|(key, _)| key.text == name) {
        Some((_, value)) => Splice {
            span: value.span,
            text: prop.text(),
            node: false,
        },
        None => Splice {
            span: Span {
                start: node.span.end,
                ..node.span
            },
            text: format!(" {name}={}", prop.text()),
            node: false,
        },
    }
}

/// Where a node ends; a server has no block, other nodes may.
fn node_end(text: &str, node: &Node) -> usize {
    let end = node.span.end as usize;
    let Some(children) = &node.children else {
        return end;
    };
    let inside = children
        .iter()
        .map(|child| node_end(text, child))
        .max()
        .unwrap_or(end);
    // What is between is white space, comments and `;`; a `}` in a comment there is the one thing this does not see.
    let close = text.get(inside..).and_then(|rest| rest.find('}'));
    close.map_or(inside, |at| inside + at + 1)
}

/// Where space and comments in `/* */` behind a node end, within its line.
fn blank(text: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let spaces = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        at += spaces;
        let comment = rest.get(spaces..).and_then(|rest| rest.strip_prefix("/*"));
        match comment.and_then(|comment| comment.split_once("*/")) {
            Some((inside, _)) if !inside.contains("/*") => at += inside.len() + 4,
            _ => return at,
        }
    }
}

/// The lines of `start..end`, if nothing but space and a comment shares them: where they begin, and where the next begins.
fn own_line(text: &str, start: usize, end: usize) -> Option<(usize, usize)> {
    let first = text.get(..start)?.rfind('\n').map_or(0, |at| at + 1);
    let end = blank(text, end);
    let rest = text.get(end..)?;
    let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
    let after = rest.get(..length)?.trim_start_matches(';').trim();
    let alone = text.get(first..start)?.trim().is_empty();
    (alone && (after.is_empty() || after.starts_with("//"))).then_some((first, end + length))
}

impl Prop {
    fn text(&self) -> String {
        match self {
            Self::Int(number) => number.to_string(),
            Self::Text(text) => quoted(text),
            Self::True => "#true".to_owned(),
        }
    }
}

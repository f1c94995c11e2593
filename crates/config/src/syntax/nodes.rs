//! Nodes and blocks.

use std::collections::HashMap;

use super::lexer::Kind;
use super::parser::{Opener, Parser};
use super::tree::{Node, Text, Value};
use super::values::Entry;
use crate::source::Span;

/// Blocks within blocks.
pub const MAX_DEPTH: usize = 64;

/// The code of the problem that a block is deeper.
pub const TOO_DEEP: &str = "too-deep";

/// From this many properties on, repeated keys are found by a table instead of by looking at all.
const MANY_PROPS: usize = 16;

impl Parser<'_, '_> {
    /// Nodes up to the end of the block (or of the file). `depth` is the number of blocks around them.
    pub(super) fn nodes(&mut self, depth: usize, opener: Option<Opener>) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        // Whether a `{` on the next line can be meant for the last node.
        let mut last_is_open = false;
        loop {
            self.line_space();
            match self.token.kind {
                Kind::End => {
                    self.unclosed_block(opener);
                    return nodes;
                }
                Kind::Close => {
                    if let Some(opener) = opener {
                        self.close_block(opener);
                        nodes.shrink_to_fit();
                        return nodes;
                    }
                    self.stray_close();
                }
                Kind::Open => {
                    let children =
                        self.misplaced_block(depth, nodes.last().filter(|_| last_is_open));
                    if let Some(last) = nodes.last_mut().filter(|_| last_is_open) {
                        last.children = Some(children);
                    }
                    last_is_open = false;
                }
                Kind::Semicolon => {
                    let span = self.token_span();
                    self.error("stray-character", span, "this `;` ends nothing")
                        .help("remove it");
                    self.bump();
                }
                Kind::Slashdash => {
                    self.commented_node(depth);
                    last_is_open = false;
                }
                _ => {
                    if let Some(node) = self.node(depth) {
                        last_is_open = node.children.is_none();
                        nodes.push(node);
                    }
                }
            }
        }
    }

    /// `/-` before a node.
    fn commented_node(&mut self, depth: usize) {
        let slashdash = self.token_span();
        self.bump();
        self.line_space();
        match self.token.kind {
            Kind::End | Kind::Close | Kind::Semicolon | Kind::Slashdash => {
                self.nothing_commented(slashdash);
            }
            _ => {
                self.node(depth);
            }
        }
    }

    fn nothing_commented(&mut self, slashdash: Span) {
        self.error("stray-character", slashdash, "`/-` has nothing to comment out")
            .help("put it directly before a node, an argument, a property or a block; a comment begins with `//`");
    }

    /// `name entries { children }` and what ends it. `None` when it has no usable name; the rest has been read all the same.
    fn node(&mut self, depth: usize) -> Option<Node> {
        self.type_annotation();
        let name = self.name();
        let mut building = Building {
            end: name
                .as_ref()
                .map_or(self.token.start, |name| name.span.end as usize),
            ..Building::default()
        };
        loop {
            let spaced = self.node_space();
            match self.token.kind {
                Kind::Newline | Kind::Semicolon => {
                    self.bump();
                    break;
                }
                Kind::LineComment | Kind::Close | Kind::End => break,
                Kind::Open => {
                    if building.children.is_some() {
                        let span = self.token_span();
                        self.error("second-block", span, "this node already has a block")
                            .help("a node has one block: put a line break and a name before the second");
                        self.block(depth);
                        continue;
                    }
                    building.children = Some(self.block(depth));
                }
                Kind::Slashdash => self.commented_part(depth, spaced, &mut building),
                _ if building.children.is_some() => {
                    let span = self.token_span();
                    self.error("after-block", span, "a node ends with its block")
                        .help("begin the next node on a new line; arguments and properties stand before `{`");
                    break;
                }
                _ => self.part(spaced, name.as_ref(), &mut building),
            }
        }
        let name = name?;
        let span = Span {
            end: (building.end as u32).max(name.span.end),
            ..name.span
        };
        Some(Node {
            name,
            args: building.args,
            props: building.props,
            children: building.children,
            span,
        })
    }

    /// One argument or property.
    fn part(&mut self, spaced: bool, name: Option<&Text>, building: &mut Building) {
        if building.block_commented {
            let span = self.token_span();
            self.error(
                "after-block",
                span,
                "arguments and properties stand before the block",
            )
            .help("move the block, commented out or not, to the end of the node");
            building.block_commented = false;
        }
        match self.entry(spaced, name.filter(|_| building.is_bare())) {
            Entry::None => {}
            Entry::Argument(value) => {
                building.end = value.span.end as usize;
                // Most nodes have one argument: room for that, not for four.
                if building.args.is_empty() {
                    building.args.reserve_exact(1);
                }
                building.args.push(value);
            }
            Entry::Property(key, value) => {
                building.end = value.span.end as usize;
                match building.find(&key.text) {
                    Some(first) => self.repeated(&key, first),
                    None => building.add(key, value),
                }
            }
        }
    }

    fn repeated(&mut self, key: &Text, first: Span) {
        self.error(
            "repeated-property",
            key.span,
            format!("`{}` is set twice", Self::quote(&key.text)),
        )
        .help("keep one of them")
        .related(first, "first set here");
    }

    /// `/-` before an argument, a property or a block.
    fn commented_part(&mut self, depth: usize, spaced: bool, building: &mut Building) {
        let slashdash = self.token_span();
        self.bump();
        self.line_space();
        match self.token.kind {
            Kind::Open => {
                self.block(depth);
                building.block_commented = true;
            }
            Kind::End | Kind::Close | Kind::Semicolon | Kind::Slashdash => {
                self.nothing_commented(slashdash);
            }
            _ if building.children.is_some() => {
                let span = self.token_span();
                self.error("after-block", span, "a node ends with its block")
                    .help("to comment out the next node, put `/-` on its line");
                self.resynchronise();
            }
            _ => {
                if !spaced {
                    self.missing_space(slashdash);
                }
                self.entry(true, None);
            }
        }
    }

    /// `{ nodes }`; the current token is the `{`.
    fn block(&mut self, depth: usize) -> Vec<Node> {
        let opener = Opener {
            span: self.token_span(),
            line_start: self.line_start,
        };
        self.bump();
        if depth < MAX_DEPTH {
            return self.nodes(depth + 1, Some(opener));
        }
        self.error(
            TOO_DEEP,
            opener.span,
            format!("blocks are nested more than {MAX_DEPTH} deep"),
        )
        .help("this is a limit of the language; move inner parts out");
        self.skip_block(opener);
        Vec::new()
    }

    /// To behind the `}` that closes the block, whatever it contains.
    fn skip_block(&mut self, opener: Opener) {
        let mut open = 1_usize;
        while open > 0 {
            match self.token.kind {
                Kind::Open => open += 1,
                Kind::Close => open -= 1,
                Kind::End => return self.unclosed_block(Some(opener)),
                _ => {}
            }
            self.bump();
        }
    }

    fn close_block(&mut self, opener: Opener) {
        let before = self.slice(self.line_start, self.token.start);
        let first_on_line = before.trim().is_empty() && self.line_start != opener.line_start;
        if first_on_line && self.suspect.is_none() && before != self.indent(opener.line_start) {
            self.suspect = Some((opener.span, self.token_span()));
        }
        self.bump();
    }

    fn indent(&self, line_start: usize) -> &str {
        let line = self.text.get(line_start..).unwrap_or_default();
        let end = line
            .find(|character: char| character != ' ' && character != '\t')
            .unwrap_or(line.len());
        line.get(..end).unwrap_or_default()
    }

    fn unclosed_block(&mut self, opener: Option<Opener>) {
        let Some(opener) = opener.filter(|_| !self.swallowed) else {
            return;
        };
        self.swallowed = true;
        match self.suspect {
            Some((open, close)) => {
                self.error("unclosed-block", open, "this block is not closed")
                    .help("add the missing `}`")
                    .related(
                        close,
                        "this `}` closes it, but is indented as if it closed another block",
                    );
            }
            None => {
                self.error("unclosed-block", opener.span, "this block is not closed")
                    .help("add `}` where it ends");
            }
        }
    }

    fn stray_close(&mut self) {
        let span = self.token_span();
        let suspect = self.suspect;
        let report = self
            .error("stray-close", span, "this `}` closes nothing")
            .help("remove it, or add the missing `{`");
        if let Some((_, close)) = suspect {
            report.related(
                close,
                "this `}` is indented unlike its block: perhaps it is the one too many",
            );
        }
        self.bump();
    }

    /// A `{` that begins a line.
    fn misplaced_block(&mut self, depth: usize, owner: Option<&Node>) -> Vec<Node> {
        let span = self.token_span();
        match owner {
            Some(owner) => {
                let name = Self::quote(&owner.name.text);
                self.error(
                    "misplaced-block",
                    span,
                    "a block begins on the line of its node",
                )
                .help(format!("move `{{` to the end of the line of `{name}`"))
                .related(owner.span, "the node above");
            }
            None => {
                self.error(
                    "misplaced-block",
                    span,
                    "a block needs a name before its `{`",
                )
                .help("write `name {`");
            }
        }
        self.block(depth)
    }
}

/// A node while its parts are read.
#[derive(Default)]
struct Building {
    args: Vec<Value>,
    props: Vec<(Text, Value)>,
    children: Option<Vec<Node>>,
    /// Keys seen, once there are many.
    keys: HashMap<String, Span>,
    /// A block has been commented out.
    block_commented: bool,
    /// Where the last part ends.
    end: usize,
}

impl Building {
    fn is_bare(&self) -> bool {
        self.args.is_empty() && self.props.is_empty()
    }

    /// Where the key was set before.
    fn find(&self, key: &str) -> Option<Span> {
        if self.props.len() < MANY_PROPS {
            return self
                .props
                .iter()
                .find(|(seen, _)| seen.text == key)
                .map(|(seen, _)| seen.span);
        }
        self.keys.get(key).copied()
    }

    fn add(&mut self, key: Text, value: Value) {
        if self.props.is_empty() {
            self.props.reserve_exact(1);
        }
        self.props.push((key, value));
        if self.props.len() == MANY_PROPS {
            self.keys = self
                .props
                .iter()
                .map(|(key, _)| (key.text.clone(), key.span))
                .collect();
        } else if let Some((key, _)) = self.props.last().filter(|_| self.props.len() > MANY_PROPS) {
            self.keys.insert(key.text.clone(), key.span);
        }
    }
}

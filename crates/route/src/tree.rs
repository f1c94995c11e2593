//! All path patterns of all sites but regular expressions, as one tree of segments, so that ten thousand routes cost a
//! request a few steps per segment of its path.
//!
//! Every site has a root node. A pattern hangs at the node where its segments end: under `exact` if the path must end
//! there too, under `prefix` if anything may follow. A literal child is found through one table for all nodes; a node
//! has at most one capture child. The search visits each node at most once and keeps the lowest route so far, so that the
//! written order decides, not the shape of the tree.

use crate::pattern::{Pattern, Piece};
use crate::table::Table;

/// No node, no route.
pub(crate) const NONE: u32 = u32::MAX;

/// All nodes of all sites.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// Parent node and segment to child node.
    children: Table,
}

#[derive(Debug)]
struct Node {
    /// Lowest route here or below: no need to look if a lower one has been found.
    lowest: u32,
    /// Child for any segment that isn't empty.
    capture: u32,
    /// Has it literal children?
    literals: bool,
    /// Routes for which the path ends here, ascending.
    exact: List,
    /// Routes for which anything may follow, ascending.
    prefix: List,
}

/// Routes in ascending order, the first of them in place: most nodes have one or none.
#[derive(Debug)]
struct List {
    first: u32,
    more: Vec<u32>,
}

impl Default for List {
    fn default() -> Self {
        Self {
            first: NONE,
            more: Vec::new(),
        }
    }
}

impl List {
    fn push(&mut self, route: u32) {
        if self.first == NONE {
            self.first = route;
        } else {
            self.more.push(route);
        }
    }

    /// The first route below `best` that holds; else `best`.
    fn first(&self, best: u32, holds: &impl Fn(u32) -> bool) -> u32 {
        if self.first >= best {
            return best;
        }
        let more = self.more.iter().copied().take_while(|route| *route < best);
        std::iter::once(self.first)
            .chain(more)
            .find(|route| holds(*route))
            .unwrap_or(best)
    }
}

impl Tree {
    /// A new root.
    pub(crate) fn root(&mut self) -> u32 {
        let id = self.nodes.len() as u32;
        self.nodes.push(Node {
            lowest: NONE,
            capture: NONE,
            literals: false,
            exact: List::default(),
            prefix: List::default(),
        });
        id
    }

    /// Hangs `route` into the tree at `root`. `false`: the pattern isn't made of segments. Routes come in ascending order.
    pub(crate) fn add(&mut self, root: u32, route: u32, pattern: &Pattern) -> bool {
        match pattern {
            Pattern::Exact(path) => {
                let end = path
                    .split('/')
                    .skip(1)
                    .fold(root, |node, segment| self.literal(node, segment, route));
                self.hang(end, route, false);
            }
            Pattern::Prefix(path) => {
                let end = path
                    .split('/')
                    .skip(1)
                    .fold(root, |node, segment| self.literal(node, segment, route));
                self.hang(end, route, true);
            }
            Pattern::Segments(pieces) => {
                let (mut node, mut open) = (root, false);
                for piece in pieces {
                    match piece {
                        Piece::Literal(text) => node = self.literal(node, text, route),
                        Piece::Capture(_) => node = self.capture(node, route),
                        Piece::Rest(_) => open = true,
                    }
                }
                self.hang(node, route, open);
            }
            Pattern::All | Pattern::Regex(..) => return false,
        }
        true
    }

    fn literal(&mut self, parent: u32, segment: &str, route: u32) -> u32 {
        let known = self.children.get(parent, segment.as_bytes());
        let child = known.unwrap_or_else(|| {
            let child = self.root();
            self.children.insert(parent, segment.as_bytes(), child);
            child
        });
        self.pass(parent, route, |node| node.literals = true);
        child
    }

    fn capture(&mut self, parent: u32, route: u32) -> u32 {
        let known = self
            .nodes
            .get(parent as usize)
            .map_or(NONE, |node| node.capture);
        let child = if known == NONE { self.root() } else { known };
        self.pass(parent, route, |node| node.capture = child);
        child
    }

    fn hang(&mut self, at: u32, route: u32, open: bool) {
        self.pass(at, route, |node| {
            if open {
                node.prefix.push(route);
            } else {
                node.exact.push(route);
            }
        });
    }

    /// Every node on a route's way knows the lowest route behind it.
    fn pass(&mut self, at: u32, route: u32, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.lowest = node.lowest.min(route);
            change(node);
        }
    }

    /// The lowest route below `best` in the tree at `root` whose pattern matches `path` and which `holds`; else `best`.
    pub(crate) fn find(
        &self,
        root: u32,
        path: &str,
        best: u32,
        holds: &impl Fn(u32) -> bool,
    ) -> u32 {
        match path.as_bytes() {
            [b'/', rest @ ..] => self.walk(root, Some(rest), best, holds),
            _ => best,
        }
    }

    /// `rest` is what follows the slash after the segments so far; `None` if the path has ended. The recursion goes one
    /// deeper per capture in a pattern, which [`crate::pattern::MAX_SEGMENTS`] bounds.
    fn walk(
        &self,
        mut at: u32,
        mut rest: Option<&[u8]>,
        mut best: u32,
        holds: &impl Fn(u32) -> bool,
    ) -> u32 {
        while let Some(node) = self.nodes.get(at as usize) {
            if node.lowest >= best {
                break;
            }
            best = node.prefix.first(best, holds);
            let Some(text) = rest else {
                return node.exact.first(best, holds);
            };
            let (segment, after) = split(text);
            if node.capture != NONE && !segment.is_empty() {
                best = self.walk(node.capture, after, best, holds);
            }
            if !node.literals {
                break;
            }
            let Some(child) = self.children.get(at, segment) else {
                break;
            };
            (at, rest) = (child, after);
        }
        best
    }
}

/// The first segment, and what follows its slash.
fn split(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|b| *b == b'/') {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    }
}

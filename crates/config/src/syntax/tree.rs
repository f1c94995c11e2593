//! The document as parsed: nodes, arguments, properties, each with its span. KDL 2's data model.

use crate::source::Span;

/// A parsed document: the nodes of every included file, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// Top-level nodes.
    pub nodes: Vec<Node>,
}

/// `(type)name arg prop=value { children }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: Text,
    /// Arguments in order.
    pub args: Vec<Value>,
    /// Properties in written order. A repeated key has already been reported.
    pub props: Vec<(Text, Value)>,
    /// Children; `None` without a block.
    pub children: Option<Vec<Node>>,
    /// From the name to the end of the arguments (not the block).
    pub span: Span,
}

/// A piece of text with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// Unescaped.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// What.
    pub scalar: Scalar,
    /// Where.
    pub span: Span,
}

/// A scalar.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// Quoted, raw, multi-line or identifier string.
    String(String),
    /// Fits `i128`; else it is a problem.
    Integer(i128),
    /// Anything with a point or exponent.
    Float(f64),
    /// `#true`, `#false`.
    Bool(bool),
    /// `#null`.
    Null,
}

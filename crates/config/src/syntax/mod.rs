//! KDL 2, strict, recovering.
pub mod tree;

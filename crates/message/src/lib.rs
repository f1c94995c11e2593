//! message

pub mod authority;
pub mod cookie;
pub mod path;
pub mod query;

//! One message form for every protocol version: a head is its bytes, an index over them and a list of edits. Pure: no I/O,
//! no clock. What may be on the wire is decided here and nowhere else.

pub mod authority;
pub mod base64;
pub mod cookie;
pub mod edit;
pub mod field;
pub mod head;
pub mod path;
pub mod query;
pub mod reject;
pub mod validate;

pub use edit::Edits;
pub use field::{FieldId, FieldSet};
pub use head::{Field, Head, Index, Span, Version};
pub use reject::Reject;
pub use validate::{BadResponse, Body, Form, Malformed, Method, RequestFacts, ResponseFacts};

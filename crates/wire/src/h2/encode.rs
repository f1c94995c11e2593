//! Writers of header blocks: from the model, as `h1/encode.rs` does. Stateless: the static table and literals that nobody has to
//! remember, so a block can be written wherever and whenever there is room.

use crate::h1::encode::Keep;
use narthex_message::{Edits, Head};

/// Pseudo-fields of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `:method`; `CONNECT` if there is a protocol.
    pub method: &'a [u8],
    /// `:scheme`.
    pub scheme: &'a [u8],
    /// `:authority`.
    pub authority: &'a [u8],
    /// `:path`.
    pub path: &'a [u8],
    /// `:protocol`, of an extended CONNECT.
    pub protocol: Option<&'a [u8]>,
}

/// The pseudo-fields of a request. Always first.
pub fn request(request: &Request<'_>, out: &mut Vec<u8>) {
    let _ = (request, out);
    unimplemented!()
}

/// `:status`. Always first.
pub fn status(status: u16, out: &mut Vec<u8>) {
    let _ = (status, out);
    unimplemented!()
}

/// One field. The name may be in any case; name and value are known to be clean.
pub fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    let _ = (name, value, out);
    unimplemented!()
}

/// `content-length`.
pub fn content_length(n: u64, out: &mut Vec<u8>) {
    let _ = (n, out);
    unimplemented!()
}

/// The kept fields of `head`, then those that `edits` adds.
pub fn fields(head: Head<'_>, keep: Keep, edits: &Edits, out: &mut Vec<u8>) {
    let _ = (head, keep, edits, out);
    unimplemented!()
}

/// Whole lines, `name: value CRLF` each, as writers of HTTP/1 make them: as fields. What is no such line is left out.
pub fn lines(lines: &[u8], out: &mut Vec<u8>) {
    let _ = (lines, out);
    unimplemented!()
}

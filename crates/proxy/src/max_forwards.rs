//! `Max-Forwards` of an `OPTIONS` (RFC 9110 7.6.2): every hop counts it down, the one that reads 0 answers itself. `TRACE`,
//! the other method that has it, is never forwarded.

use narthex_message::{Edits, Head, validate};
use narthex_wire::h1::encode;

const NAME: &str = "Max-Forwards";

/// Counts down. True: it is used up, and the request must not be forwarded.
///
/// Of several lines the smallest counts. What is no number is no limit, and passed on as it came.
pub(crate) fn is_used_up(head: Head<'_>, edits: &mut Edits) -> bool {
    let left = head
        .index
        .fields
        .iter()
        .filter(|f| f.name.of(head.bytes).eq_ignore_ascii_case(NAME.as_bytes()))
        .filter_map(|f| validate::decimal(f.value.of(head.bytes)))
        .min();
    match left {
        None => false,
        Some(0) => true,
        Some(n) => {
            let mut digits = Vec::new();
            encode::decimal(n - 1, &mut digits);
            edits.set(NAME, &digits);
            false
        }
    }
}

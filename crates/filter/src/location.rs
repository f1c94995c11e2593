//! Targets of redirects.

use narthex_config::model::Template;

use crate::template::render;
use crate::values::Values;

/// Appends the `Location` that `template` makes. False if there is none; then nothing is appended.
pub fn location(template: &Template, values: &Values<'_>, out: &mut Vec<u8>) -> bool {
    render(template, values, out);
    true
}

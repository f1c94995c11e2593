//! `$1` and `${name}` in the replacement of a regular expression, parsed once.

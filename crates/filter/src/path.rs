//! Path filters: strip, add, rewrite by template, rewrite by regular expression.

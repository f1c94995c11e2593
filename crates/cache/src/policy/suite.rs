//! The tests of `http-cache-tests`, as far as they are about decisions.

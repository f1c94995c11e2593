//! Tests only: the kit that attacks Narthex from outside, and the tests that use it (`tests/*.rs`).
//!
//! The kit knows nothing of Narthex's own code: it starts the binary, speaks raw bytes on both sides of it and compares
//! what came out with [`kit::model`], a reference parser written from the RFCs alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken kit must fail the test at once"
)]

pub mod kit;

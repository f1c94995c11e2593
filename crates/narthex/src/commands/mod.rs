//! One file per command (or family of them).

mod asking;
pub mod cache;
pub mod certs;
pub mod check;
pub mod config;
pub mod control;
pub mod demo;
pub mod diff;
pub mod explain;
pub mod meta;
pub mod proxy;
pub mod run;
mod servers;
pub mod upstream;
mod write_back;

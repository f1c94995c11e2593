//! The engine owns the process: start, reload, listeners, drain, and everything that runs in the background.
//!
//! [`Engine::start`] opens the sockets, drops privileges and starts the cores; [`Engine::run`] is the one task that
//! applies [`Command`]s, in the order they came, until the process stops. Everybody else holds a [`Handle`].

mod accepting;
pub mod admin_socket;
pub mod audit;
pub mod cache;
mod certificates;
pub mod change;
pub mod changes;
pub mod command;
mod control;
mod drain;
pub mod drift;
mod engine;
pub mod explain;
pub mod handle;
mod limits;
mod listeners;
pub mod notify;
pub mod obtain;
mod pid_file;
mod plane;
pub mod privileges;
mod reload;
mod shed;
pub mod signals;
pub mod source;
pub mod start;
pub mod supervise;
pub mod upgrade;
mod workers;

pub use command::Command;
pub use engine::{Engine, Exit};
pub use handle::Handle;
pub use source::Source;
pub use start::{Options, StartError};

//! The admin API: what an operator, a monitoring system or the command line asks the running process, over unix sockets
//! and loopback addresses. Knows the engine; nothing but the binary knows it.
//!
//! | | |
//! |---|---|
//! | `GET /metrics` | Prometheus text |
//! | `GET /status` | how the process is; JSON, or text for `Accept: text/plain` |
//! | `GET /upstreams` | servers and their health, JSON |
//! | `GET /health/live`, `GET /health/ready` | 200, or 503 with the phase |
//! | `GET /config` | the effective configuration; KDL, or JSON for `Accept: application/json`. Secrets by reference |
//! | `POST /reload` | read the files again; 200 with what changed, 422 with every problem |
//! | `POST /reopen-logs` | open the access logs anew |
//! | `POST /stop` | stop gracefully |
//! | `POST /explain` | what would happen to a request |

mod api;
pub mod auth;
mod bounded;
mod page;
mod server;

pub use server::run;

//! The admin API: what an operator, a monitoring system or the command line asks the running process, over unix sockets
//! and loopback addresses. Knows the engine; nothing but the binary knows it.
//!
//! | | |
//! |---|---|
//! | `GET /metrics` | Prometheus text |
//! | `GET /status` | how the process is; JSON, or text for `Accept: text/plain` |
//! | `GET /upstreams`, `GET /upstreams/U` | servers, their state and live figures, JSON; the second with an `ETag` |
//! | `POST /upstreams/U/servers` | add a server: `{"address": "10.0.0.9:8080", "weight": 2}` |
//! | `PATCH /upstreams/U/servers/S` | `{"weight": 5}`, `{"state": "drain", "for": "10m"}`, `"down"`, `"ready"` |
//! | `DELETE /upstreams/U/servers/S` | remove a server: nobody new, requests under way to the end |
//! | `DELETE /upstreams/U/changes` | back to what is written and found |
//! | `GET /drift` | what differs from the files: changes by this API, edits that are not loaded |
//! | `GET /audit` | the last 1,000 changes: who, what, before, after, or why not |
//! | `GET /health/live`, `GET /health/ready` | 200, or 503 with the phase |
//! | `GET /config` | the effective configuration; KDL, or JSON for `Accept: application/json`. Secrets by reference |
//! | `POST /reload` | read the files again; 200 with what changed, 422 with every problem |
//! | `POST /upgrade` | let the installed program take over; 200 with its process number, 409 with why it was rolled back |
//! | `POST /reopen-logs` | open the access logs anew |
//! | `POST /stop` | stop gracefully |
//! | `POST /explain` | what would happen to a request |
//!
//! A change of an upstream needs `If-Match` with its `ETag` (428 without; `*` is whatever it is), and is refused with 412 if
//! the upstream has changed meanwhile. 404: no such upstream or server; 409: it would not do; 422: a value cannot be.

mod api;
pub mod auth;
mod bounded;
mod page;
mod peer;
mod server;

pub use server::run;

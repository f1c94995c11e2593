//! One list of servers that is kept elsewhere.

use std::rc::Rc;

use narthex_config::model::Discover;

use super::file;
use super::names::Names;
use super::sink::Sink;

/// Follows a list for as long as it is polled.
pub(super) async fn run(_names: Rc<Names>, list: Discover, sink: Sink) {
    match list {
        Discover::File { path } => file::run(path, sink).await,
        Discover::Docker { .. } | Discover::Consul { .. } | Discover::Etcd { .. } => {}
    }
}

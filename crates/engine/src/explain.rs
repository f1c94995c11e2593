//! Explaining a request, by the data path's own matcher: live, or for a configuration that nobody serves.

use std::sync::Arc;

use narthex_config::model::{Config, LogTarget};

use crate::command::{ExplainRequest, Explanation};
use crate::plane::{self, Runtime, Shared};

/// Explains a request for a configuration that is not served. Binds nothing, writes nothing.
pub fn offline(mut config: Config, request: &ExplainRequest) -> Result<Explanation, String> {
    for log in &mut config.access_logs {
        // Building opens the logs: not those of the proxy that runs.
        log.target = LogTarget::Stderr;
    }
    let shared = Shared::new(1);
    let runtime = Runtime::build(Arc::new(config), &shared).map_err(|error| error.to_string())?;
    plane::explain(&runtime, request)
}

//! The control core: what goes on beside the requests and needs sockets on a core, such as health checks.

use std::io;
use std::sync::Arc;

use narthex_net::rt::Core;

use crate::plane::{self, Shared};
use crate::supervise::{Policy, Supervisor};

/// Starts the control core under the number after the data cores'. A panic of a task costs that task; should the core
/// itself end, it is started again.
pub(crate) fn start(
    workers: usize,
    shared: &Arc<Shared>,
    supervisor: &Supervisor,
) -> io::Result<()> {
    let shared = Arc::clone(shared);
    supervisor.thread("narthex-control", Policy::Restart, move || {
        let core = Core::enter(workers as u16)?;
        plane::background(&shared);
        core.run()
    })?;
    Ok(())
}

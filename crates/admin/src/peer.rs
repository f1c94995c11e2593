//! Who is at the other end of an admin connection, as the system says.

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use narthex_engine::audit::Who;
use tokio::net::{TcpListener, UnixListener};

use crate::bounded::Bounded;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Peer(pub(crate) Who);

/// No user: the system did not say.
const NOBODY: u32 = u32::MAX;

impl Connected<IncomingStream<'_, Bounded<TcpListener>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded<TcpListener>>) -> Self {
        Self(Who::Tcp(*stream.remote_addr()))
    }
}

impl Connected<IncomingStream<'_, Bounded<UnixListener>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded<UnixListener>>) -> Self {
        let credentials = stream.io().get_ref().peer_cred();
        Self(credentials.map_or(
            Who::Unix {
                uid: NOBODY,
                pid: None,
            },
            |by| Who::Unix {
                uid: by.uid(),
                pid: by.pid(),
            },
        ))
    }
}

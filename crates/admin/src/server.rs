//! Serves the admin sockets that the engine has opened, as they come and go with reloads.

use std::collections::HashMap;
use std::sync::Arc;

use narthex_engine::Handle;
use narthex_engine::admin_socket::{AdminListener, AdminSocket};
use narthex_engine::supervise::Policy;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

use crate::api;
use crate::auth::Door;
use crate::bounded::Bounded;
use crate::peer::Peer;

/// Serves every admin socket until the engine has ended. One per process, on the control runtime.
pub async fn run(handle: Handle) {
    let mut wanted = handle.admin_sockets();
    let mut serving: HashMap<String, (Arc<AdminSocket>, JoinHandle<()>)> = HashMap::new();
    loop {
        let sockets = wanted.borrow_and_update().clone();
        let stays =
            |served: &Arc<AdminSocket>| sockets.iter().any(|socket| Arc::ptr_eq(socket, served));
        serving.retain(|_, (socket, task)| {
            let stays = stays(socket);
            if !stays {
                task.abort();
            }
            stays
        });
        for socket in &sockets {
            let name = format!("admin {}", socket.describe());
            serving
                .entry(name)
                .or_insert_with_key(|name| (Arc::clone(socket), supervised(&handle, name, socket)));
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = handle.closed() => return,
        }
    }
}

fn supervised(handle: &Handle, name: &str, socket: &Arc<AdminSocket>) -> JoinHandle<()> {
    let (for_tasks, socket) = (handle.clone(), Arc::clone(socket));
    handle.supervisor().task(name, Policy::Restart, move || {
        serve(for_tasks.clone(), Arc::clone(&socket))
    })
}

async fn serve(handle: Handle, socket: Arc<AdminSocket>) {
    let service =
        api::router(handle, door(&socket), &socket).into_make_service_with_connect_info::<Peer>();
    // A descriptor of our own: the socket itself stays with the engine, which keeps it over reloads.
    let result = match socket.listener() {
        AdminListener::Tcp(listener) => {
            match listener.try_clone().and_then(TcpListener::from_std) {
                Ok(listener) => axum::serve(Bounded::new(listener), service).await,
                Err(error) => Err(error),
            }
        }
        AdminListener::Unix(listener) => {
            match listener.try_clone().and_then(UnixListener::from_std) {
                Ok(listener) => axum::serve(Bounded::new(listener), service).await,
                Err(error) => Err(error),
            }
        }
    };
    if let Err(error) = result {
        tracing::error!(%error, address = socket.describe(), "the admin socket cannot be served");
    }
}

fn door(socket: &AdminSocket) -> Door {
    match socket.listener() {
        AdminListener::Unix(_) => Door::Unix,
        AdminListener::Tcp(listener) => Door::Tcp {
            loopback: listener
                .local_addr()
                .is_ok_and(|address| address.ip().to_canonical().is_loopback()),
            token: socket
                .config
                .token
                .as_ref()
                .map(|token| token.expose().to_owned()),
        },
    }
}

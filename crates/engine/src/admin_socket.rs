//! Admin sockets: bound by the engine with all the others (before privileges are dropped, before anything changes),
//! served by the admin room.

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use narthex_config::model::{Address, Admin, Identity, Listener};
use narthex_net::inherited::Inherited;
use narthex_net::listen::{self, Bound, ListenError};

/// Connections that may wait to be served; admin clients are few.
const BACKLOG: u32 = 64;

/// An admin socket with the rules for those who come through it.
#[derive(Debug)]
pub struct AdminSocket {
    /// As configured.
    pub config: Admin,
    socket: Arc<BoundSocket>,
}

/// The socket itself. Kept while any configuration has its address; a unix socket's file is removed with it.
#[derive(Debug)]
struct BoundSocket {
    listener: AdminListener,
    bound: Bound,
}

/// A bound socket.
#[derive(Debug)]
pub enum AdminListener {
    /// On a TCP address.
    Tcp(TcpListener),
    /// In the file system.
    Unix(UnixListener),
}

/// Why an admin socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminSocketError {
    /// It could not be bound.
    #[error("the admin socket: {0}")]
    Listen(#[from] ListenError),
    /// It was bound and gave no descriptor.
    #[error("the admin socket {0} could not be taken over; report this")]
    Missing(String),
}

impl AdminSocket {
    /// Opens it. The file belongs to `identity` afterwards, so that it still works when privileges are gone.
    pub fn bind(
        config: &Admin,
        identity: Option<&Identity>,
        inherited: &mut Inherited,
    ) -> Result<Self, AdminSocketError> {
        let name = describe(&config.address);
        let mut listener = Listener::new(&*name, config.address.clone());
        listener.mode = config.mode;
        listener.backlog = BACKLOG;
        let mut bound = listen::bind(&listener, 1, inherited)?;
        let fd: OwnedFd = bound
            .take_sockets()
            .pop()
            .ok_or(AdminSocketError::Missing(name))?;
        let listener = match bound.address() {
            Address::Tcp(_) => AdminListener::Tcp(fd.into()),
            Address::Unix(path) => {
                if let Some(identity) = identity {
                    crate::privileges::give(path, identity);
                }
                AdminListener::Unix(fd.into())
            }
            Address::Inherited(_) => AdminListener::Unix(fd.into()),
        };
        Ok(Self {
            config: config.clone(),
            socket: Arc::new(BoundSocket { listener, bound }),
        })
    }

    /// Is it ours to pass on? What the service manager opened is passed on by its name.
    pub(crate) fn is_ours(&self) -> bool {
        self.socket.bound.is_ours()
    }

    /// Leaves the file of a unix socket to a successor.
    pub(crate) fn keep_path(&self) {
        self.socket.bound.keep_path();
    }

    /// The process before us has left it to us.
    pub(crate) fn own(&self) {
        self.socket.bound.own();
    }

    /// The same socket under other rules (another token, another mode).
    fn with(&self, config: &Admin) -> Self {
        if let Address::Unix(path) = &config.address
            && config.mode != self.config.mode
        {
            let mode = std::fs::Permissions::from_mode(config.mode);
            if let Err(error) = std::fs::set_permissions(path, mode) {
                tracing::warn!(path = %path.display(), %error, "the mode of the admin socket could not be changed");
            }
        }
        Self {
            config: config.clone(),
            socket: Arc::clone(&self.socket),
        }
    }

    /// The socket, non-blocking.
    pub fn listener(&self) -> &AdminListener {
        &self.socket.listener
    }

    /// Where it is, as a client writes it after `--admin`.
    pub fn describe(&self) -> String {
        describe(self.socket.bound.address())
    }
}

impl AsFd for AdminSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket.listener {
            AdminListener::Tcp(listener) => listener.as_fd(),
            AdminListener::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Keeps the sockets that stay, opens the new ones; what is not returned is closed by dropping it.
pub(crate) fn reconcile(
    open: &[Arc<AdminSocket>],
    wanted: &[Admin],
    identity: Option<&Identity>,
    inherited: &mut Inherited,
) -> Result<Vec<Arc<AdminSocket>>, AdminSocketError> {
    wanted
        .iter()
        .map(|admin| {
            let same = open
                .iter()
                .find(|socket| socket.config.address == admin.address);
            match same {
                Some(socket) if socket.config == *admin => Ok(Arc::clone(socket)),
                Some(socket) => Ok(Arc::new(socket.with(admin))),
                None => AdminSocket::bind(admin, identity, inherited).map(Arc::new),
            }
        })
        .collect()
}

/// An address as a client writes it.
pub(crate) fn describe(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Inherited(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use narthex_config::model::Secret;

    use super::*;

    fn unix(path: &Path) -> Admin {
        Admin {
            address: Address::Unix(path.to_owned()),
            mode: 0o600,
            token: None,
        }
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let socket = AdminSocket::bind(&unix(&path), None, &mut Inherited::none()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_sockets_file_is_replaced_a_live_one_respected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _first = AdminSocket::bind(&unix(&path), None, &mut Inherited::none()).unwrap();
        let error = AdminSocket::bind(&unix(&path), None, &mut Inherited::none()).unwrap_err();
        assert!(error.to_string().contains("is in use"), "{error}");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = AdminSocket::bind(
            &unix(&dir.path().join("none/admin.sock")),
            None,
            &mut Inherited::none(),
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("/none does not exist"),
            "{error}"
        );
    }

    #[test]
    fn what_stays_is_the_very_same_socket() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (unix(&dir.path().join("a")), unix(&dir.path().join("b")));
        let first = reconcile(&[], std::slice::from_ref(&a), None, &mut Inherited::none()).unwrap();
        let second = reconcile(&first, &[b, a], None, &mut Inherited::none()).unwrap();
        assert!(Arc::ptr_eq(&first[0], &second[1]));
        let failed = reconcile(
            &second,
            &[unix(&dir.path().join("none/c"))],
            None,
            &mut Inherited::none(),
        );
        assert!(failed.is_err());
        assert!(dir.path().join("a").exists());
    }

    #[test]
    fn another_token_is_another_rule_for_the_same_socket() {
        let free = |token| Admin {
            address: Address::Tcp(([127, 0, 0, 1], 0).into()),
            mode: 0o600,
            token,
        };
        let first = reconcile(&[], &[free(None)], None, &mut Inherited::none()).unwrap();
        let token = Some(Secret::new("env:T", "t"));
        let second = reconcile(&first, &[free(token)], None, &mut Inherited::none()).unwrap();
        assert!(!Arc::ptr_eq(&first[0], &second[0]));
        assert_eq!(first[0].describe(), second[0].describe());
        assert!(second[0].config.token.is_some());
    }
}

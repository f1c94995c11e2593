//! The new process of an upgrade: what it got from the one before, and how it takes over.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use narthex_net::handover;
use narthex_net::inherited::Inherited;

use super::message::{Manifest, Message, Prepared, State, hear, say};
use super::{FROM, PATIENCE};

/// The process before us, which waits for us to be ready. Dropping it before that gives up; what was handed over is
/// closed and stays the old one's.
pub struct Predecessor {
    channel: OwnedFd,
    version: String,
    /// Addresses that were handed over.
    addresses: Vec<String>,
    cookie_key: Option<[u8; 16]>,
    ticket_keys: Vec<u8>,
}

impl Predecessor {
    /// Are we started by an upgrade? Then the sockets of the old process come along. To be called first of all: the way to
    /// the old process is our standard input, which becomes an empty one.
    pub fn from_env() -> io::Result<Option<(Arc<Self>, Inherited)>> {
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
        let from = std::env::var(FROM).ok();
        let stdin = rustix::stdio::stdin();
        if from.is_none() || from != parent || !handover::is_channel(stdin) {
            return Ok(None);
        }
        let channel = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        // A parcel of many sockets needs them all open at once.
        narthex_net::limits::raise_nofile();
        handover::set_patience(&channel, Some(PATIENCE))?;
        let (message, sockets) = hear(&channel)?;
        let Message::Manifest(manifest) = message else {
            return Err(unexpected(&message));
        };
        let addresses = manifest.sockets.iter().map(|s| s.address.clone()).collect();
        let version = manifest.version.clone();
        let cookie_key = manifest.cookie_key;
        let ticket_keys = manifest.ticket_keys.clone();
        let inherited = sort(manifest, sockets)?;
        let predecessor = Self {
            channel,
            version,
            addresses,
            cookie_key,
            ticket_keys,
        };
        Ok(Some((Arc::new(predecessor), inherited)))
    }

    /// Tells the old process why we cannot take over.
    pub fn refuse(&self, why: impl std::fmt::Display) {
        // If it does not hear, it will see that we have ended.
        let _ = say(&self.channel, &Message::Failed(why.to_string()), &[]);
    }

    /// What its cookies were made with.
    pub(crate) fn cookie_key(&self) -> Option<[u8; 16]> {
        self.cookie_key
    }

    /// What its session tickets were sealed with; a secret.
    pub(crate) fn ticket_keys(&self) -> &[u8] {
        &self.ticket_keys
    }

    /// Version of the program before us.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Addresses that were handed over and that our configuration does not have: `inherited` still has their sockets.
    pub(crate) fn unused(&self, inherited: &Inherited) -> Vec<String> {
        let unused = |address: &&String| inherited.has_bequest(address);
        self.addresses.iter().filter(unused).cloned().collect()
    }

    /// Says that we are prepared and takes the state over, and a channel for each process before us that still drains.
    pub(crate) fn take_state(&self, unused: Vec<String>) -> io::Result<(State, Vec<OwnedFd>)> {
        let prepared = Prepared {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            left: unused,
        };
        say(&self.channel, &Message::Prepared(prepared), &[])?;
        match hear(&self.channel)? {
            (Message::State(state), channels) => Ok((*state, channels)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Says that we are ready and waits to be let go; from then on we are the process.
    pub(crate) fn take_over(&self) -> io::Result<OwnedFd> {
        say(&self.channel, &Message::Ready, &[])?;
        match hear(&self.channel)? {
            (Message::Go, _) => self.channel.try_clone(),
            (other, _) => Err(unexpected(&other)),
        }
    }
}

/// Gives each address its sockets.
fn sort(manifest: Manifest, sockets: Vec<OwnedFd>) -> io::Result<Inherited> {
    let announced: usize = manifest.sockets.iter().map(|s| s.count).sum();
    if announced + manifest.inherited.len() != sockets.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the manifest and the sockets do not fit",
        ));
    }
    let mut sockets = sockets.into_iter();
    let mut own = Vec::with_capacity(manifest.sockets.len());
    for of in manifest.sockets {
        own.push((of.address, sockets.by_ref().take(of.count).collect()));
    }
    let mut inherited =
        Inherited::from_sockets(manifest.inherited.into_iter().zip(sockets).collect());
    for (address, sockets) in own {
        inherited.bequeath(address, sockets);
    }
    Ok(inherited)
}

fn unexpected(message: &Message) -> io::Error {
    let what = match message {
        Message::Failed(why) => format!("the other process has failed: {why}"),
        _ => "the other process says something else than expected".to_owned(),
    };
    io::Error::new(io::ErrorKind::InvalidData, what)
}

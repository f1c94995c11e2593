//! Session tickets: a ring of keys, and a sealer for each policy.
//!
//! A ticket is sealed under a key that is derived from a ring's key and the policy's hash, so that a session of one policy opens
//! nothing under another (TL-01). The ring is shared by the process, crosses binary upgrades, and can come from a secret that
//! several nodes share.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{self, HKDF_SHA256, Salt};
use rustls::server::ProducesTickets;

use super::problem::{Problem, ProblemKind};
use super::server::PolicyId;
use super::server::load::{self, Secrecy};

/// Keys of the ring: the present one and two more.
pub const KEYS: usize = 3;
/// A key seals for so long, in seconds, unless it is set otherwise; longer is refused (TL-06).
pub const ROTATION_S: u64 = 12 * 60 * 60;
/// Shortest secret that nodes share, in bytes.
const MIN_SECRET: usize = 32;
const NAME: usize = 16;
const SECRET: usize = 32;
const TAG: usize = 16;
/// Largest session that is sealed or opened: one with a client's certificate chain.
const MAX_TICKET: usize = 32 * 1024;
/// First byte of an exported ring.
const EXPORT_VERSION: u8 = 1;
const EXPORTED_KEY: usize = 8 + SECRET;

/// A ring's key. Forgotten with zeros.
#[derive(Clone)]
struct Key {
    secret: [u8; SECRET],
    /// Since when it seals, in seconds since 1970.
    from: u64,
}

impl Drop for Key {
    fn drop(&mut self) {
        forget(&mut self.secret);
    }
}

fn forget(secret: &mut [u8; SECRET]) {
    *secret = [0; SECRET];
    // The compiler may not think that nobody looks.
    std::hint::black_box(secret);
}

struct Ring {
    /// Changes with every change of the keys.
    version: u64,
    /// The sealing one first.
    keys: Vec<Key>,
}

/// The ring of ticket keys.
pub struct TicketKeys {
    ring: ArcSwap<Ring>,
    rotation_s: u64,
    /// What nodes share, if they do.
    shared: Option<hkdf::Prk>,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl TicketKeys {
    /// A ring of its own, with a random key. `now` is seconds since 1970; a rotation above [`ROTATION_S`] is shortened to it.
    pub fn random(now: u64, rotation_s: u64) -> Arc<Self> {
        let this = Self {
            ring: ArcSwap::from_pointee(Ring {
                version: 0,
                keys: Vec::new(),
            }),
            rotation_s: rotation_s.clamp(1, ROTATION_S),
            shared: None,
        };
        this.advance(now);
        Arc::new(this)
    }

    /// The ring of a secret that several nodes share: all that have the same secret and rotation have the same keys at the same
    /// time. Clocks may differ by one rotation.
    pub fn shared(secret: &[u8], now: u64, rotation_s: u64) -> Result<Arc<Self>, Problem> {
        Self::of_secret(secret, None, now, rotation_s)
    }

    /// As [`TicketKeys::shared`], from a file that only its owner may read.
    pub fn load(path: &Path, now: u64, rotation_s: u64) -> Result<Arc<Self>, Problem> {
        let secret = load::read(path, Secrecy::Private)?;
        Self::of_secret(&secret, Some(path), now, rotation_s)
    }

    fn of_secret(
        secret: &[u8],
        path: Option<&Path>,
        now: u64,
        rotation_s: u64,
    ) -> Result<Arc<Self>, Problem> {
        if secret.len() < MIN_SECRET {
            return Err(Problem::new(
                path,
                ProblemKind::Malformed,
                format!(
                    "the secret of the session tickets has {} bytes",
                    secret.len()
                ),
                "make one with: openssl rand -base64 48",
            ));
        }
        let salt = Salt::new(HKDF_SHA256, b"narthex session tickets");
        let this = Self {
            ring: ArcSwap::from_pointee(Ring {
                version: 0,
                keys: Vec::new(),
            }),
            rotation_s: rotation_s.clamp(1, ROTATION_S),
            shared: Some(salt.extract(secret)),
        };
        this.advance(now);
        Ok(Arc::new(this))
    }

    /// Turns the ring if it is time (`now` is seconds since 1970); says whether it did. Whoever owns the process calls it every
    /// minute or so.
    pub fn advance(&self, now: u64) -> bool {
        match &self.shared {
            Some(prk) => self.advance_shared(prk, now),
            None => self.advance_random(now),
        }
    }

    fn advance_random(&self, now: u64) -> bool {
        let ring = self.ring.load();
        // A clock that was set back must not keep a key for ever.
        let fresh = ring
            .keys
            .first()
            .is_some_and(|k| now.abs_diff(k.from) < self.rotation_s);
        if fresh {
            return false;
        }
        let mut secret = [0; SECRET];
        if aws_lc_rs::rand::fill(&mut secret).is_err() {
            tracing::error!("the system gives no random numbers: session tickets keep their key");
            return false;
        }
        let mut keys = vec![Key { secret, from: now }];
        keys.extend(ring.keys.iter().take(KEYS - 1).cloned());
        self.store(ring.version, keys);
        true
    }

    fn advance_shared(&self, prk: &hkdf::Prk, now: u64) -> bool {
        let epoch = now / self.rotation_s;
        let from = epoch * self.rotation_s;
        let ring = self.ring.load();
        if ring.keys.first().is_some_and(|k| k.from == from) {
            return false;
        }
        // The one before, and the one that a node with a fast clock has already.
        let epochs = [Some(epoch), epoch.checked_sub(1), epoch.checked_add(1)];
        let keys = epochs.into_iter().flatten().filter_map(|epoch| {
            let mut secret = [0; SECRET];
            let epoch_bytes = epoch.to_be_bytes();
            let rotation = self.rotation_s.to_be_bytes();
            let info: [&[u8]; 3] = [b"ring key", &epoch_bytes, &rotation];
            prk.expand(&info, HKDF_SHA256)
                .ok()?
                .fill(&mut secret)
                .ok()?;
            Some(Key {
                secret,
                from: epoch * self.rotation_s,
            })
        });
        self.store(ring.version, keys.collect());
        true
    }

    fn store(&self, version: u64, keys: Vec<Key>) {
        self.ring.store(Arc::new(Ring {
            version: version.wrapping_add(1),
            keys,
        }));
    }

    /// The keys, for the process that takes over. A secret: it goes over a private socket only. Empty if the keys come from a
    /// shared secret, which the other process reads itself.
    pub fn export(&self) -> Vec<u8> {
        if self.shared.is_some() {
            return Vec::new();
        }
        let ring = self.ring.load();
        let mut bytes = vec![EXPORT_VERSION];
        for key in &ring.keys {
            bytes.extend_from_slice(&key.from.to_be_bytes());
            bytes.extend_from_slice(&key.secret);
        }
        bytes
    }

    /// Takes the keys of the process before: its tickets open here, and ours open there. False if there is nothing to take, or
    /// it is not understood; then the own keys stay.
    pub fn import(&self, bytes: &[u8]) -> bool {
        if self.shared.is_some() {
            return false;
        }
        let Some((&EXPORT_VERSION, rest)) = bytes.split_first() else {
            return false;
        };
        let pieces = rest.chunks_exact(EXPORTED_KEY);
        if !pieces.remainder().is_empty() || pieces.len() == 0 || pieces.len() > KEYS {
            return false;
        }
        let keys: Option<Vec<Key>> = pieces
            .map(|piece| {
                let (from, secret) = piece.split_first_chunk::<8>()?;
                Some(Key {
                    from: u64::from_be_bytes(*from),
                    secret: secret.try_into().ok()?,
                })
            })
            .collect();
        let Some(keys) = keys else {
            return false;
        };
        self.store(self.ring.load().version, keys);
        true
    }
}

/// A key of the ring under one policy.
struct Derived {
    name: [u8; NAME],
    key: LessSafeKey,
}

struct DerivedRing {
    version: u64,
    keys: Vec<Derived>,
}

/// Seals and opens the tickets of one policy.
pub(crate) struct Ticketer {
    keys: Arc<TicketKeys>,
    policy: PolicyId,
    derived: ArcSwap<DerivedRing>,
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticketer({})", self.policy)
    }
}

impl Ticketer {
    pub(crate) fn new(keys: Arc<TicketKeys>, policy: PolicyId) -> Self {
        let derived = derive(&keys.ring.load(), policy);
        Self {
            keys,
            policy,
            derived: ArcSwap::from_pointee(derived),
        }
    }

    /// The ring's keys under this policy, derived anew when the ring has turned.
    fn derived(&self) -> Arc<DerivedRing> {
        let ring = self.keys.ring.load();
        let derived = self.derived.load_full();
        if derived.version == ring.version {
            return derived;
        }
        let derived = Arc::new(derive(&ring, self.policy));
        self.derived.store(Arc::clone(&derived));
        derived
    }
}

fn derive(ring: &Ring, policy: PolicyId) -> DerivedRing {
    let keys = ring.keys.iter().filter_map(|key| {
        let prk = Salt::new(HKDF_SHA256, policy.as_bytes()).extract(&key.secret);
        let mut name = [0; NAME];
        prk.expand(&[b"ticket name"], HKDF_SHA256)
            .ok()
            .and_then(|okm| {
                let mut bytes = [0; SECRET];
                okm.fill(&mut bytes).ok()?;
                name.copy_from_slice(bytes.first_chunk::<NAME>()?);
                Some(())
            })?;
        let mut secret = [0; SECRET];
        prk.expand(&[b"ticket key"], HKDF_SHA256)
            .ok()?
            .fill(&mut secret)
            .ok()?;
        let key = UnboundKey::new(&AES_256_GCM_SIV, &secret);
        forget(&mut secret);
        let key = key.ok()?;
        Some(Derived {
            name,
            key: LessSafeKey::new(key),
        })
    });
    DerivedRing {
        version: ring.version,
        keys: keys.collect(),
    }
}

/// A ticket: name of the key (16), nonce (12), sealed session, tag (16).
impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // A key opens for at least so long after it has sealed.
        u32::try_from(self.keys.rotation_s).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > MAX_TICKET {
            return None;
        }
        let derived = self.derived();
        let key = derived.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let tag = key
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(key.name),
                &mut sealed,
            )
            .ok()?;
        let mut ticket = Vec::with_capacity(NAME + NONCE_LEN + sealed.len() + TAG);
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&sealed);
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > NAME + NONCE_LEN + MAX_TICKET + TAG {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let derived = self.derived();
        // Names are no secret: they are sent in the clear.
        let key = derived.keys.iter().find(|key| key.name == *name)?;
        let mut sealed = sealed.to_vec();
        let plain = key
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(key.name),
                &mut sealed,
            )
            .ok()?
            .len();
        sealed.truncate(plain);
        Some(sealed)
    }
}

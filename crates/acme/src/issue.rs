//! Carries out what [`crate::order`] says: one attempt at a certificate, which goes on where an earlier one ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, NewOrder, Order,
    OrderStatus,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use tokio::sync::Mutex;

use crate::authority::Authority;
use crate::certificate::Stored;
use crate::challenge::dns01::{Writer, record_name};
use crate::challenge::{Answers, Kind};
use crate::order::{self, Pending, Proof, Seen, Status, Step};
use crate::renew::Cause;
use crate::store::{Place, Store};

/// One attempt, until what it has put somewhere is taken away again.
pub const ATTEMPT_MAX: Duration = Duration::from_mins(12);
/// Answers of an authority in trouble that one attempt bears.
const TROUBLES_MAX: u32 = 5;
/// Refused nonces in a row that one attempt bears: they cost nothing but a moment.
const NONCES_MAX: u32 = 20;
/// Characters of a reason that are kept: an authority may say what it likes.
const WHY_MAX: usize = 500;
/// Pause after one of them.
const TROUBLE_PAUSE: Duration = Duration::from_millis(300);

/// Why there is no certificate.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What it is about.
    pub cause: Cause,
    /// In words.
    pub why: String,
    /// The authority's word, without its prefix.
    pub kind: Option<String>,
    /// The status of its answer.
    pub status: Option<u16>,
}

/// What others say, fit for a log and a terminal: one line of bounded length, without anything that steers a terminal.
pub(crate) fn tame(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(WHY_MAX).map(visible).collect()
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl Failure {
    /// One of our own.
    pub fn local(error: impl std::fmt::Display) -> Self {
        Self::of(Cause::Local, error)
    }

    /// What the authority did is of no use.
    pub fn refused(error: impl std::fmt::Display) -> Self {
        Self::of(Cause::Refused, error)
    }

    fn of(cause: Cause, error: impl std::fmt::Display) -> Self {
        Self {
            cause,
            why: tame(&error.to_string()),
            kind: None,
            status: None,
        }
    }

    fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }
}

/// What an attempt works with.
pub struct Workshop {
    /// Where orders are written down.
    pub store: Store,
    /// Held while an account is made.
    pub making: Arc<Mutex<()>>,
    /// Where answers are put.
    pub answers: Arc<dyn Answers>,
    /// Who writes DNS records, if anybody does.
    pub dns: Option<Writer>,
    /// How long a new record takes to be seen everywhere.
    pub dns_settle: Duration,
}

/// Where the order for a name is written down.
pub fn pending_place(name: &str) -> Place {
    Place::new("orders", name)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// One attempt at a certificate for `name`. When it returns one, the order stays written down until the caller has stored
/// the certificate and calls [`done`].
pub async fn attempt(
    workshop: &Workshop,
    authority: &Authority,
    name: &str,
    kind: Kind,
    old: Option<&Stored>,
) -> Result<Stored, Failure> {
    // An account that the authority has forgotten is made anew, once.
    let mut may_forget = true;
    loop {
        let account = authority.account(&workshop.store, &workshop.making).await?;
        let pending = open(workshop, authority, name, kind).await?;
        let mut attempt = Attempt {
            workshop,
            authority,
            name,
            // Only one that this authority has a window for can be said to be replaced (RFC 9773 section 5).
            old: old.filter(|o| o.window.is_some() && o.directory == authority.directory),
            account,
            pending,
            order: None,
            seen: None,
            looks: 0,
            challenges: BTreeMap::new(),
            told: BTreeSet::new(),
            put: Vec::new(),
        };
        // Bounded here, so that records are taken away even so.
        let result = tokio::time::timeout(ATTEMPT_MAX, attempt.run())
            .await
            .unwrap_or_else(|_| {
                Err(Failure::local(format!(
                    "the attempt was not done within {} minutes",
                    ATTEMPT_MAX.as_secs() / 60
                )))
            });
        attempt.clean().await;
        match &result {
            Err(failure) if may_forget && failure.is("accountDoesNotExist") => {
                may_forget = false;
                authority.forget(&workshop.store).await?;
                done(&workshop.store, name).await?;
            }
            _ => return result,
        }
    }
}

/// The order for a name is over.
pub async fn done(store: &Store, name: &str) -> Result<(), Failure> {
    Ok(store.remove(pending_place(name)).await?)
}

/// The order that is under way, if it is the one we want; otherwise a new one, written down.
async fn open(
    workshop: &Workshop,
    authority: &Authority,
    name: &str,
    kind: Kind,
) -> Result<Pending, Failure> {
    let place = pending_place(name);
    if let Some(known) = workshop
        .store
        .load_or_none::<Pending>(place.clone())
        .await?
        && known.directory == authority.directory
        && known.kind == kind
    {
        return Ok(known);
    }
    let key = KeyPair::generate().map_err(Failure::local)?;
    let pending = Pending {
        names: vec![name.to_owned()],
        directory: authority.directory.clone(),
        kind,
        key: key.serialize_pem(),
        url: None,
        begun: now(),
    };
    workshop.store.save(place, &pending).await?;
    Ok(pending)
}

/// What a challenge of our kind is answered with.
struct Answer {
    token: String,
    text: String,
    digest: Vec<u8>,
    record: String,
    /// The authority waits to be told; otherwise it looks already.
    waits: bool,
}

/// What we have put somewhere, to be taken away.
enum Put {
    Token(String, String),
    Certificate(String),
    Record(String, String),
}

struct Attempt<'a> {
    workshop: &'a Workshop,
    authority: &'a Authority,
    name: &'a str,
    old: Option<&'a Stored>,
    account: Account,
    pending: Pending,
    order: Option<Order>,
    seen: Option<Seen>,
    looks: u32,
    challenges: BTreeMap<String, Answer>,
    told: BTreeSet<String>,
    put: Vec<Put>,
}

impl Attempt<'_> {
    async fn run(&mut self) -> Result<Stored, Failure> {
        let (mut troubles, mut nonces) = (0, 0);
        loop {
            let step = order::next(&self.pending, self.seen.as_ref(), self.looks, now());
            tracing::debug!(name = self.name, ?step, "order");
            match self.step(step).await {
                Ok(Some(certificate)) => return Ok(certificate),
                Ok(None) => nonces = 0,
                Err(failure) if failure.is("badNonce") && nonces < NONCES_MAX => nonces += 1,
                Err(failure) if failure.cause == Cause::Unreachable && troubles < TROUBLES_MAX => {
                    troubles += 1;
                    tokio::time::sleep(TROUBLE_PAUSE * troubles).await;
                    // What was asked may have been done all the same.
                    self.seen = None;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn step(&mut self, step: Step) -> Result<Option<Stored>, Failure> {
        match step {
            Step::Create => self.create().await?,
            Step::Look => self.look().await?,
            Step::Answer(names) => {
                self.answer(&names).await?;
                self.seen = None;
                self.looks = 0;
            }
            Step::Wait(pause) => {
                tokio::time::sleep(pause).await;
                self.looks = self.looks.saturating_add(1);
                self.seen = None;
            }
            Step::Finalize => self.finalize().await?,
            Step::Fetch => return self.fetch().await.map(Some),
            Step::Drop { why, stale } => {
                done(&self.workshop.store, self.name).await?;
                let cause = if stale {
                    Cause::Unreachable
                } else {
                    Cause::Refused
                };
                return Err(Failure::of(cause, why));
            }
        }
        Ok(None)
    }

    async fn create(&mut self) -> Result<(), Failure> {
        let identifiers: Vec<Identifier> = self
            .pending
            .names
            .iter()
            .map(|name| identifier(name))
            .collect();
        let mut new = NewOrder::new(&identifiers);
        if let Some(profile) = &self.authority.profile {
            new = new.profile(profile);
        }
        if let Some(id) = self.old.and_then(Stored::identifier) {
            new = new.replaces(id);
        }
        let order = self.account.new_order(&new).await?;
        self.pending.url = Some(order.url().to_owned());
        self.order = Some(order);
        self.workshop
            .store
            .save(pending_place(self.name), &self.pending)
            .await?;
        Ok(())
    }

    /// The order, fetched again if this process has not seen it.
    async fn order(&mut self) -> Result<&mut Order, Failure> {
        if self.order.is_none() {
            let url = self.pending.url.clone().unwrap_or_default();
            match self.account.order(url).await {
                Ok(order) => self.order = Some(order),
                Err(error) => {
                    let failure = Failure::from(error);
                    if failure.status == Some(404) {
                        // It has forgotten it, or has been set up anew.
                        done(&self.workshop.store, self.name).await?;
                    }
                    return Err(failure);
                }
            }
        }
        self.order
            .as_mut()
            .ok_or_else(|| Failure::local("no order"))
    }

    async fn look(&mut self) -> Result<(), Failure> {
        let kind = self.pending.kind;
        let ours = self.pending.names.clone();
        let order = self.order().await?;
        let state = order.refresh().await?;
        let status = match state.status {
            OrderStatus::Pending => Status::Pending,
            OrderStatus::Ready => Status::Ready,
            OrderStatus::Processing => Status::Processing,
            OrderStatus::Valid => Status::Valid,
            OrderStatus::Invalid => Status::Invalid,
        };
        let mut why = state.error.as_ref().map(ToString::to_string);
        let mut proofs = Vec::new();
        let mut challenges = BTreeMap::new();
        // A finished order needs no proofs any more.
        if matches!(status, Status::Pending | Status::Invalid) {
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = authorization?;
                let name = authorization.identifier().to_string();
                // Answers for others are nothing that an authority can order here: it might pass them on to somebody.
                if !ours.contains(&name) {
                    return Err(Failure::of(
                        Cause::Refused,
                        format!("the authority wants a proof for {name}, which we did not ask for"),
                    ));
                }
                let state = authorization.status;
                let proof = match authorization.challenge(wire_kind(kind)) {
                    _ if state == AuthorizationStatus::Valid => Proof::Valid,
                    Some(challenge) => {
                        if let Some(error) = &challenge.error {
                            why = Some(error.to_string());
                        }
                        let proof = match (state, challenge.status) {
                            (AuthorizationStatus::Pending, ChallengeStatus::Invalid) => {
                                Proof::Invalid
                            }
                            (AuthorizationStatus::Pending, _) => Proof::Wanted,
                            _ => Proof::Invalid,
                        };
                        let key = challenge.key_authorization();
                        let answer = Answer {
                            token: challenge.token.clone(),
                            text: key.as_str().to_owned(),
                            digest: key.digest().as_ref().to_vec(),
                            record: key.dns_value(),
                            waits: challenge.status == ChallengeStatus::Pending,
                        };
                        challenges.insert(name.clone(), answer);
                        proof
                    }
                    None if state == AuthorizationStatus::Pending => Proof::NotOffered,
                    None => Proof::Invalid,
                };
                proofs.push((name, proof));
            }
        }
        for (name, proof) in &mut proofs {
            if *proof == Proof::Wanted && self.told.contains(name) {
                *proof = Proof::Looking;
            }
        }
        self.challenges = challenges;
        self.seen = Some(Seen {
            status,
            proofs,
            why,
        });
        Ok(())
    }

    /// Puts the answers there, and then says so: the authority may look at once.
    async fn answer(&mut self, names: &[String]) -> Result<(), Failure> {
        for name in names {
            self.put(name).await?;
        }
        if self.pending.kind == Kind::Dns01 {
            tokio::time::sleep(self.workshop.dns_settle).await;
        }
        let kind = wire_kind(self.pending.kind);
        let challenges = &self.challenges;
        let told = &mut self.told;
        let Some(order) = self.order.as_mut() else {
            return Ok(());
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            let name = authorization.identifier().to_string();
            let waits = challenges.get(&name).is_some_and(|answer| answer.waits);
            if !names.contains(&name) || told.contains(&name) {
                continue;
            }
            if waits && let Some(mut challenge) = authorization.challenge(kind.clone()) {
                challenge.set_ready().await?;
            }
            told.insert(name);
        }
        Ok(())
    }

    async fn put(&mut self, name: &str) -> Result<(), Failure> {
        let Some(answer) = self.challenges.get(name) else {
            return Ok(());
        };
        match self.pending.kind {
            Kind::Http01 => {
                self.workshop
                    .answers
                    .put_token(name, &answer.token, &answer.text);
                self.put
                    .push(Put::Token(name.to_owned(), answer.token.clone()));
            }
            Kind::TlsAlpn01 => {
                let certificate = alpn_certificate(name, &answer.digest)?;
                self.workshop
                    .answers
                    .put_certificate(name, Arc::new(certificate));
                self.put.push(Put::Certificate(name.to_owned()));
            }
            Kind::Dns01 => {
                let Some(dns) = &self.workshop.dns else {
                    return Err(Failure::local(format!(
                        "{name} is to be proven by dns-01, and nobody is named who writes DNS records"
                    )));
                };
                let record = record_name(name);
                // Noted first: half of it may be done when it fails.
                self.put
                    .push(Put::Record(record.clone(), answer.record.clone()));
                dns.put(&record, &answer.record)
                    .await
                    .map_err(Failure::local)?;
            }
        }
        Ok(())
    }

    async fn finalize(&mut self) -> Result<(), Failure> {
        let key = KeyPair::from_pem(&self.pending.key).map_err(Failure::local)?;
        let mut params =
            CertificateParams::new(self.pending.names.clone()).map_err(Failure::local)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(Failure::local)?;
        self.order().await?.finalize_csr(request.der()).await?;
        self.seen = None;
        self.looks = 0;
        Ok(())
    }

    async fn fetch(&mut self) -> Result<Stored, Failure> {
        let Some(chain) = self.order().await?.certificate().await? else {
            self.seen = None;
            return Err(Failure::of(
                Cause::Unreachable,
                "the certificate is not ready after all",
            ));
        };
        let stored = Stored {
            directory: self.authority.directory.clone(),
            chain,
            key: self.pending.key.clone(),
            window: None,
        };
        // What an authority sends is checked as what a disk has.
        if let Err(error) = stored.ready(self.name) {
            done(&self.workshop.store, self.name).await?;
            return Err(Failure::of(
                Cause::Refused,
                format!("the authority sent a certificate that is of no use: {error}"),
            ));
        }
        Ok(stored)
    }

    /// Takes every answer away again, whatever came of it.
    async fn clean(&mut self) {
        for put in std::mem::take(&mut self.put) {
            match put {
                Put::Token(host, token) => self.workshop.answers.take_token(&host, &token),
                Put::Certificate(name) => self.workshop.answers.take_certificate(&name),
                Put::Record(record, value) => {
                    let Some(dns) = &self.workshop.dns else {
                        continue;
                    };
                    if let Err(error) = dns.take(&record, &value).await {
                        tracing::warn!("a record stays behind: {error}");
                    }
                }
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // Left in the middle: what can be taken away without waiting is.
        for put in self.put.drain(..) {
            match put {
                Put::Token(host, token) => self.workshop.answers.take_token(&host, &token),
                Put::Certificate(name) => self.workshop.answers.take_certificate(&name),
                Put::Record(..) => {}
            }
        }
    }
}

fn identifier(name: &str) -> Identifier {
    match name.parse() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(name.to_owned()),
    }
}

fn wire_kind(kind: Kind) -> ChallengeType {
    match kind {
        Kind::Http01 => ChallengeType::Http01,
        Kind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Kind::Dns01 => ChallengeType::Dns01,
    }
}

/// The certificate that proves a name in a handshake (RFC 8737 section 3).
fn alpn_certificate(name: &str, digest: &[u8]) -> Result<CertifiedKey, Failure> {
    // rcgen takes 32 bytes and panics at anything else.
    if digest.len() != 32 {
        return Err(Failure::local("a digest that is none"));
    }
    let key = KeyPair::generate().map_err(Failure::local)?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(Failure::local)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(Failure::local)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(Failure::local)?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(Failure::local)?;
    // A pair by construction; rustls' own look at it would stumble over the critical extension.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

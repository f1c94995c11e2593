//! A certificate authority, and our account there.

use std::path::PathBuf;

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use tokio::sync::Mutex;

use crate::certificate::Stored;
use crate::http::Https;
use crate::issue::{Failure, tame};
use crate::renew::Cause;
use crate::store::{Place, Store};

/// Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// A certificate authority that speaks ACME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The URL of its directory; also its name.
    pub directory: String,
    /// Roots (PEM) that its own HTTPS is verified by, instead of the system's.
    pub roots: Option<PathBuf>,
    /// Where it may write to about trouble.
    pub contact: Option<String>,
    /// What ties our account to one that we have there already (EAB).
    pub external: Option<External>,
    /// Which of its kinds of certificate we want, if it has several.
    pub profile: Option<String>,
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct External {
    /// The key's name.
    pub id: String,
    /// The key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for External {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "External({})", self.id)
    }
}

impl Authority {
    fn place(&self) -> Place {
        // Sites with different contacts have different accounts.
        let contact = self.contact.as_deref().unwrap_or_default();
        Place::new("accounts", &format!("{} {contact}", self.directory))
    }

    /// Our account there: the one we have, or a new one, written down before it is used.
    ///
    /// `making` is held while one is made: names that begin together share it.
    pub async fn account(&self, store: &Store, making: &Mutex<()>) -> Result<Account, Failure> {
        let https = Https::new(self.roots.as_deref()).map_err(Failure::local)?;
        let builder = || Account::builder_with_http(Box::new(https.clone()));
        let known = || store.load_or_none::<AccountCredentials>(self.place());
        if let Some(known) = known().await? {
            return Ok(builder().from_credentials(known).await?);
        }
        let _making = making.lock().await;
        if let Some(known) = known().await? {
            return Ok(builder().from_credentials(known).await?);
        }
        let contact = self.contact.as_deref().map(mail);
        let contact: Vec<&str> = contact.as_deref().into_iter().collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let external = self.external.as_ref();
        let external = external.map(|e| ExternalAccountKey::new(e.id.clone(), &e.key));
        let (account, credentials) = builder()
            .create(&new, self.directory.clone(), external.as_ref())
            .await?;
        store.save(self.place(), &credentials).await?;
        tracing::info!(
            authority = self.directory,
            account = account.id(),
            "a new account"
        );
        Ok(account)
    }

    /// When the authority wants this certificate renewed (RFC 9773), and after how many seconds it is to be asked again;
    /// `None` if it does not say such things.
    pub async fn window(
        &self,
        store: &Store,
        making: &Mutex<()>,
        certificate: &Stored,
    ) -> Result<Option<((u64, u64), u64)>, Failure> {
        let Some(id) = certificate.identifier() else {
            return Ok(None);
        };
        let account = self.account(store, making).await?;
        match account.renewal_info(&id).await {
            Ok((info, again)) => {
                let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
                let window = info.suggested_window;
                let window = (
                    seconds(window.start.unix_timestamp()),
                    seconds(window.end.unix_timestamp()),
                );
                Ok(Some((window, again.as_secs())))
            }
            Err(instant_acme::Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets an account that the authority does not know, so that the next attempt makes one.
    pub async fn forget(&self, store: &Store) -> Result<(), Failure> {
        tracing::warn!(
            authority = self.directory,
            "the authority does not know our account any more; a new one is made"
        );
        Ok(store.remove(self.place()).await?)
    }
}

fn mail(contact: &str) -> String {
    if contact.contains(':') {
        contact.to_owned()
    } else {
        format!("mailto:{contact}")
    }
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Self {
        Failure::local(error)
    }
}

impl From<instant_acme::Error> for Failure {
    fn from(error: instant_acme::Error) -> Self {
        use instant_acme::Error as E;
        let cause = match &error {
            E::Api(problem) => match problem.r#type.as_deref().map(short) {
                Some("rateLimited") => Cause::Limited,
                Some("serverInternal" | "badNonce") => Cause::Unreachable,
                _ if problem.status.is_some_and(|s| s >= 500) => Cause::Unreachable,
                _ => Cause::Refused,
            },
            E::Crypto | E::KeyRejected => Cause::Local,
            E::Unsupported(_) => Cause::Refused,
            // A proxy's page of apology is no JSON.
            _ => Cause::Unreachable,
        };
        let kind = match &error {
            E::Api(problem) => problem.r#type.as_deref().map(|t| short(t).to_owned()),
            _ => None,
        };
        let status = match &error {
            E::Api(problem) => problem.status,
            _ => None,
        };
        Failure {
            cause,
            why: tame(&crate::http::whole(&error)),
            kind,
            status,
        }
    }
}

fn short(kind: &str) -> &str {
    kind.strip_prefix("urn:ietf:params:acme:error:")
        .unwrap_or(kind)
}

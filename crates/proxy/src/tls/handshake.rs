//! The handshake with a client, and what is remembered of it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use narthex_filter::values::TlsValues;
use narthex_net::rt;
use narthex_net::stream::Stream;
use narthex_net::tls::server::ClientIdentity;
use narthex_net::tls::{self, H2, HandshakeError, Version};
use narthex_observe::access_log::TlsRecord;

use super::Guard;
use super::shared::unix_now;
use super::tables::ListenerTls;

/// What is remembered of a handshake, for as long as its connection lives.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) version: Version,
    pub(crate) suite: &'static str,
    /// The name that was asked for, canonical.
    pub(crate) sni: Option<String>,
    pub(crate) resumed: bool,
    /// HTTP/2 was agreed upon.
    pub(crate) h2: bool,
    /// What it was judged by.
    pub(crate) met: Option<Guard>,
    /// Who the client has proved to be.
    pub(crate) client: Option<Box<ClientIdentity>>,
}

impl Session {
    /// For templates.
    pub(crate) fn values(&self) -> TlsValues<'_> {
        let usual = TlsValues {
            version: self.version.as_str(),
            suite: self.suite,
            sni: self.sni.as_deref().unwrap_or_default(),
            ..TlsValues::default()
        };
        match &self.client {
            None => usual,
            Some(client) => TlsValues {
                subject: &client.subject,
                issuer: &client.issuer,
                serial: &client.serial,
                fingerprint: &client.fingerprint,
                ..usual
            },
        }
    }

    /// For the access log.
    pub(crate) fn record(&self) -> TlsRecord<'_> {
        TlsRecord {
            version: self.version.as_str(),
            suite: self.suite,
            sni: self.sni.as_deref().unwrap_or_default(),
            resumed: self.resumed,
            client: self.client.as_ref().map_or("", |c| &c.subject),
        }
    }
}

/// Shakes hands. `None`: there is no connection; it is counted why.
pub(crate) async fn accept(
    tls: &ListenerTls,
    core: usize,
    stream: Stream,
    already_read: &[u8],
    client: Option<IpAddr>,
) -> Option<(Stream, Session)> {
    let deadline = rt::now_ms().saturating_add(tls.handshake_ms);
    let pending = tls.metrics.begin(core);
    let result = tls::accept(stream, already_read, &tls.server, deadline, client).await;
    drop(pending);
    match result {
        Ok((stream, done)) => {
            tls.metrics.done(core, done.resumed, done.took_us);
            let session = Session {
                version: done.version,
                suite: done.suite,
                sni: done.sni,
                resumed: done.resumed,
                h2: done.alpn.as_deref() == Some(H2),
                met: tls.met(done.policy),
                client: done.client,
            };
            Some((stream, session))
        }
        Err(error) => {
            tls.metrics.failed(core, error.reason());
            // Whoever scans the network fails all the time: that is no news.
            match error {
                _ if error.is_list_expired() => tell_of_list(),
                HandshakeError::NoCertificate(_) => tracing::debug!("{error}"),
                _ => tracing::trace!("{error}"),
            }
            None
        }
    }
}

/// An operator must hear of it, once a minute: every client with a certificate is refused.
fn tell_of_list() {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let now = unix_now();
    let told = TOLD.load(Ordering::Relaxed);
    if told.saturating_add(60) <= now
        && TOLD
            .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    {
        tracing::error!(
            "clients with certificates are refused: a list of revoked certificates (`crl=`) has ended; put the authority's next one in \
             its place and reload"
        );
    }
}

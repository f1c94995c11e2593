//! Certificates that are obtained: what the configuration wants, the task that keeps it, and where the results go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use narthex_acme::authority::{Authority, External};
use narthex_acme::board::{Board, Entry};
use narthex_acme::certificate::Stored;
use narthex_acme::challenge::dns01::Writer;
use narthex_acme::challenge::{Algorithm, Answers, CertifiedKey, Kind, Tsig};
use narthex_acme::encoding::base64;
use narthex_acme::internal;
use narthex_acme::keeper::{self, Parts, Settings, Sink, Source, Wanted};
use narthex_acme::on_demand::{self, Caller, Demand, Links, Pattern, Rules};
use narthex_acme::store::{Directory, Storage, StoreError};
use narthex_config::model::{
    Acme, AcmeAuthority, CertificateSource, Challenge, Config, DnsUpdates, HostPattern, Listener,
    Secret, SiteAcme, can_be_public,
};
use narthex_net::tls::on_demand::{Asked, Reply};
use narthex_net::tls::server::{Bundle, Certificate};
use narthex_observe::metrics::Kind as MetricKind;
use narthex_proxy::TlsShared;
use tokio::sync::{Mutex, mpsc, watch};

use crate::plane::Shared;
use crate::supervise::{Policy, Supervisor};

/// How long an answer to a challenge is kept, should nobody take it away.
const ANSWER_LIFE: Duration = Duration::from_hours(1);
/// Pause after a first failed attempt at a certificate.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
/// Handshakes whose names nobody has looked at yet; as many as may wait.
const DEMANDS: usize = narthex_net::tls::on_demand::WAITING_MAX;
/// Pause before a store that cannot be opened is tried again.
const STORE_PAUSE: Duration = Duration::from_secs(10);
/// How long records that a program or a secondary name server publishes are given.
const DNS_SETTLE: Duration = Duration::from_secs(2);

/// The way to the task.
pub(crate) struct Obtaining(watch::Sender<Arc<Wish>>);

/// What the configuration wants.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    storage: PathBuf,
    settings: Arc<Settings>,
    /// Names that come on demand.
    rules: Arc<Rules>,
}

impl Wish {
    fn is_empty(&self) -> bool {
        self.settings.wanted.is_empty() && self.rules.sites.is_empty()
    }
}

impl Obtaining {
    /// Starts the task that obtains what this configuration wants, and renews it.
    pub(crate) fn start(
        supervisor: &Supervisor,
        shared: &Arc<Shared>,
        board: &Arc<Board>,
        config: &Config,
        demands: Demands,
    ) -> Self {
        collect(shared, board);
        let (sender, receiver) = watch::channel(Arc::new(wish(config)));
        let (tls, board) = (Arc::clone(shared.tls()), Arc::clone(board));
        supervisor.task("acme", Policy::Restart, move || {
            let demands = Arc::clone(&demands.0);
            run(
                receiver.clone(),
                Arc::clone(&tls),
                Arc::clone(&board),
                demands,
            )
        });
        Self(sender)
    }

    /// Follows a reload. Once this is dropped the task ends, and the store is free for another process.
    pub(crate) fn follow(&self, config: &Config) {
        let wish = Arc::new(wish(config));
        self.0.send_if_modified(|now| {
            let differs = **now != *wish;
            if differs {
                *now = wish;
            }
            differs
        });
    }
}

/// The root certificate (PEM) of the internal authority that is kept there, if there is one yet.
pub fn trust(path: &Path) -> Result<Option<String>, String> {
    // Looking must not make it.
    if !path.is_dir() {
        return Ok(None);
    }
    let storage = Directory::open(path).map_err(|error| error.to_string())?;
    internal::trust(&storage).map_err(|error| error.to_string())
}

/// What is known of certificates, as a person reads it.
pub fn table(all: &[Entry]) -> String {
    use std::fmt::Write as _;
    if all.is_empty() {
        return "no site asks for certificates that are obtained by themselves\n".to_owned();
    }
    let time =
        |seconds| String::from_utf8_lossy(&narthex_observe::clock::rfc3339(seconds)).into_owned();
    let mut out = String::new();
    for entry in all {
        let _ = writeln!(out, "{}", entry.name);
        match (&entry.issuer, entry.expires) {
            (Some(issuer), Some(expires)) => {
                let _ = writeln!(out, "  issued by  {issuer}\n  good until {}", time(expires));
            }
            _ => out.push_str("  no certificate yet\n"),
        }
        let _ = writeln!(
            out,
            "  next       {} at {}",
            time(entry.next),
            entry.authority
        );
        if let Some(why) = &entry.last_error {
            let _ = writeln!(out, "  failed     {} times, last: {why}", entry.failures);
        }
    }
    out
}

/// Shows what is stored already, before the first handshake.
pub(crate) fn preload(config: &Config, shared: &Shared) {
    let wish = wish(config);
    if wish.is_empty() {
        return;
    }
    // What is wrong with the store is said by the task.
    let Ok(storage) = Directory::open(&wish.storage) else {
        return;
    };
    let plane = Plane(Arc::clone(shared.tls()));
    let on_demand = on_demand::stored(&storage, &wish.rules);
    let wanted = wish.settings.wanted.iter().map(|w| &w.name);
    for name in wanted.chain(&on_demand) {
        if let Some(stored) = keeper::stored(&storage, name) {
            plane.install(name, &stored);
        }
    }
}

async fn run(
    mut wishes: watch::Receiver<Arc<Wish>>,
    tls: Arc<TlsShared>,
    board: Arc<Board>,
    demands: Arc<Mutex<mpsc::Receiver<Demand>>>,
) {
    let mut told = None;
    let demands = &mut *demands.lock().await;
    loop {
        let wish = Arc::clone(&wishes.borrow_and_update());
        if wish.is_empty() {
            tokio::select! {
                changed = wishes.changed() => if changed.is_err() { return },
                () = refuse(demands) => {}
            }
            continue;
        }
        let storage = match open(wish.storage.clone()).await {
            Ok(storage) => storage,
            Err(error) => {
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    tracing::error!("no certificate can be obtained or renewed: {text}");
                    told = Some(text);
                }
                tokio::select! {
                    changed = wishes.changed() => if changed.is_err() { return },
                    () = refuse(demands) => {}
                    () = tokio::time::sleep(STORE_PAUSE) => {}
                }
                continue;
            }
        };
        told = None;
        let plane = Arc::new(Plane(Arc::clone(&tls)));
        let storage: Arc<dyn Storage> = Arc::new(storage);
        let (settings, receiver) = watch::channel(Arc::clone(&wish.settings));
        let (rules, rules_receiver) = watch::channel(Arc::clone(&wish.rules));
        let (names, names_receiver) = watch::channel(Arc::default());
        let used = Arc::clone(&tls);
        let links = Links {
            storage: Arc::clone(&storage),
            board: Arc::clone(&board),
            names,
            used: Arc::new(move |name| used.used(name)),
        };
        let parts = Parts {
            storage,
            answers: plane.clone(),
            sink: plane,
            board: Arc::clone(&board),
        };
        let keeper = keeper::run(parts, receiver, names_receiver);
        let on_demand = on_demand::run(links, rules_receiver, demands);
        tokio::pin!(on_demand);
        tokio::pin!(keeper);
        loop {
            tokio::select! {
                () = &mut keeper => break,
                () = &mut on_demand => break,
                changed = wishes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let next = Arc::clone(&wishes.borrow_and_update());
                    if next.storage != wish.storage {
                        let stays = |name: &str| next.settings.wanted.iter().any(|w| w.name == name);
                        for gone in wish.settings.wanted.iter().filter(|w| !stays(&w.name)) {
                            tls.lost(&gone.name);
                        }
                        // What came on demand is another store's, too.
                        let on_demand = board.list();
                        for gone in on_demand.iter().filter(|e| !stays(&e.name)) {
                            tls.lost(&gone.name);
                        }
                        // Dropping the keeper ends what it has under way.
                        wishes.mark_changed();
                        break;
                    }
                    // The keeper forgets the pauses of failures when its settings are sent.
                    settings.send_replace(Arc::clone(&next.settings));
                    rules.send_if_modified(|now| {
                        let differs = *now != next.rules;
                        if differs {
                            *now = Arc::clone(&next.rules);
                        }
                        differs
                    });
                }
            }
        }
    }
}

/// What handshakes ask for from now on. They wait until somebody reads it; when it is full they are refused, and so they are
/// once it is gone.
pub(crate) struct Demands(Arc<Mutex<mpsc::Receiver<Demand>>>);

impl Demands {
    pub(crate) fn of(shared: &Shared) -> Self {
        let (sender, receiver) = mpsc::channel(DEMANDS);
        shared
            .tls()
            .desk()
            .serve(Some(Box::new(move |asked: Asked| {
                if !can_be_public(&asked.name) {
                    return;
                }
                let demand = Demand {
                    name: asked.name,
                    client: asked.client,
                    caller: Box::new(Waits(asked.reply)),
                };
                // What is dropped is answered.
                drop(sender.try_send(demand));
            })));
        Self(Arc::new(Mutex::new(receiver)))
    }
}

/// Refuses whoever asks.
async fn refuse(demands: &mut mpsc::Receiver<Demand>) {
    while let Some(demand) = demands.recv().await {
        demand.caller.answer(false);
    }
    std::future::pending().await
}

/// A handshake, as `acme` sees it.
struct Waits(Reply);

impl Caller for Waits {
    fn answer(self: Box<Self>, came: bool) {
        self.0.answer(came);
    }

    fn is_gone(&self) -> bool {
        self.0.is_gone()
    }
}

async fn open(path: PathBuf) -> Result<Directory, StoreError> {
    tokio::task::spawn_blocking(move || Directory::open(&path))
        .await
        .unwrap_or_else(|end| Err(StoreError::Lost(end.to_string())))
}

/// The data plane, as the keeper sees it.
struct Plane(Arc<TlsShared>);

impl Answers for Plane {
    fn put_token(&self, host: &str, token: &str, answer: &str) {
        let (now, until) = span();
        let put = self
            .0
            .challenges()
            .put_http(host, token, answer, now, until);
        if let Err(refused) = put {
            tracing::error!(host, "a challenge cannot be answered: {refused}");
        }
    }

    fn take_token(&self, host: &str, token: &str) {
        self.0.challenges().remove_http(host, token);
    }

    fn put_certificate(&self, name: &str, certificate: Arc<CertifiedKey>) {
        let (now, until) = span();
        let put = self.0.challenges().put_alpn(name, &certificate, now, until);
        if let Err(refused) = put {
            tracing::error!(name, "a challenge cannot be answered: {refused}");
        }
    }

    fn take_certificate(&self, name: &str) {
        self.0.challenges().remove_alpn(name);
    }
}

impl Sink for Plane {
    fn install(&self, name: &str, stored: &Stored) {
        match Certificate::from_pem(stored.chain.as_bytes(), stored.key.as_bytes(), None) {
            Ok(certificate) => {
                let bundle = Bundle::new(vec![Arc::new(certificate)]);
                self.0.obtained(&[(name.to_owned(), bundle)]);
            }
            Err(problem) => tracing::error!(name, "a certificate cannot be served: {problem}"),
        }
    }

    fn remove(&self, name: &str) {
        self.0.lost(name);
    }
}

/// Now, and until when an answer put now is kept.
fn span() -> (u64, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    (now, now.saturating_add(ANSWER_LIFE.as_secs()))
}

fn collect(shared: &Shared, board: &Arc<Board>) {
    let demands = Arc::downgrade(board);
    shared.metrics().collect(
        "narthex_certificate_demands_total",
        "Handshakes that asked for a certificate on demand, by what came of it; `obtained` counts names.",
        MetricKind::Counter,
        move |emit| {
            let Some(board) = demands.upgrade() else { return };
            for (word, count) in board.demands() {
                emit(&[("result", word)], count as f64);
            }
        },
    );
    let desk = Arc::downgrade(shared.tls());
    shared.metrics().collect(
        "narthex_tls_handshakes_waiting",
        "Handshakes that wait for a certificate on demand.",
        MetricKind::Gauge,
        move |emit| {
            let Some(tls) = desk.upgrade() else { return };
            emit(&[], tls.desk().waiting() as f64);
        },
    );
    let board = Arc::downgrade(board);
    shared.metrics().collect(
        "narthex_certificate_failures",
        "Attempts at a certificate that failed since the last one that did not, by name.",
        MetricKind::Gauge,
        move |emit| {
            let Some(board) = board.upgrade() else { return };
            for entry in board.list() {
                emit(&[("name", &*entry.name)], f64::from(entry.failures));
            }
        },
    );
}

fn wish(config: &Config) -> Wish {
    let acme = &config.acme;
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut rules = rules(acme);
    for site in &config.sites {
        let Some(tls) = &site.tls else { continue };
        if let CertificateSource::Acme(how) = &tls.source
            && how.on_demand
        {
            let source = Source::Public {
                kinds: kinds(how, acme, &config.listeners, ""),
                contact: how.email.clone(),
            };
            let hosts = site.hosts.iter().map(pattern);
            rules.sites.extend(hosts.map(|p| (p, source.clone())));
            continue;
        }
        for host in &site.hosts {
            let Some(name) = name_of(host) else { continue };
            let source = match &tls.source {
                CertificateSource::Acme(how) if can_be_public(name.trim_start_matches("*.")) => {
                    Source::Public {
                        kinds: kinds(how, acme, &config.listeners, &name),
                        contact: how.email.clone(),
                    }
                }
                CertificateSource::Acme(_) | CertificateSource::Internal => Source::Internal,
                CertificateSource::Files(_) => continue,
            };
            // Where two sites claim one host, the first has it, as in the router.
            if wanted.iter().all(|w| w.name != name) {
                wanted.push(Wanted { name, source });
            }
        }
    }
    Wish {
        storage: acme.storage.clone(),
        settings: Arc::new(Settings {
            wanted,
            authorities: acme
                .authorities
                .iter()
                .map(|a| authority(a, acme))
                .collect(),
            dns: acme.dns.as_ref().and_then(writer),
            dns_settle: DNS_SETTLE,
            first_pause: FIRST_PAUSE,
        }),
        rules: Arc::new(rules),
    }
}

/// What is said of names on demand; without their sites.
fn rules(acme: &Acme) -> Rules {
    acme.on_demand
        .as_ref()
        .map_or_else(Rules::default, |said| Rules {
            sites: Vec::new(),
            allowed: said.names.iter().map(pattern).collect(),
            ask: said.ask.clone(),
            per_hour: said.per_hour,
            per_client: said.per_client,
        })
}

fn pattern(host: &HostPattern) -> Pattern {
    match host {
        HostPattern::Exact(name) => Pattern::Exact(name.clone()),
        HostPattern::Wildcard(zone) => Pattern::Below(zone.clone()),
        HostPattern::Any => Pattern::Any,
    }
}

fn name_of(host: &HostPattern) -> Option<String> {
    match host {
        // An address of IPv6 has brackets in `Host` alone.
        HostPattern::Exact(name) => Some(
            name.strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'))
                .unwrap_or(name)
                .to_owned(),
        ),
        HostPattern::Wildcard(zone) => Some(format!("*.{zone}")),
        HostPattern::Any => None,
    }
}

/// How a name may be proven, the best way first.
fn kinds(how: &SiteAcme, acme: &Acme, listeners: &[Listener], name: &str) -> Vec<Kind> {
    match how.challenge {
        Challenge::Http01 => vec![Kind::Http01],
        Challenge::TlsAlpn01 => vec![Kind::TlsAlpn01],
        Challenge::Dns01 => vec![Kind::Dns01],
        Challenge::Auto => {
            let mut kinds = Vec::new();
            if !name.starts_with("*.") {
                if listeners.iter().any(|l| l.tls.is_none()) {
                    kinds.push(Kind::Http01);
                }
                if listeners.iter().any(|l| l.tls.is_some()) {
                    kinds.push(Kind::TlsAlpn01);
                }
            }
            if acme.dns.is_some() {
                kinds.push(Kind::Dns01);
            }
            kinds
        }
    }
}

fn authority(written: &AcmeAuthority, acme: &Acme) -> Authority {
    Authority {
        directory: written.directory.clone(),
        roots: written.roots.clone(),
        contact: acme.email.clone(),
        external: written.account.as_ref().map(|account| External {
            id: account.key_id.clone(),
            key: secret(&account.key).unwrap_or_default(),
        }),
        profile: written.profile.clone(),
    }
}

fn writer(written: &DnsUpdates) -> Option<Writer> {
    match written {
        DnsUpdates::Update {
            server,
            zone,
            key_name,
            key,
            algorithm,
        } => Some(Writer::Update {
            server: server.to_string(),
            zone: zone.clone(),
            tsig: Some(Tsig {
                name: key_name.clone(),
                algorithm: Algorithm::by_name(algorithm)?,
                secret: secret(key)?,
            }),
        }),
        DnsUpdates::Exec(program) => Some(Writer::Program(vec![program.display().to_string()])),
        DnsUpdates::Webhook { url, token } => Some(Writer::Webhook {
            url: url.clone(),
            token: token.as_ref().map(|t| t.expose().to_owned()),
        }),
    }
}

/// The bytes of a key.
fn secret(written: &Secret) -> Option<Vec<u8>> {
    let bytes = base64(written.expose());
    if bytes.is_none() {
        tracing::error!(
            secret = written.reference(),
            "this is no key: it must be base64"
        );
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source as Text;

    fn wanted(listen: &str, text: &str) -> Vec<(String, String)> {
        let text = format!("version 1\n{listen}\n{text}");
        let name = "test".to_owned();
        let config = Text::Text { name, text }.load().unwrap().config;
        let said = |source: &Source| match source {
            Source::Internal => "internal".to_owned(),
            Source::Public { kinds, .. } => {
                let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
                kinds.join(" ")
            }
        };
        let wish = wish(&config);
        let all = wish.settings.wanted.iter();
        all.map(|w| (w.name.clone(), said(&w.source))).collect()
    }

    #[test]
    fn who_certifies_what_and_how_it_is_proven() {
        let both = "listen \":80\"\nlisten \":443\" { tls }";
        let sites = "site \"a.com\" \"*.a.com\" { tls acme=\"x@a.com\"; respond 200 }\n\
                     site \"b.internal\" { tls acme=\"x@a.com\"; respond 200 }\n\
                     site \"c.com\" { tls \"internal\"; respond 200 }\n\
                     site \"d.com\" { tls acme=\"x@a.com\" challenge=\"tls-alpn-01\"; respond 200 }\n\
                     site \"[::1]\" { tls \"internal\"; respond 200 }\n";
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
            all.iter().map(owned).collect()
        };
        let dns = "acme { dns \"exec\" program=\"/bin/true\" }\n";
        assert_eq!(
            wanted(both, &format!("{dns}{sites}")),
            pairs(&[
                ("a.com", "http-01 tls-alpn-01 dns-01"),
                ("*.a.com", "dns-01"),
                ("b.internal", "internal"),
                ("c.com", "internal"),
                ("d.com", "tls-alpn-01"),
                ("::1", "internal"),
            ])
        );
        let one = "site \"a.com\" { tls acme=\"x@a.com\"; respond 200 }";
        let tls = "listen \":443\" { tls }";
        assert_eq!(wanted(tls, one), pairs(&[("a.com", "tls-alpn-01")]));
        // Nothing at all is said: names that can have a public certificate get one.
        let short = "site \"a.com\" { respond 200 }\nsite \"*\" { respond 404 }";
        assert_eq!(
            wanted("", short),
            pairs(&[("a.com", "http-01 tls-alpn-01")])
        );
    }
}

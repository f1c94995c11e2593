//! What outlives a reload: keys of tickets, challenges of certificate authorities, certificates that were obtained.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use narthex_config::model::TlsTickets;
use narthex_net::tls::Problem;
use narthex_net::tls::challenges::Challenges;
use narthex_net::tls::on_demand::Desk;
use narthex_net::tls::server::{Bundle, Certificates, Expiry};
use narthex_net::tls::tickets::TicketKeys;
use narthex_observe::metrics::{Kind, Registry};

use super::Refreshed;
use crate::runtime::Runtime;

/// The certificates of one listener in one configuration.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) certificates: Arc<Certificates>,
    /// Names whose certificates are files: nobody else's take their place.
    pub(super) by_file: HashSet<String>,
}

/// What outlives a reload. One per process.
#[derive(Default)]
pub struct TlsShared {
    challenges: Arc<Challenges>,
    desk: Arc<Desk>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tickets: Option<Tickets>,
    /// Every ring that somebody may still seal with: a configuration that was refused leaves the one before in use.
    rings: Vec<Weak<TicketKeys>>,
    /// Keys that the process before us has handed over.
    bequest: Vec<u8>,
    /// Certificates that were obtained, by name.
    obtained: HashMap<String, Bundle>,
    /// Every configuration that serves.
    runtimes: Vec<Weak<Runtime>>,
    /// Every table that somebody may still shake hands with.
    tables: Vec<Weak<Table>>,
}

struct Tickets {
    of: TlsTickets,
    keys: Arc<TicketKeys>,
}

impl TlsShared {
    pub(crate) fn new(registry: &Registry) -> Arc<Self> {
        let this = Arc::new(Self::default());
        let weak = Arc::downgrade(&this);
        registry.collect(
            "narthex_tls_certificate_expiry_seconds",
            "When a certificate ends, in seconds since 1970, by name and kind of key.",
            Kind::Gauge,
            move |emit| {
                let Some(this) = weak.upgrade() else { return };
                for expiry in this.expiries() {
                    let labels = [("name", &*expiry.name), ("key", expiry.kind.as_str())];
                    emit(&labels, expiry.not_after as f64);
                }
            },
        );
        this
    }

    /// Where the answers to certificate authorities are put.
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// Where handshakes ask for certificates on demand.
    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// When a certificate that was obtained on demand was asked for last, in seconds since 1970; 0 for never since it came.
    pub fn used(&self, name: &str) -> u64 {
        self.lock().obtained.get(name).map_or(0, Bundle::used)
    }

    /// Puts certificates that were obtained into every listener's table, now and after reloads. Names as in certificates
    /// (`a.example`, `*.example`). Names whose certificates are files keep those.
    pub fn obtained(&self, certificates: &[(String, Bundle)]) {
        let mut state = self.lock();
        state.obtained.extend(certificates.iter().cloned());
        for table in state.living() {
            table.set(certificates);
        }
    }

    /// Takes a name's obtained certificates away.
    pub fn lost(&self, name: &str) {
        let mut state = self.lock();
        state.obtained.remove(name);
        for table in state.living() {
            if !table.by_file.contains(name) {
                table.certificates.remove(name);
            }
        }
    }

    /// When each certificate that is shown to somebody ends.
    pub fn expiries(&self) -> Vec<Expiry> {
        let mut all: Vec<Expiry> = Vec::new();
        let tables = self.lock().living();
        for table in tables {
            for expiry in table.certificates.expiries() {
                let same = |e: &Expiry| e.name == expiry.name && e.kind == expiry.kind;
                if expiry.name.is_empty() || all.iter().any(same) {
                    continue;
                }
                all.push(expiry);
            }
        }
        all
    }

    /// Looks whether files of certificates have changed, and shows what they hold now to new connections. Reads files: not for a
    /// core.
    pub fn refresh(&self) -> Vec<Refreshed> {
        let serving: Vec<Arc<Runtime>> = {
            let mut state = self.lock();
            state.runtimes.retain(|r| r.strong_count() > 0);
            state.runtimes.iter().filter_map(Weak::upgrade).collect()
        };
        let mut all: Vec<Refreshed> = Vec::new();
        for one in serving.iter().flat_map(|r| r.refresh_certificates()) {
            if !all.iter().any(|known| known.file == one.file) {
                all.push(one);
            }
        }
        all
    }

    /// This configuration may serve from now on.
    pub(crate) fn serves(&self, runtime: &Arc<Runtime>) {
        self.lock().runtimes.push(Arc::downgrade(runtime));
    }

    /// Turns the rings of ticket keys, if it is time.
    pub fn advance(&self) {
        let mut state = self.lock();
        state.rings.retain(|ring| ring.strong_count() > 0);
        for ring in state.rings.iter().filter_map(Weak::upgrade) {
            ring.advance(unix_now());
        }
    }

    /// The ticket keys, for the process that takes over: a secret.
    pub fn export_tickets(&self) -> Vec<u8> {
        let state = self.lock();
        match &state.tickets {
            Some(tickets) => tickets.keys.export(),
            // Not used yet, perhaps by the next one.
            None => state.bequest.clone(),
        }
    }

    /// Takes the ticket keys of the process before us. To be called before the first configuration is built.
    pub fn import_tickets(&self, keys: Vec<u8>) {
        self.lock().bequest = keys;
    }

    /// The ring that this configuration asks for: the present one, if it asks for the same.
    pub(super) fn tickets(&self, of: &TlsTickets) -> Result<Arc<TicketKeys>, Problem> {
        let mut state = self.lock();
        if let Some(known) = state.tickets.as_ref().filter(|t| t.of == *of) {
            return Ok(Arc::clone(&known.keys));
        }
        let rotation = of.rotate.as_secs().max(1);
        let keys = match &of.secret {
            Some(secret) => TicketKeys::shared(secret.expose().as_bytes(), unix_now(), rotation)?,
            None => {
                let keys = TicketKeys::random(unix_now(), rotation);
                if let Some(before) = state.tickets.as_ref().filter(|t| t.of.secret.is_none()) {
                    // Another rotation alone: what was sealed stays good.
                    keys.import(&before.keys.export());
                } else if !state.bequest.is_empty() && !keys.import(&state.bequest) {
                    tracing::warn!(
                        "the ticket keys of the process before cannot be used: its sessions begin anew"
                    );
                }
                keys
            }
        };
        state.rings.push(Arc::downgrade(&keys));
        state.tickets = Some(Tickets {
            of: of.clone(),
            keys: Arc::clone(&keys),
        });
        Ok(keys)
    }

    /// Enters a table: it gets what has been obtained, and what will be.
    pub(super) fn enter(&self, table: &Arc<Table>) {
        let mut state = self.lock();
        let obtained: Vec<(String, Bundle)> = state
            .obtained
            .iter()
            .map(|(name, bundle)| (name.clone(), bundle.clone()))
            .collect();
        table.set(&obtained);
        state.living();
        state.tables.push(Arc::downgrade(table));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The tables that are in use; the others are forgotten.
    fn living(&mut self) -> Vec<Arc<Table>> {
        let living: Vec<Arc<Table>> = self.tables.iter().filter_map(Weak::upgrade).collect();
        self.tables.retain(|t| t.strong_count() > 0);
        living
    }
}

impl Table {
    fn set(&self, certificates: &[(String, Bundle)]) {
        let free: Vec<(String, Bundle)> = certificates
            .iter()
            .filter(|(name, _)| !self.by_file.contains(name))
            .cloned()
            .collect();
        if !free.is_empty() {
            self.certificates.set(&free);
        }
    }
}

/// Seconds since 1970.
pub(super) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_refused_configuration_stops_no_ring() {
        let shared = TlsShared::default();
        let rotate = |seconds| TlsTickets {
            secret: None,
            rotate: Duration::from_secs(seconds),
        };
        let serving = shared.tickets(&rotate(1)).unwrap();
        let first = serving.export();
        // Built, and refused for something else.
        shared.tickets(&rotate(3_600)).unwrap();
        let begin = Instant::now();
        while serving.export() == first {
            shared.advance();
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "it turns no more"
            );
            std::thread::yield_now();
        }
    }
}

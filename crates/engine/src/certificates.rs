//! Looks after what changes about TLS while nobody reloads: files of certificates, keys of tickets, and certificates that are about to
//! end.

use std::sync::Arc;
use std::time::Duration;

use crate::plane::Shared;
use crate::start::unix_now;

/// Files are looked at so often.
const LOOK: Duration = Duration::from_secs(2);
/// Ticket keys are looked at, in looks.
const TURN: u64 = 30;
/// Certificates that are about to end are told of, in looks.
const TELL: u64 = 6 * 60 * 60 / 2;
/// About to end: in so many seconds.
const SOON: i64 = 14 * 24 * 60 * 60;

/// Runs for ever.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for look in 0u64.. {
        ticks.tick().await;
        if look % TURN == 0 {
            shared.tls().advance();
        }
        if look % TELL == 0 {
            tell_of_ends(&shared);
        }
        let files = Arc::clone(&shared);
        let Ok(refreshed) = tokio::task::spawn_blocking(move || files.tls().refresh()).await else {
            continue;
        };
        for one in refreshed {
            let file = one.file.display();
            match one.result {
                Ok(()) => tracing::info!(%file, "a certificate has changed and is in use"),
                Err(problem) => tracing::error!(
                    %file,
                    "a certificate has changed and cannot be used; the one before stays: {problem}"
                ),
            }
        }
    }
}

fn tell_of_ends(shared: &Shared) {
    let now = unix_now().cast_signed();
    for expiry in shared.tls().expiries() {
        let left = expiry.not_after - now;
        if left > SOON {
            continue;
        }
        let days = left / 86_400;
        let (name, key) = (&expiry.name, expiry.kind.as_str());
        if left < 0 {
            tracing::error!(name, key, "the certificate has expired: clients refuse it");
        } else {
            tracing::warn!(name, key, days, "the certificate ends soon");
        }
    }
}

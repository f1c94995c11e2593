//! A server's marks: what failures, trials and checks make of it.

use std::sync::atomic::Ordering;

use super::{Active, Endpoint, Record};
use crate::breaker::{Rule, most_out};
use crate::clock::{monotonic_ms, wall_ms};
use crate::cluster::Cluster;

/// A trial of an ejected server that nobody has heard of for so long may be repeated by another request.
const TRIAL_MS: u64 = 10_000;

/// How an attempt ended, for passive marking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Well.
    Ok,
    /// With this status; a failure if the upstream retries on it.
    Status(u16),
    /// The connect failed by the server's fault: see [`crate::ConnectErrorKind::blames_server`].
    ConnectFailed,
    /// The connection died before the response was complete. Not for a reused connection that died before any byte of
    /// a response: that is the race of keep-alive, nobody's fault.
    Reset,
    /// The response did not come in time.
    Timeout,
    /// What came is not a response.
    Invalid,
}

impl Report {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Status(_) => "failing status",
            Self::ConnectFailed => "connect failed",
            Self::Reset => "connection reset",
            Self::Timeout => "response timeout",
            Self::Invalid => "invalid response",
        }
    }
}

impl Record {
    pub(super) fn changed(&mut self, reason: String) {
        self.since = wall_ms();
        self.reason = reason;
    }
}

impl Endpoint {
    /// Call when the server was chosen: is it out, so that this request is its trial? `Err` if another request is.
    #[inline]
    pub(crate) fn enter(&self, now: u64) -> Result<bool, ()> {
        let until = self.out_until.load(Ordering::Relaxed);
        if until == 0 {
            return Ok(false);
        }
        if until > now {
            return Err(());
        }
        let moved = self.out_until.compare_exchange(
            until,
            now.saturating_add(TRIAL_MS),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if moved.is_err() {
            return Err(());
        }
        self.trial.store(1, Ordering::Relaxed);
        Ok(true)
    }

    /// The request that tried the server ended without a verdict: let another try.
    pub(crate) fn trial_abandoned(&self, now: u64) {
        if self.trial.swap(0, Ordering::Relaxed) != 0 {
            self.out_until.store(now, Ordering::Release);
        }
    }

    /// A trial succeeded.
    pub(crate) fn recovered(&self, cluster: &Cluster) {
        let mut record = self.record();
        if record.breaker.success() || self.is_out() {
            self.come_back(&mut record, "a trial request succeeded".to_owned());
            drop(record);
            cluster.health_moved();
            tracing::info!(
                upstream = cluster.name(),
                server = self.name,
                "server is back: a trial request succeeded"
            );
        }
    }

    fn come_back(&self, record: &mut Record, reason: String) {
        self.returned.store(monotonic_ms(), Ordering::Relaxed);
        self.trial.store(0, Ordering::Relaxed);
        self.out_until.store(0, Ordering::Release);
        record.changed(reason);
    }

    /// A failure that the server is to blame for.
    pub(crate) fn failed(&self, cluster: &Cluster, report: Report, trial: bool, now: u64) {
        let settings = cluster.settings();
        let mut record = self.record();
        let what = match report {
            Report::Status(status) => format!("status {status}"),
            other => other.word().to_owned(),
        };
        record.last_error = Some((what, wall_ms()));
        let Some(until) = record.breaker.failure(
            now,
            self.requests().saturating_sub(self.given_up()),
            trial,
            Rule::from(&settings.eject),
        ) else {
            return;
        };
        let reason = format!("it keeps failing: {}", report.word());
        if !self.take_out(cluster, &mut record, reason, now, until) && trial {
            // It stays in, for want of others; the next request is a trial again.
            self.out_until.store(now, Ordering::Release);
            self.trial.store(0, Ordering::Relaxed);
            cluster.health_moved();
        }
    }

    /// Its rate of success is far below the group's. Says whether it was taken out.
    pub(crate) fn is_outlier(&self, cluster: &Cluster, percent: u64, now: u64) -> bool {
        let settings = cluster.settings();
        let mut record = self.record();
        let Some(until) = record.breaker.outlier(now, Rule::from(&settings.eject)) else {
            return false;
        };
        let reason = format!(
            "{percent}% of its requests ended well in the last {} s, far fewer than elsewhere",
            settings.eject.within.as_secs().max(1)
        );
        self.take_out(cluster, &mut record, reason, now, until)
    }

    /// Takes it out, unless too many are.
    fn take_out(
        &self,
        cluster: &Cluster,
        record: &mut Record,
        reason: String,
        now: u64,
        until: u64,
    ) -> bool {
        let turn = cluster.ejecting();
        let set = cluster.set();
        let others = set
            .members
            .iter()
            .filter(|m| m.endpoint.id != self.id && m.endpoint.is_ejected(now))
            .count();
        if others >= most_out(set.members.len(), cluster.settings().eject.at_most) {
            return false;
        }
        record.breaker.eject(now, until);
        record.ejections = record.ejections.saturating_add(1);
        self.trial.store(0, Ordering::Relaxed);
        self.out_until.store(until, Ordering::Release);
        drop(turn);
        let seconds = until.saturating_sub(now).div_ceil(1_000);
        tracing::warn!(
            upstream = cluster.name(),
            server = self.name,
            reason,
            seconds,
            "server is taken out"
        );
        record.changed(reason);
        cluster.health_moved();
        true
    }

    /// The active check came to a verdict, or has ended. Says whether anything changed.
    pub(crate) fn set_active(
        &self,
        cluster: &Cluster,
        active: Active,
        error: Option<&str>,
    ) -> bool {
        let old = self.active();
        if old == active && error.is_none() {
            return false;
        }
        self.active.store(active as u8, Ordering::Relaxed);
        let mut record = self.record();
        if let Some(error) = error {
            record.last_error = Some((format!("health check: {error}"), wall_ms()));
        }
        if old == active {
            return false;
        }
        if active == Active::Up && matches!(old, Active::Unwell | Active::Gone) {
            record.breaker.reset();
            self.come_back(&mut record, "health check: succeeds again".to_owned());
        } else {
            record.changed(match (active, error) {
                (_, Some(error)) => format!("health check: {error}"),
                (Active::Up, None) => "health check: succeeds".to_owned(),
                (_, None) => String::new(),
            });
        }
        drop(record);
        cluster.health_moved();
        true
    }
}

//! What an operator wants gone: addresses that are taken down, and the method `PURGE` of clients that may say it.

use narthex_cache::store::Purge;
use narthex_message::{Body, Method, RequestFacts};
use narthex_net::rt;

use crate::answer::Answer;
use crate::connection::Next;
use crate::fail::Failure;
use crate::handle::Exchange;

pub(super) const PURGE: &[u8] = b"PURGE";

impl Exchange<'_> {
    /// Refuses what has been taken down, on every route of the host. One load if nothing has.
    #[inline]
    pub(crate) fn not_blocked(&self) -> Result<(), Failure> {
        if self.proxy.shared.cache.blocks_nothing() {
            return Ok(());
        }
        self.is_not_blocked()
    }

    #[cold]
    fn is_not_blocked(&self) -> Result<(), Failure> {
        let blocked = self.proxy.shared.cache.blocked(
            self.host.of(&self.work),
            self.path.bytes(&self.work),
            self.query.map(|q| q.of(&self.work.input)),
            rt::wall_ms(),
        );
        match blocked {
            None => Ok(()),
            Some(blocked) => Err(Failure::Blocked(blocked.status)),
        }
    }

    /// Is it a `PURGE` of a client that the rule of a GET's route lets purge? From others it is a method like any other.
    pub(crate) fn may_purge(&self, facts: &RequestFacts) -> bool {
        let Some(client) = self.identity.ip else {
            return false;
        };
        if facts.method != Method::Other
            || facts.body != Body::None
            || facts.asks_server()
            || self.head().method() != PURGE
        {
            return false;
        }
        let work = &self.work;
        let query = self.query.map(|q| q.of(&work.input));
        self.cached_route(work, self.path.bytes(work), query)
            .is_some_and(|(_, rule, _)| rule.purge_from.contains(client))
    }

    /// Forgets the path, whatever the query, and answers whether something was stored under the address as it was asked.
    pub(crate) async fn answer_purge(&mut self) -> Next {
        let work = &self.work;
        let (host, path) = (self.host.of(work), self.path.bytes(work));
        let query = self.query.map(|q| q.of(&work.input));
        let objects = self.forget(work, path, query);
        let shared = &self.proxy.shared;
        let purged = shared.cache.purge_soon(&Purge::Path { host, path }, false);
        let path = String::from_utf8_lossy(path);
        tracing::info!(target: "audit", client = ?self.identity.ip, host, path = %path, objects, "PURGE");
        let cache = &self.proxy.shared.cache;
        let durable = std::future::poll_fn(|cx| cache.poll_durable(purged.sequence, cx)).await;
        // who connects again meets the process that has the cache
        let is_elsewhere = shared.has_handed_over_cache();
        let (status, body) = match objects {
            _ if is_elsewhere => (
                503,
                "another process serves by now; connect again\n".to_owned(),
            ),
            _ if durable.is_err() => (
                500,
                format!(
                    "purged {host}{path}, but the cache on disk cannot write that down: a restart would undo it\n"
                ),
            ),
            Some(0) => (404, format!("nothing was stored of {host}{path}\n")),
            Some(1) => (200, format!("purged {host}{path}: 1 object\n")),
            Some(n) => (200, format!("purged {host}{path}: {n} objects\n")),
            None => (200, format!("purged {host}{path}\n")),
        };
        self.answer(Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.as_bytes(),
            location: None,
            reason: None,
            close: is_elsewhere,
            grpc: None,
        })
        .await
    }
}

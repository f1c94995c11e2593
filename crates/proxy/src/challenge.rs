//! What certificate authorities ask for over plain HTTP (RFC 8555 section 8.3).
//!
//! Only exactly a live token of exactly this host is answered here. Every other request for a path of that look goes where the
//! routes say, through every filter that they have: the path opens no way around them (TL-10).

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use narthex_message::{Method, RequestFacts};

use crate::answer::Answer;
use crate::connection::Next;
use crate::handle::Exchange;

/// Where authorities look.
const PREFIX: &[u8] = b"/.well-known/acme-challenge/";

impl Exchange<'_> {
    /// The answer to a challenge, if this is one that is live.
    pub(crate) fn challenge(&self, facts: &RequestFacts) -> Option<Arc<str>> {
        let challenges = self.proxy.shared.tls().challenges();
        if challenges.is_empty() || !matches!(facts.method, Method::Get | Method::Head) {
            return None;
        }
        // The path as it came: what is written differently is something else.
        let token = facts.path.of(&self.work.input).strip_prefix(PREFIX)?;
        let token = std::str::from_utf8(token).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        challenges.http(
            self.host.of(&self.work),
            token,
            now.map_or(0, |d| d.as_secs()),
        )
    }

    /// Answers it.
    pub(crate) async fn answer_token(&mut self, answer: &str) -> Next {
        self.answer(Answer {
            status: 200,
            content_type: "application/octet-stream",
            body: answer.as_bytes(),
            location: None,
            reason: None,
            close: false,
            grpc: None,
        })
        .await
    }
}

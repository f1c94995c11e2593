//! The check `"tcp"`: a connection; and perhaps some bytes, and what the answer must begin with.

use narthex_config::model::TcpProbe;
use narthex_net::stream::Stream;

use super::{Ended, lost, receive, send};

/// What is sent, and what is to come.
#[derive(Debug)]
pub(super) struct Question {
    send: Vec<u8>,
    expect: Vec<u8>,
}

impl Question {
    pub(super) fn new(probe: &TcpProbe) -> Self {
        let bytes = |text: &Option<String>| text.clone().unwrap_or_default().into_bytes();
        Self {
            send: bytes(&probe.send),
            expect: bytes(&probe.expect),
        }
    }

    /// The connection is never kept: that it was accepted is what is asked.
    pub(super) async fn exchange(&self, stream: &Stream, greeting: &[u8]) -> Ended {
        if let Err(error) = send(stream, greeting, &self.send).await {
            return Ended::Died(lost(&error));
        }
        let mut rest = self.expect.as_slice();
        while !rest.is_empty() {
            let left = receive(stream, |came| match came {
                Ok([]) => Err("the connection ended before the answer".to_owned()),
                Ok(came) => {
                    let came = came.get(..rest.len()).unwrap_or(came);
                    let left = rest.strip_prefix(came);
                    left.ok_or_else(|| "the answer is not what is expected".to_owned())
                }
                Err(error) => Err(lost(&error)),
            });
            match left.await {
                Ok(left) => rest = left,
                Err(words) => return Ended::Bad(words),
            }
        }
        Ended::Good { clean: false }
    }
}

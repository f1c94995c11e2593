//! The check `"tcp"`: a connection; and perhaps some bytes, and what the answer must begin with.

use narthex_config::model::TcpProbe;
use narthex_net::stream::Stream;

use super::{Ended, lost, send};

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
        let mut buffer = [0u8; 1024];
        let mut rest = self.expect.as_slice();
        while !rest.is_empty() {
            let n = match stream.recv(&mut buffer).await {
                Ok(0) => return Ended::Bad("the connection ended before the answer".to_owned()),
                Ok(n) => n,
                Err(error) => return Ended::Bad(lost(&error)),
            };
            let came = buffer.get(..n.min(rest.len())).unwrap_or_default();
            match rest.strip_prefix(came) {
                Some(left) => rest = left,
                None => return Ended::Bad("the answer is not what is expected".to_owned()),
            }
        }
        Ended::Good { clean: false }
    }
}

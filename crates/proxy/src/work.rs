//! The memory of one exchange, borrowed from the core's pool while a request is under way: an idle connection owns none.

use narthex_message::{Edits, Index};
use narthex_route::Captures;

/// Buffers larger than this are not kept when they come back.
const KEEP: usize = 64 * 1024;

/// Everything that an exchange needs to remember between turns.
#[derive(Default)]
pub(crate) struct Work {
    /// What the client sent: head, then what followed it.
    pub(crate) input: Vec<u8>,
    /// First byte of `input` that nobody has taken.
    pub(crate) taken: usize,
    /// Index over the request's head.
    pub(crate) index: Index,
    /// The canonical path, if it differs from what was sent.
    pub(crate) path: String,
    /// What filters do to the request's head.
    pub(crate) edits: Edits,
    /// What the route's path captured.
    pub(crate) captures: Captures,
    /// The beginning of a response head that has not arrived whole.
    pub(crate) response: Vec<u8>,
    /// Index over the response's head.
    pub(crate) response_index: Option<Box<Index>>,
    /// What filters do to the response's head.
    pub(crate) response_edits: Option<Box<Edits>>,
    /// The key under which the cache has it.
    pub(crate) key: Vec<u8>,
    /// Its hash.
    pub(crate) key_hash: u64,
    /// Bytes on their way to the origin.
    pub(crate) up: Vec<u8>,
    /// Bytes on their way to the client.
    pub(crate) down: Vec<u8>,
    /// Request body bytes kept for another attempt.
    pub(crate) replay: Vec<u8>,
    /// The request's trailer section, as it arrives.
    pub(crate) request_trailers: Vec<u8>,
    /// The response's trailer section, as it arrives. Apart from the request's: both may be arriving at once.
    pub(crate) response_trailers: Vec<u8>,
    /// Is in an exchange's place of this one while a relay has it. Always empty.
    pub(crate) stand_in: Option<Box<Self>>,
}

impl Work {
    /// Forgets everything, keeps modest memory.
    pub(crate) fn reset(&mut self) {
        for buffer in [
            &mut self.input,
            &mut self.response,
            &mut self.up,
            &mut self.down,
            &mut self.replay,
            &mut self.request_trailers,
            &mut self.response_trailers,
        ] {
            if buffer.capacity() > KEEP {
                *buffer = Vec::new();
            } else {
                buffer.clear();
            }
        }
        self.taken = 0;
        self.index.clear();
        self.path.clear();
        self.edits.clear();
    }

    /// The response's index, to be given back. Boxed, as it is lent for a while for every response; who begins with it clears it.
    #[inline]
    #[expect(clippy::unnecessary_box_returns, reason = "the box is what is lent")]
    pub(crate) fn take_response_index(&mut self) -> Box<Index> {
        self.response_index.take().unwrap_or_default()
    }

    /// The same of the edits.
    #[inline]
    #[expect(clippy::unnecessary_box_returns, reason = "the box is what is lent")]
    pub(crate) fn take_response_edits(&mut self) -> Box<Edits> {
        self.response_edits.take().unwrap_or_default()
    }

    /// Bytes of memory in the buffers that grow with what is sent to us.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        // No sum of capacities overflows: they are all in memory.
        self.input.capacity()
            + self.response.capacity()
            + self.up.capacity()
            + self.down.capacity()
            + self.replay.capacity()
            + self.request_trailers.capacity()
            + self.response_trailers.capacity()
    }

    /// Gives back what is not needed to answer and to tell: the request's head stays.
    pub(crate) fn give_up_buffers(&mut self) {
        self.input.truncate(self.taken);
        self.input.shrink_to_fit();
        for buffer in [
            &mut self.response,
            &mut self.up,
            &mut self.down,
            &mut self.replay,
            &mut self.request_trailers,
            &mut self.response_trailers,
        ] {
            *buffer = Vec::new();
        }
    }

    /// What the client sent and nobody has taken.
    pub(crate) fn rest(&self) -> &[u8] {
        self.input.get(self.taken..).unwrap_or_default()
    }
}

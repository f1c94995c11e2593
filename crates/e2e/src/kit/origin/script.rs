//! What an origin does with one request: a list of steps.

use std::time::Duration;

/// One thing an origin does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads the request body to its end. Done after the script anyway, unless [`Step::IgnoreBody`] was met.
    ReadBody,
    /// Reads at least this many raw bytes beyond the head (or to the end of the message, when less).
    ReadSome(usize),
    /// Treats the message as ended after its head, as origins with the CL.0 flaw do.
    IgnoreBody,
    /// The usual answer with this status: describes the request, carries its id.
    Echo(u16),
    /// Exactly these bytes.
    Send(Vec<u8>),
    /// These bytes, `piece` at a time with a pause after each.
    SendSlow {
        /// What.
        bytes: Vec<u8>,
        /// How many at once.
        piece: usize,
        /// Pause.
        gap: Duration,
    },
    /// A block many times over.
    SendMany {
        /// The block.
        block: Vec<u8>,
        /// How often.
        times: usize,
    },
    /// Lets time pass (ends early when the origin stops).
    Pause(Duration),
    /// Waits for one of so many workers of the origin, which then takes so long.
    Work {
        /// How many there are, for all connections.
        workers: usize,
        /// For one request.
        time: Duration,
    },
    /// Waits until the test opens this gate.
    Gate(String),
    /// Opens a gate, so that the test knows how far we are.
    Reached(String),
    /// Reads until the peer ends the connection.
    AwaitEnd,
    /// Sends back every byte that comes until the peer ends.
    Reflect,
    /// FIN on our direction, then goes on reading.
    HalfClose,
    /// FIN on both.
    Close,
    /// RST.
    Reset,
}

/// Steps in order.
#[derive(Debug, Clone, Default)]
pub struct Script(pub Vec<Step>);

impl From<Vec<Step>> for Script {
    fn from(v: Vec<Step>) -> Self {
        Self(v)
    }
}

impl<const N: usize> From<[Step; N]> for Script {
    fn from(v: [Step; N]) -> Self {
        Self(v.to_vec())
    }
}

/// Reads everything, then answers as usual.
pub fn echo(status: u16) -> Script {
    Script(vec![Step::ReadBody, Step::Echo(status)])
}

/// Reads everything, then sends exactly these bytes.
pub fn answer(bytes: impl AsRef<[u8]>) -> Script {
    Script(vec![Step::ReadBody, Step::Send(bytes.as_ref().to_vec())])
}

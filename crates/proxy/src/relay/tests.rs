//! The machine on two pairs of sockets.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::task::Context;

use narthex_message::Edits;

use super::*;
use crate::testkit::on_core;

/// An answer as it comes.
struct Plain;

impl Downstream for Plain {
    fn go_on(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    fn informational(&mut self, _: Head<'_>, _: &ResponseFacts, _: &mut Vec<u8>) {}

    fn begin(
        &mut self,
        _: &Work,
        _: Head<'_>,
        facts: &ResponseFacts,
        _: bool,
        _: &mut Edits,
        _: &mut Vec<u8>,
    ) -> Begun {
        Begun {
            sent: 0,
            framing: facts.body,
            replaced: false,
            fill: None,
        }
    }
}

fn bounds() -> Bounds {
    let limits = HeadLimits {
        line: 8_192,
        field: 8_192,
        head: 65_536,
        fields: 100,
    };
    Bounds {
        client_body_idle: 60_000,
        client_send_idle: 60_000,
        min_rate: 0,
        min_rate_after: 0,
        informational: 8,
        chunk_extension: 1_024,
        response_limits: limits,
        trailer_limits: limits,
    }
}

const OWN: AttemptBounds = AttemptBounds {
    response: 60_000,
    upstream_idle: 60_000,
    body_max: u64::MAX,
    replay_max: 0,
    deadline: u64::MAX,
    call_idle: 0,
};

/// Ours, and the other end.
fn pair() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (Stream::new(OwnedFd::from(ours)).unwrap(), theirs)
}

#[test]
fn a_server_that_takes_no_byte_stops_the_client() {
    on_core(|| async {
        let (client, mut sender) = pair();
        let (upstream, _server) = pair();
        upstream.writable().await;
        // From before: not a byte more has room.
        let block = vec![b'x'; 65_536];
        while upstream.try_send(&block).is_ok() {}
        let (bounds, mut work) = (bounds(), Work::default());
        work.up.extend_from_slice(b"POST / HTTP/1.1\r\n\r\n");
        let mut relay = Relay::new(
            &client,
            &upstream,
            &mut work,
            Plain,
            &bounds,
            OWN,
            Method::Post,
            Version::Http11,
            Source::Length(u64::MAX),
        );
        // It may look once before it has heard that there is no room, and never again.
        for _ in 0..50 {
            while sender.write(&block).is_ok() {}
            client.readable().await;
            let polled = std::future::poll_fn(|cx: &mut Context<'_>| Poll::Ready(relay.poll(cx)));
            assert!(polled.await.is_pending());
        }
        assert!(relay.received <= 2 * BULK as u64, "{}", relay.received);
        assert!(relay.work.up.len() <= 2 * BULK);
    });
}

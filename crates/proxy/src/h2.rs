//! HTTP/2 with clients: what a connection of many streams needs to know of the proxy. A stream is an exchange like any other
//! ([`crate::handle`]). The page is `docs/http2.md`.

use std::rc::Rc;

use narthex_message::{Index, Reject};
use narthex_mux::{Driver, Ended, Head, MuxStream, Owner, Session};
use narthex_net::accept::Peer;
use narthex_net::rt;
use narthex_net::stream::{Stream, Virtual};
use narthex_wire::h2::{Bounds, ErrorCode, Fatal, Role};

use crate::connection::{Client, Next, linger};
use crate::core::CoreProxy;
use crate::handle;
use crate::tls;
use crate::work::Work;

/// Serves a connection to its end; `client.input` has what came of it.
pub(crate) async fn serve(proxy: Rc<CoreProxy>, mut client: Client) {
    let Some(bounds) = bounds(&proxy, &client) else {
        return;
    };
    let session = Session::new(Role::Server, bounds);
    let _listed = proxy.list_session(&session);
    let lingering = Rc::clone(&proxy);
    let owner = Server {
        proxy,
        peer: client.peer,
        listener: client.listener,
        opened_ms: client.opened_ms,
        tls: client.tls.clone(),
        work: None,
    };
    let input = std::mem::take(&mut client.input);
    let ended = Driver::new(&session, &client.stream, owner)
        .run(input)
        .await;
    drop(session);
    if ended == Ended::Said {
        Box::pin(linger(&lingering, &client)).await;
    }
}

fn bounds(proxy: &CoreProxy, client: &Client) -> Option<Bounds> {
    let (rt_, index, _) = proxy.runtime_for(client.listener)?;
    let plan = rt_.runtime.listeners.get(index)?;
    let config = rt_.runtime.config.listeners.get(index)?;
    Some(Bounds {
        head: plan.head_limits,
        streams: config.http2.streams,
        secure: Some(client.is_secure()),
        ..Bounds::default()
    })
}

/// The proxy behind one connection.
struct Server {
    proxy: Rc<CoreProxy>,
    peer: Peer,
    listener: u32,
    opened_ms: u64,
    tls: Option<Rc<tls::Session>>,
    /// The memory of the exchange that is about to begin.
    work: Option<Box<Work>>,
}

impl Owner for Server {
    fn memory(&mut self) -> (Vec<u8>, Index) {
        let work = self.work.get_or_insert_with(|| self.proxy.take_work());
        (
            std::mem::take(&mut work.input),
            std::mem::take(&mut work.index),
        )
    }

    fn request(&mut self, stream: Rc<MuxStream>, head: Head) {
        let mut work = self.work.take().unwrap_or_else(|| self.proxy.take_work());
        work.input = head.bytes;
        work.index = head.index;
        let client = Client {
            stream: Stream::of_many(Rc::clone(&stream) as Rc<dyn Virtual>),
            peer: self.peer,
            listener: self.listener,
            requests: 0,
            opened_ms: self.opened_ms,
            input: Vec::new(),
            h2: Some(stream),
            tls: self.tls.clone(),
        };
        let proxy = Rc::clone(&self.proxy);
        let refused = head.oversize.map(Reject::from);
        rt::spawn(exchange(proxy, client, work, refused));
    }

    fn must_go(&self, session: &Session, idle_since: Option<u64>, now: u64) -> bool {
        let Some((rt_, index, live)) = self.proxy.runtime_for(self.listener) else {
            return true;
        };
        let (Some(plan), Some(config)) = (
            rt_.runtime.listeners.get(index),
            rt_.runtime.config.listeners.get(index),
        ) else {
            return true;
        };
        let idle = idle_since.is_some_and(|since| {
            now.saturating_sub(since) >= plan.keep_alive_ms || self.proxy.closes_idle()
        });
        let old = plan.max_age_ms > 0 && now.saturating_sub(self.opened_ms) >= plan.max_age_ms;
        !live
            || idle
            || old
            || self.proxy.is_draining()
            || self.proxy.ends_keep_alive()
            || session.requests() >= u64::from(config.connections.requests)
    }

    fn next_look(&self, idle_since: Option<u64>) -> Option<u64> {
        let (rt_, index, _) = self.proxy.runtime_for(self.listener)?;
        let plan = rt_.runtime.listeners.get(index)?;
        let idle = idle_since.map(|since| since.saturating_add(plan.keep_alive_ms));
        let age = (plan.max_age_ms > 0).then(|| self.opened_ms.saturating_add(plan.max_age_ms));
        [idle, age].into_iter().flatten().min()
    }

    fn broken(&self, fatal: Fatal) {
        self.proxy.failed(fatal.code.word(), "client");
    }
}

/// A stream's place, given back whatever way its exchange ends.
struct Place(Rc<MuxStream>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// One request and its answer.
async fn exchange(
    proxy: Rc<CoreProxy>,
    mut client: Client,
    work: Box<Work>,
    refused: Option<Reject>,
) {
    let Some(stream) = client.h2.clone() else {
        return;
    };
    let place = Place(stream);
    let next = rt::Recycled::new(|| handle::exchange_of(&proxy, &mut client, work, refused)).await;
    if next == Next::Reset {
        place.0.abort(ErrorCode::INTERNAL_ERROR);
    }
}

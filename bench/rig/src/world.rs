//! The loop: origin connections, load connections and commands, one event at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write as _;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::net::{SocketFlags, accept_with, sockopt};
use rustix::time::{ClockId, clock_gettime};

use crate::client::{Client, Turn};
use crate::load::{Load, Order, Tally};
use crate::origin::{Origin, Shared};
use crate::poll::{Poll, Token, dial, listener};
use crate::watch::{Sample, sample};

enum Slot {
    Listener(OwnedFd),
    Commands,
    Origin(Origin),
    Client(Client),
}

struct World {
    poll: Poll,
    slots: Vec<(u32, Option<Slot>)>,
    free: Vec<u32>,
    shared: Shared,
    events: Vec<(Token, EventFlags)>,
    typed: Vec<u8>,
    ended: bool,
    load: Option<Load>,
    /// Answers of the origin that wait, and until when.
    later: BinaryHeap<Reverse<(u64, Token)>>,
}

/// Nanoseconds of the monotonic clock.
fn now() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Runs until standard input ends.
pub fn serve(origin: Option<SocketAddrV4>) -> Result<(), String> {
    let mut world = World {
        poll: Poll::new().map_err(|e| e.to_string())?,
        slots: Vec::new(),
        free: Vec::new(),
        shared: Shared::default(),
        events: Vec::new(),
        typed: Vec::new(),
        ended: false,
        load: None,
        later: BinaryHeap::new(),
    };
    let token = world.insert(Slot::Commands);
    world
        .poll
        .add(std::io::stdin(), token, true)
        .map_err(|e| format!("standard input must be a pipe: {e}"))?;
    if let Some(address) = origin {
        let fd = listener(address).map_err(|e| format!("cannot listen on {address}: {e}"))?;
        let token = world.next_token();
        world
            .poll
            .add(&fd, token, true)
            .map_err(|e| e.to_string())?;
        world.insert(Slot::Listener(fd));
    }
    println!("ready");
    world.run();
    Ok(())
}

impl World {
    fn run(&mut self) {
        loop {
            while let Some(line) = self.command() {
                let answer = match Order::parse(&line) {
                    _ if line == "asked" => format!("ok asked={}", self.shared.asked),
                    Ok(order) if order.is_burst => self.burst(order),
                    Ok(order) if order.hold.is_some() => self.idle(order),
                    Ok(order) => self.load(order),
                    Err(why) => format!("error {why}"),
                };
                let mut out = std::io::stdout().lock();
                let _ = writeln!(out, "{answer}");
                let _ = out.flush();
            }
            if self.ended {
                return;
            }
            self.turn(Duration::from_secs(1));
        }
    }

    fn command(&mut self) -> Option<String> {
        let end = self.typed.iter().position(|b| *b == b'\n')?;
        let line: Vec<u8> = self.typed.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim().to_owned())
    }

    fn next_token(&self) -> Token {
        let slot = self.free.last().copied();
        let slot = slot.unwrap_or(self.slots.len() as u32);
        let generation = self.slots.get(slot as usize).map_or(0, |s| s.0);
        Token { slot, generation }
    }

    fn insert(&mut self, what: Slot) -> Token {
        let token = self.next_token();
        if self.free.pop().is_some() {
            self.slots[token.slot as usize].1 = Some(what);
        } else {
            self.slots.push((0, Some(what)));
        }
        token
    }

    fn remove(&mut self, token: Token) {
        let slot = &mut self.slots[token.slot as usize];
        slot.0 = slot.0.wrapping_add(1);
        slot.1 = None;
        self.free.push(token.slot);
    }

    /// One wait, and everything that came of it.
    fn turn(&mut self, limit: Duration) {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let limit = match self.later.peek() {
            None => limit,
            Some(Reverse((due, _))) => limit.min(Duration::from_nanos(due.saturating_sub(now()))),
        };
        self.poll.wait(limit, &mut events);
        for (token, flags) in &events {
            self.event(*token, *flags);
        }
        self.events = events;
        self.speak();
    }

    /// Gives the answers whose time has come.
    fn speak(&mut self) {
        while let Some(Reverse((due, token))) = self.later.peek().copied()
            && due <= now()
        {
            self.later.pop();
            let Some((generation, slot)) = self.slots.get_mut(token.slot as usize) else {
                continue;
            };
            if *generation == token.generation
                && let Some(Slot::Origin(mut origin)) = slot.take()
            {
                let lives = origin.speak(&mut self.shared);
                self.origin_after(token, origin, lives);
            }
        }
    }

    fn origin_after(&mut self, token: Token, mut origin: Origin, lives: bool) {
        if !lives {
            return self.remove(token);
        }
        if let Some(wait) = origin.waits() {
            self.later.push(Reverse((now() + wait, token)));
        }
        self.slots[token.slot as usize].1 = Some(Slot::Origin(origin));
    }

    fn event(&mut self, token: Token, flags: EventFlags) {
        let Some((generation, slot)) = self.slots.get_mut(token.slot as usize) else {
            return;
        };
        if *generation != token.generation {
            return;
        }
        match slot.take() {
            None => {}
            Some(Slot::Commands) => {
                self.slots[token.slot as usize].1 = Some(Slot::Commands);
                self.read_commands();
            }
            Some(Slot::Listener(fd)) => {
                self.accept(&fd);
                self.slots[token.slot as usize].1 = Some(Slot::Listener(fd));
            }
            Some(Slot::Origin(mut origin)) => {
                let lives = origin.ready(&mut self.shared);
                self.origin_after(token, origin, lives);
            }
            Some(Slot::Client(client)) => self.client_event(token, client, flags),
        }
    }

    fn read_commands(&mut self) {
        let mut space = [0; 1024];
        match rustix::io::read(std::io::stdin(), &mut space) {
            Ok(0) | Err(_) => self.ended = true,
            Ok(n) => self.typed.extend_from_slice(&space[..n]),
        }
    }

    fn accept(&mut self, fd: &OwnedFd) {
        while let Ok(conn) = accept_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            let _ = sockopt::set_tcp_nodelay(&conn, true);
            let token = self.next_token();
            if self.poll.add(&conn, token, false).is_ok() {
                self.insert(Slot::Origin(Origin::new(conn)));
            }
        }
    }

    // --- the load

    fn open(&mut self) {
        let Some(load) = &mut self.load else { return };
        let (target, fresh) = (load.order.target, load.order.fresh);
        let fd = match dial(target, fresh) {
            Ok(fd) => fd,
            Err(_) => {
                load.tally.no_connect += 1;
                return;
            }
        };
        load.open += 1;
        let token = self.next_token();
        if self.poll.add(&fd, token, false).is_ok() {
            self.insert(Slot::Client(Client::new(fd)));
        }
    }

    fn client_event(&mut self, token: Token, mut client: Client, flags: EventFlags) {
        let Some(load) = &mut self.load else {
            self.remove(token);
            return;
        };
        let writable = flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP);
        let was_busy = client.is_busy();
        let turn = client.ready(writable, load.order.request(client.key), &mut self.shared);
        load.tally.bytes += std::mem::take(&mut client.received);
        if was_busy && !client.is_busy() {
            load.busy -= 1;
        }
        self.after(token, client, turn);
    }

    /// What follows from a turn.
    fn after(&mut self, token: Token, client: Client, turn: Turn) {
        let Some(load) = &mut self.load else { return };
        match turn {
            Turn::Wait => self.keep(token, client),
            Turn::Connected => self.next_request(token, client),
            Turn::Answered { status, closing } => {
                load.tally.answers += 1;
                load.tally.times.add(now().saturating_sub(client.since));
                if status != 200 {
                    load.tally.not_200 += 1;
                }
                if load.order.fresh || closing {
                    self.replace(token, client);
                } else if load.order.hold.is_some() {
                    self.keep(token, client);
                } else {
                    self.next_request(token, client);
                }
            }
            Turn::Closed => {
                load.tally.closed += 1;
                load.idle.retain(|t| *t != token);
                self.replace(token, client);
            }
            Turn::Failed(how) => {
                load.tally.fail(how);
                load.idle.retain(|t| *t != token);
                if client.is_busy() {
                    load.busy -= 1;
                }
                self.replace(token, client);
            }
        }
    }

    fn keep(&mut self, token: Token, client: Client) {
        self.slots[token.slot as usize].1 = Some(Slot::Client(client));
    }

    /// Closes a connection and opens another in its place.
    fn replace(&mut self, token: Token, client: Client) {
        drop(client);
        self.remove(token);
        let Some(load) = &mut self.load else { return };
        load.open -= 1;
        if !load.stopping && load.order.hold.is_none() {
            self.open();
        }
    }

    /// The connection may ask: it does, or it waits for an arrival.
    fn next_request(&mut self, token: Token, client: Client) {
        let Some(load) = &mut self.load else { return };
        let due = if load.stopping {
            None
        } else if load.is_open_loop() {
            load.waiting.pop_front()
        } else {
            Some(now())
        };
        match due {
            Some(due) => self.ask(token, client, due),
            None => {
                load.idle.push(token);
                self.keep(token, client);
            }
        }
    }

    fn ask(&mut self, token: Token, mut client: Client, due: u64) {
        let Some(load) = &mut self.load else { return };
        load.busy += 1;
        client.key = load.next_key();
        let upload = load.order.upload;
        let turn = client.ask(load.order.request(client.key), upload, due, &self.shared);
        self.after(token, client, turn);
    }

    /// Sends what is due.
    fn arrivals(&mut self) {
        let time = now();
        while let Some(load) = &mut self.load {
            let Some(due) = load.arrival(time) else {
                return;
            };
            let since = if load.order.gentle { time } else { due };
            match load.idle.pop() {
                None => load.waiting.push_back(since),
                Some(token) => match self.slots[token.slot as usize].1.take() {
                    Some(Slot::Client(client)) => self.ask(token, client, since),
                    other => self.slots[token.slot as usize].1 = other,
                },
            }
        }
    }

    fn step(&mut self) {
        let open_loop = self
            .load
            .as_ref()
            .is_some_and(|l| l.is_open_loop() && !l.order.gentle);
        self.arrivals();
        // Milliseconds are the grain of the kernel's timeout: an open loop that wants to be exact must not sleep.
        self.turn(if open_loop {
            Duration::ZERO
        } else {
            Duration::from_millis(1)
        });
    }

    fn load(&mut self, order: Order) -> String {
        let (conns, warm, secs, count) = (order.conns, order.warm, order.secs, order.count);
        let (watch, steps) = (order.watch.clone(), order.steps);
        self.load = Some(Load::new(order, now()));
        for _ in 0..conns {
            self.open();
        }
        let begin = now();
        while now() - begin < (warm * 1e9) as u64 {
            self.step();
        }
        if steps {
            self.finish();
            self.say_and_wait("warm");
            self.resume();
        }
        if let Some(load) = &mut self.load {
            load.tally = Tally::default();
        }
        let own = [std::process::id()];
        let (before, own_before, begin) = (sample(&watch), sample(&own), now());
        loop {
            self.step();
            let answers = self.load.as_ref().map_or(0, |l| l.tally.answers);
            let enough = match count {
                Some(count) => answers >= count || now() - begin > 120_000_000_000,
                None => now() - begin >= (secs * 1e9) as u64,
            };
            if enough || self.ended {
                break;
            }
        }
        let elapsed = (now() - begin) as f64 / 1e9;
        let (after, own_after) = (sample(&watch), sample(&own));
        // The sample stands; what is under way may end in peace, and its failures still count.
        let answers = self.load.as_ref().map_or(0, |l| l.tally.answers);
        self.finish();
        if steps {
            self.say_and_wait("done");
        }
        let Some(mut load) = self.load.take() else {
            return "error no load".into();
        };
        if count.is_none() {
            load.tally.answers = answers;
        }
        let line = load.result(elapsed, before, after, (own_before, own_after));
        self.clear();
        line
    }

    /// Says a word and serves on until a line comes.
    fn say_and_wait(&mut self, word: &str) {
        println!("{word}");
        while !self.ended && self.command().is_none() {
            self.turn(Duration::from_millis(100));
        }
    }

    /// After [`World::finish`]: every idle connection of a closed loop asks again.
    fn resume(&mut self) {
        let Some(load) = &mut self.load else { return };
        load.stopping = false;
        if load.is_open_loop() {
            return;
        }
        for token in std::mem::take(&mut load.idle) {
            self.ask_now(token);
        }
    }

    fn ask_now(&mut self, token: Token) {
        match self.slots[token.slot as usize].1.take() {
            Some(Slot::Client(client)) => self.ask(token, client, now()),
            other => self.slots[token.slot as usize].1 = other,
        }
    }

    /// Opens every connection, then all of them ask; each is asked about once.
    fn burst(&mut self, order: Order) -> String {
        const OPENING: usize = 256;
        const SETTLE: u64 = 300_000_000;
        const LONGEST: u64 = 60_000_000_000;
        let (conns, watch) = (order.conns, order.watch.clone());
        let mut load = Load::new(order, now());
        load.stopping = true; // who is connected waits
        self.load = Some(load);
        let begin = now();
        while let Some(load) = &self.load {
            let (ready, open) = (load.idle.len(), load.open);
            let failed = load.tally.errors() + load.tally.closed;
            if ready >= conns || failed > 0 || now() - begin > LONGEST || self.ended {
                break;
            }
            for _ in open..conns.min(ready + OPENING) {
                self.open();
            }
            self.turn(Duration::from_millis(1));
        }
        let begin = now();
        while now() - begin < SETTLE {
            self.turn(Duration::from_millis(10));
        }
        let own = [std::process::id()];
        let (before, own_before) = (sample(&watch), sample(&own));
        let idle = self.load.as_mut().map(|l| std::mem::take(&mut l.idle));
        let begin = now();
        for (n, token) in idle.unwrap_or_default().into_iter().enumerate() {
            self.ask_now(token);
            if n % 64 == 63 {
                self.turn(Duration::ZERO); // answers may come already
            }
        }
        let sent = now() - begin;
        while self.load.as_ref().is_some_and(|l| l.busy > 0) && now() - begin < LONGEST {
            self.turn(Duration::from_millis(100));
        }
        let elapsed = (now() - begin) as f64 / 1e9;
        let (after, own_after) = (sample(&watch), sample(&own));
        let Some(load) = self.load.take() else {
            return "error no load".into();
        };
        let line = load.result(elapsed, before, after, (own_before, own_after));
        self.clear();
        format!("{line} sending_us={:.1}", sent as f64 / 1e3)
    }

    /// Lets what is under way end, at most ten seconds.
    fn finish(&mut self) {
        if let Some(load) = &mut self.load {
            load.stopping = true;
            load.waiting.clear();
        }
        let begin = now();
        while self.load.as_ref().is_some_and(|l| l.busy > 0) && now() - begin < 10_000_000_000 {
            self.turn(Duration::from_millis(10));
        }
    }

    fn idle(&mut self, order: Order) -> String {
        let (conns, hold) = (order.conns, order.hold.unwrap_or(1.0));
        let watch = order.watch.clone();
        let empty = sample(&watch);
        self.load = Some(Load::new(order, now()));
        let begin = now();
        let mut opened = 0;
        let settled = |l: &Load| (l.tally.answers + l.tally.errors()) as usize;
        while let Some(load) = &self.load {
            let done = settled(load);
            if done >= conns || now() - begin > 60_000_000_000 || self.ended {
                break;
            }
            while opened < conns && opened < done + 64 {
                self.open();
                opened += 1;
            }
            self.turn(Duration::from_millis(10));
        }
        let full: Sample = sample(&watch);
        let begin = now();
        while now() - begin < (hold * 1e9) as u64 {
            self.turn(Duration::from_millis(50));
        }
        let after = sample(&watch);
        let Some(load) = self.load.take() else {
            return "error no load".into();
        };
        self.clear();
        let page = rustix::param::page_size() as u64;
        format!(
            "ok conns={} answers={} errors={} open={} before_bytes={} after_bytes={} idle_cpu_ns={}",
            conns,
            load.tally.answers,
            load.tally.errors(),
            load.open,
            empty.pages * page,
            after.pages * page,
            after.cpu_ns.saturating_sub(full.cpu_ns),
        )
    }

    /// Closes every client; the proxy gets a moment to see it.
    fn clear(&mut self) {
        for slot in 0..self.slots.len() {
            if matches!(self.slots[slot].1, Some(Slot::Client(_))) {
                let generation = self.slots[slot].0;
                self.remove(Token {
                    slot: slot as u32,
                    generation,
                });
            }
        }
        let begin = now();
        while now() - begin < 50_000_000 {
            self.turn(Duration::from_millis(10));
        }
    }
}

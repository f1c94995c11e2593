//! Frames about the connection and about streams: SETTINGS, PING, GOAWAY, RST_STREAM, WINDOW_UPDATE, priorities.

use super::budget::most;
use super::conn::{Connection, Event, Role};
use super::error::{ErrorCode, Fatal};
use super::frame::{self, Header, MAX_31, flag, kind, setting};
use super::hpack::TABLE_SIZE;
use super::stream::Reset;

/// The largest bound of frames that a peer may have (RFC 9113 6.5.2).
const MAX_FRAME_SIZE: u32 = (1 << 24) - 1;

impl Connection {
    pub(super) fn settings(
        &mut self,
        header: Header,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Fatal> {
        if header.stream != 0 {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "SETTINGS of a stream"));
        }
        if !self.budgets.settings.spend(now, most::SETTINGS, u32::MAX) {
            return Err(self.die(ErrorCode::ENHANCE_YOUR_CALM, "SETTINGS"));
        }
        if header.has(flag::ACK) {
            self.peer.acknowledged = true;
            return Ok(());
        }
        let (pairs, []) = payload.as_chunks::<6>() else {
            return Err(self.die(ErrorCode::FRAME_SIZE_ERROR, "SETTINGS of the wrong size"));
        };
        let mut window = self.peer.initial_window;
        for [a, b, c, d, e, f] in pairs {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            let fault = match u16::from_be_bytes([*a, *b]) {
                setting::HEADER_TABLE_SIZE => {
                    self.peer.table_update |= (value as usize) < TABLE_SIZE;
                    None
                }
                setting::ENABLE_PUSH if value > 1 || (value == 1 && self.role == Role::Client) => {
                    Some(ErrorCode::PROTOCOL_ERROR)
                }
                setting::MAX_CONCURRENT_STREAMS => {
                    self.peer.max_streams = value;
                    None
                }
                setting::INITIAL_WINDOW_SIZE if value > MAX_31 => {
                    Some(ErrorCode::FLOW_CONTROL_ERROR)
                }
                setting::INITIAL_WINDOW_SIZE => {
                    window = value;
                    None
                }
                setting::MAX_FRAME_SIZE => {
                    // Ours are never larger than the smallest that this may be.
                    let allowed = frame::MAX_PAYLOAD as u32..=MAX_FRAME_SIZE;
                    (!allowed.contains(&value)).then_some(ErrorCode::PROTOCOL_ERROR)
                }
                setting::NO_RFC7540_PRIORITIES => {
                    self.peer.prioritizes |= value == 1 && self.role == Role::Server;
                    None
                }
                setting::ENABLE_CONNECT_PROTOCOL if value <= 1 => {
                    self.peer.extended_connect |= value == 1;
                    None
                }
                setting::ENABLE_CONNECT_PROTOCOL => Some(ErrorCode::PROTOCOL_ERROR),
                _ => None,
            };
            if let Some(code) = fault {
                return Err(self.die(code, "a setting that cannot be"));
            }
        }
        self.change_windows(window)?;
        if !self.peer.settings {
            // What it does not say then is not limited.
            let said = |id: u16| pairs.iter().any(|p| p.starts_with(&id.to_be_bytes()));
            if !said(setting::MAX_CONCURRENT_STREAMS) {
                self.peer.max_streams = u32::MAX;
            }
            self.peer.settings = true;
            self.partial_since = None;
        }
        self.acknowledge();
        self.pending.push_back(Event::Settings);
        Ok(())
    }

    /// INITIAL_WINDOW_SIZE changes the windows of all streams, perhaps below zero (RFC 9113 6.9.2).
    fn change_windows(&mut self, window: u32) -> Result<(), Fatal> {
        let by = i64::from(window) - i64::from(self.peer.initial_window);
        self.peer.initial_window = window;
        if by == 0 {
            return Ok(());
        }
        let mut over = false;
        for s in self.streams.iter_mut() {
            s.send += by;
            over |= s.send > i64::from(MAX_31);
        }
        if over {
            return Err(self.die(ErrorCode::FLOW_CONTROL_ERROR, "a window too large"));
        }
        Ok(())
    }

    pub(super) fn pinged(&mut self, header: Header, payload: &[u8], now: u64) -> Result<(), Fatal> {
        let Some(payload) = payload.first_chunk::<8>().filter(|_| header.stream == 0) else {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "PING of a stream"));
        };
        if header.has(flag::ACK) && self.pings > 0 {
            self.pings -= 1;
            self.pending.push_back(Event::Pong { payload: *payload });
            return Ok(());
        }
        if !self.budgets.pings.spend(now, most::PINGS, u32::MAX) {
            return Err(self.die(ErrorCode::ENHANCE_YOUR_CALM, "PING"));
        }
        if !header.has(flag::ACK) {
            self.control(kind::PING, flag::ACK, 0, payload);
        }
        Ok(())
    }

    pub(super) fn goaway_came(
        &mut self,
        header: Header,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Fatal> {
        if header.stream != 0 {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "GOAWAY of a stream"));
        }
        let (Some(last), Some(code)) = (
            frame::word(payload),
            payload.get(4..).and_then(frame::word).map(ErrorCode),
        ) else {
            return Err(self.die(ErrorCode::FRAME_SIZE_ERROR, "a GOAWAY too short"));
        };
        if self.peer_gone.is_some() {
            self.noise(now)?;
        }
        // It may be said again, with a lower number only.
        let last = (last & MAX_31).min(self.peer_gone.unwrap_or(MAX_31));
        self.peer_gone = Some(last);
        self.pending.push_back(Event::GoAway { last, code });
        if self.role == Role::Client {
            let refused: Vec<_> = self
                .streams
                .iter()
                .filter(|s| s.id > last && !s.is_over())
                .map(|s| s.id)
                .collect();
            for stream in refused {
                if let Some(s) = self.streams.get_mut(stream) {
                    s.reset = Some(Reset::Remote);
                }
                self.unwant(stream);
                self.pending.push_back(Event::Reset {
                    stream,
                    code: ErrorCode::REFUSED_STREAM,
                    remote: true,
                });
            }
        }
        Ok(())
    }

    pub(super) fn rst_stream(
        &mut self,
        header: Header,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Fatal> {
        let stream = header.stream;
        if self.is_idle(stream) {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "RST_STREAM of an idle stream"));
        }
        let code = ErrorCode(frame::word(payload).unwrap_or_default());
        let Some(s) = self.streams.get_mut(stream).filter(|s| !s.is_over()) else {
            return self.noise(now);
        };
        s.reset = Some(Reset::Remote);
        let answered = s.answered;
        self.unwant(stream);
        // CVE-2023-44487.
        if self.role == Role::Server
            && !answered
            && !self
                .budgets
                .resets
                .spend(now, most::RESETS, most::RESETS_IN_ALL)
        {
            return Err(self.die(ErrorCode::ENHANCE_YOUR_CALM, "requests that are reset"));
        }
        self.pending.push_back(Event::Reset {
            stream,
            code,
            remote: true,
        });
        Ok(())
    }

    pub(super) fn window_update(
        &mut self,
        header: Header,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Fatal> {
        let stream = header.stream;
        if self.is_idle(stream) && stream != 0 {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "WINDOW_UPDATE of an idle stream"));
        }
        self.budgets.window_updates += 1;
        if self.budgets.window_updates > self.window_updates_allowed() {
            return Err(self.die(ErrorCode::ENHANCE_YOUR_CALM, "WINDOW_UPDATE"));
        }
        let more = i64::from(frame::word(payload).unwrap_or_default() & MAX_31);
        if stream == 0 {
            self.send += more;
            if more == 0 {
                return Err(self.die(ErrorCode::PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing"));
            }
            if self.send > i64::from(MAX_31) {
                return Err(self.die(ErrorCode::FLOW_CONTROL_ERROR, "a window too large"));
            }
            return Ok(());
        }
        let Some(s) = self.streams.get_mut(stream).filter(|s| s.reset.is_none()) else {
            return Ok(());
        };
        s.send += more;
        if more == 0 {
            self.fault(stream, ErrorCode::PROTOCOL_ERROR, now)
        } else if s.send > i64::from(MAX_31) {
            self.fault(stream, ErrorCode::FLOW_CONTROL_ERROR, now)
        } else {
            Ok(())
        }
    }

    /// RFC 7540's priorities are not followed; a stream that depends on itself is a fault still.
    pub(super) fn priority(
        &mut self,
        header: Header,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Fatal> {
        if header.stream == 0 {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "PRIORITY of no stream"));
        }
        self.noise(now)?;
        let code = if payload.len() != 5 {
            ErrorCode::FRAME_SIZE_ERROR
        } else if frame::word(payload).is_some_and(|w| w & MAX_31 == header.stream) {
            ErrorCode::PROTOCOL_ERROR
        } else {
            return Ok(());
        };
        if self.streams.get(header.stream).is_some() {
            self.fault(header.stream, code, now)
        } else {
            Err(self.die(code, "a PRIORITY that cannot be"))
        }
    }

    /// RFC 9218 7.1.
    pub(super) fn priority_update(
        &mut self,
        header: Header,
        payload: &[u8],
        now: u64,
    ) -> Result<(), Fatal> {
        if header.stream != 0 || self.role == Role::Client {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "PRIORITY_UPDATE out of place"));
        }
        self.noise(now)?;
        let Some(stream) = frame::word(payload).map(|w| w & MAX_31) else {
            return Err(self.die(ErrorCode::FRAME_SIZE_ERROR, "a PRIORITY_UPDATE too short"));
        };
        if stream & 1 == 0 {
            return Err(self.die(ErrorCode::PROTOCOL_ERROR, "PRIORITY_UPDATE of no request"));
        }
        self.peer.prioritizes = true;
        self.prioritize(stream, payload.get(4..).unwrap_or_default());
        Ok(())
    }
}

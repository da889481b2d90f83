//! Connections: their ends, and what a program does with them as a whole.

use super::handshakes::{alert_of, refusal};
use super::{Engine, LOST_CODE};
use crate::connection::{Stage, var};
use crate::event::{CloseKind, Event, Id, Outcome};
use bytes::Bytes;
use quinn_proto::{ConnectionError, EndpointEvent};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

/// Bytes of a reason that is sent.
const LONGEST_REASON: usize = 256;

impl Engine {
    /// Close with an application code.
    pub fn close(&mut self, id: Id, code: u64, reason: &str) {
        let now = self.now;
        let Some(connection) = self.live(id) else { return };
        let mut size = reason.len().min(LONGEST_REASON);
        while !reason.is_char_boundary(size) {
            size -= 1;
        }
        let reason = &reason[..size];
        connection.quic.close(now, var(code), Bytes::copy_from_slice(reason.as_bytes()));
        self.end(id, CloseKind::Local, code, reason.to_owned());
    }

    /// Send nothing until [`Engine::release`].
    pub fn cork(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.holds += 1;
        }
    }

    /// Take back one [`Engine::cork`].
    pub fn release(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.holds = connection.holds.saturating_sub(1);
        if connection.holds == 0 && std::mem::take(&mut connection.held_back) {
            self.queue(id);
        }
    }

    /// Send a DATAGRAM frame, if the peer takes them.
    pub fn send_datagram(&mut self, id: Id, data: &[u8]) {
        if let Some(connection) = self.live(id) {
            // What the peer doesn't take, or no packet can carry, is lost as any other datagram.
            let _ = connection.quic.datagrams().send(Bytes::copy_from_slice(data), true);
            self.queue(id);
        }
    }

    /// Let the peer have so many streams open at once.
    pub fn set_streams(&mut self, id: Id, limit: u64) {
        if self.live(id).is_some_and(|connection| connection.allow_streams(limit)) {
            self.queue(id);
        }
    }

    /// Let the peer have us hold so many bytes; credit that it has is not taken back.
    pub fn set_window(&mut self, id: Id, window: u64) {
        if let Some(connection) = self.live(id) {
            connection.window.set(window);
            connection.quic.set_receive_window(var(window));
            self.queue(id);
        }
    }

    /// Let so many written bytes wait for the peer; those that wait already stay.
    pub fn set_send_window(&mut self, id: Id, window: u64) {
        if let Some(connection) = self.live(id) {
            connection.send_window.set(window);
            self.queue(id);
        }
    }

    /// Whether the peer sends from another address than is seen here, as it says.
    pub fn set_translated(&mut self, id: Id, translated: bool) {
        let now = self.now;
        let Some(connection) = self.live(id) else { return };
        connection.translated = Some(translated);
        if !translated && !std::mem::replace(&mut connection.checked, true) {
            self.port_checks.add(id, now);
        }
    }

    /// The network said that a path leads nowhere: probe the connections there. Our handshakes have failed.
    pub fn unreachable(&mut self, path: SocketAddr, port_closed: bool, now: Instant) {
        self.now = now;
        for id in self.by_path.get(&path).cloned().unwrap_or_default() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if connection.is_attempt() {
                let kind = if port_closed { CloseKind::PortClosed } else { CloseKind::Unreachable };
                self.vanish(id, kind, &format!("{}, as its host says", kind.what()));
            } else if connection.begin_probe(now, port_closed, &self.limits) {
                self.queue(id);
            }
        }
    }

    /// Send once more what a handshake of ours waits to have answered.
    pub fn repeat(&mut self, id: Id, now: Instant) {
        self.now = now;
        if let Some(connection) = self.live(id).filter(|connection| connection.is_attempt()) {
            connection.quic.probe();
            self.queue(id);
        }
    }

    // ---- ends --------------------------------------------------------------------------------------------------

    pub(super) fn on_lost(&mut self, id: Id, reason: ConnectionError) {
        let text = |reason: &[u8]| String::from_utf8_lossy(reason).into_owned();
        let up = self.connections.get(&id).is_some_and(|connection| connection.is_connected());
        let (kind, code, reason) = match reason {
            ConnectionError::ApplicationClosed(close) => {
                (CloseKind::Peer, close.error_code.into_inner(), text(&close.reason))
            }
            ConnectionError::ConnectionClosed(close) => {
                (CloseKind::PeerTransport, u64::from(close.error_code), text(&close.reason))
            }
            ConnectionError::TransportError(error) => (CloseKind::Violation, u64::from(error.code), error.reason),
            ConnectionError::Reset => (CloseKind::Reset, 0, "stateless reset".to_owned()),
            ConnectionError::TimedOut => (CloseKind::Idle, 0, silence(up).to_owned()),
            other => (CloseKind::Violation, 0, other.to_string()),
        };
        self.end(id, kind, code, reason);
    }

    /// Say that a connection is over, and end what hangs on it. Clients hear Closed also of a failed handshake.
    pub(super) fn end(&mut self, id: Id, kind: CloseKind, code: u64, reason: String) {
        let Some(connection) = self.connections.get(&id) else { return };
        let was_live = connection.is_live();
        let splices: BTreeSet<usize> = connection.streams.splices().collect();
        // Before its end is told: a splice of which both directions have ended hasn't ended with it.
        self.pass_rests(id, &splices);
        let Some(connection) = self.connections.get_mut(&id).filter(|one| one.is_live() == was_live) else { return };
        let stage = connection.stage;
        connection.begin_closing(self.now, &self.limits);
        connection.told_in = self.round + 1;
        let (path, queue, said) = (connection.path, connection.queue.clone(), connection.said.clone());
        let event = if stage == Stage::Connected {
            Event::Closed { id, kind, code, reason }
        } else if connection.is_client {
            let reason = if reason.is_empty() { "closed in the handshake".to_owned() } else { reason };
            Event::Closed { id, kind, code, reason }
        } else {
            let by_alert = matches!(kind, CloseKind::PeerTransport | CloseKind::Violation);
            refusal(id, path, &said, queue, alert_of(code).filter(|_| by_alert), reason)
        };
        if stage == Stage::Handshaking {
            self.no_longer_half_open(id);
        }
        self.events.push(event);
        self.over.push(id);
        self.queue(id);
        for slot in splices {
            self.lose_splice(slot, id);
        }
    }

    /// One side's connection is gone: what is left ends as lost, the other side with an error.
    fn lose_splice(&mut self, slot: usize, lost: Id) {
        let Some(splice) = self.splices.get_mut(slot) else { return };
        for half in &mut splice.halves {
            half.outcome.get_or_insert(Outcome::Lost(LOST_CODE));
        }
        for (id, stream) in splice.sides() {
            if id != lost {
                self.abort(id, stream, LOST_CODE);
            }
        }
        self.end_splice(slot);
    }

    /// A connection ends without a word to the peer.
    pub(super) fn vanish(&mut self, id: Id, kind: CloseKind, reason: &str) {
        self.end(id, kind, 0, reason.to_owned());
        self.forget(id);
    }

    /// Nothing of a connection is left, but what may be read until its end was told.
    pub(super) fn forget(&mut self, id: Id) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if self.by_handle.get(connection.handle.0) == Some(&Some(id)) {
            self.by_handle[connection.handle.0] = None;
            let _ = self.quic.handle_event(connection.handle, EndpointEvent::drained());
        }
        self.leave(id, connection.path);
        if connection.told_in >= self.round && !connection.streams.is_empty() {
            self.late.insert(id, connection);
        }
    }

    /// quinn has forgotten it by itself.
    pub(super) fn is_drained(&mut self, id: Id) {
        if let Some(connection) = self.connections.get(&id) {
            self.by_handle[connection.handle.0] = None;
        }
        self.forget(id);
    }

    pub(super) fn leave(&mut self, id: Id, path: SocketAddr) {
        if let Some(there) = self.by_path.get_mut(&path) {
            there.retain(|each| *each != id);
            if there.is_empty() {
                self.by_path.remove(&path);
            }
        }
    }
}

/// What to call silence that was too long.
pub fn silence(up: bool) -> &'static str {
    if up { "idle timeout" } else { "handshake timeout" }
}

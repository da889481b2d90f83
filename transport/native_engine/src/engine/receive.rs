//! What comes in: datagrams to connections, and what these then have to say.

use super::Engine;
use crate::cids::CID_LENGTH;
use crate::connection::Trap;
use crate::event::{Event, Id};
use crate::handshakes::Arrival;
use bytes::BytesMut;
use quinn_proto::{self as quinn, ConnectionEvent, ConnectionHandle, DatagramEvent};
use std::net::SocketAddr;
use std::time::Instant;

/// Bytes of the smallest datagram that may begin a connection (RFC 9000 section 14.1).
const SMALLEST_FIRST: usize = 1200;

impl Engine {
    /// Take one datagram, or several of equal size joined.
    pub fn receive(&mut self, data: &[u8], path: SocketAddr, segment: usize, now: Instant) {
        self.now = now;
        self.retry_tokens.set_time(now);
        self.may_shake_hands = true;
        if self.paths.is_full() {
            self.paths.forget(self.by_path.keys().copied().chain([path]));
        }
        for datagram in data.chunks(if segment == 0 { data.len().max(1) } else { segment }) {
            self.guarded_datagram(|engine| engine.receive_one(datagram, path));
        }
    }

    pub(super) fn receive_one(&mut self, datagram: &[u8], path: SocketAddr) {
        if datagram.len() < 1 + CID_LENGTH {
            return;
        }
        let first_cid = cid_of_initial(datagram);
        if let Some(cid) = first_cid {
            self.handshakes.heard_again(cid, datagram, self.now);
        }
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        // A copy of its own: a slice of a batch would hold on to all of it.
        match self.quic.handle(self.now, path, None, None, BytesMut::from(datagram), &mut out) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => self.route(handle, event),
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.arrive(incoming, datagram, first_cid.unwrap_or_default());
            }
            Some(DatagramEvent::Response(answer)) => self.answer(datagram, &out[..answer.size], path),
            None => {}
        }
        self.scratch = out;
    }

    fn arrive(&mut self, incoming: quinn::Incoming, datagram: &[u8], cid: &[u8]) {
        let local = self.paths.local(incoming.remote_address());
        let Some(local) = local.filter(|local| !self.policy.names(*local).is_empty()) else {
            return self.quic.ignore(incoming);
        };
        if let Some(answer) = self.refused.repeated(cid) {
            self.outbox.extend(answer);
            return self.quic.ignore(incoming);
        }
        let validated = incoming.remote_address_validated();
        if !validated && self.handshakes.is_crowded(self.now) {
            return self.send_retry(incoming, (local, String::new()));
        }
        let (cid, datagrams) = (cid.to_vec(), vec![datagram.to_vec()]);
        self.handshakes.arrive(Arrival { incoming, cid, validated, local, datagrams, heard: self.now });
        self.ignore_discarded();
    }

    /// What quinn answers on its own: another version, or a reset.
    fn answer(&mut self, datagram: &[u8], made: &[u8], path: SocketAddr) {
        let long_header = made.first().is_some_and(|first| first & 0x80 != 0);
        if long_header {
            if self.paths.local(path).is_some_and(|local| !self.policy.names(local).is_empty()) {
                self.outbox.push((path, made.to_vec()));
            }
        } else if let Some(resets) = &mut self.resets
            && let Some(reset) = resets.answer(datagram, made, path, self.now, &mut self.random)
        {
            self.outbox.push((path, reset));
        }
    }

    fn route(&mut self, handle: ConnectionHandle, event: ConnectionEvent) {
        let Some(id) = self.by_handle.get(handle.0).copied().flatten() else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !connection.is_live() {
            if connection.heard_while_closing() && connection.holds == 0 {
                let path = connection.path;
                let packets = connection.close_packets.iter().flatten();
                self.outbox.extend(packets.map(|packet| (path, packet.clone())));
            }
        } else if connection.waiting || !(connection.is_client || connection.is_connected()) {
            connection.waiting = true;
            self.handshakes.go_on(&connection.queue, id, event);
        } else {
            self.deliver(id, event);
        }
    }

    pub(super) fn deliver(&mut self, id: Id, event: ConnectionEvent) {
        self.guarded(id, |engine| {
            engine.spring(id, Trap::Receive);
            let now = engine.now;
            let Some(connection) = engine.live(id) else { return };
            connection.quic.handle_event(event);
            let first = !connection.times.heard;
            connection.on_datagram(now);
            if first {
                engine.touched.push(id);
            }
        });
    }

    /// Hear what the connections have to say that something came for.
    pub(super) fn look(&mut self) {
        while !self.touched.is_empty() {
            for id in std::mem::take(&mut self.touched) {
                self.guarded(id, |engine| engine.look_at(id));
            }
        }
    }

    /// Hear what a connection has to say: as far as time is concerned, and all else.
    pub(super) fn look_at(&mut self, id: Id) {
        self.spring(id, Trap::Collect);
        self.hear(id);
        self.collect(id);
    }

    pub(super) fn hear(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.is_live() && connection.hear(&self.limits) {
            self.events.push(Event::Answered(id));
        }
        if std::mem::take(&mut connection.times.narrowed) {
            self.events.push(Event::PathNarrowed(id));
        }
    }

    fn collect(&mut self, id: Id) {
        while let Some(connection) = self.live(id) {
            let Some(event) = connection.quic.poll() else { break };
            match event {
                quinn::Event::HandshakeDataReady | quinn::Event::DatagramsUnblocked => {}
                quinn::Event::Connected => self.on_connected(id),
                quinn::Event::ConnectionLost { reason } => self.on_lost(id, reason),
                quinn::Event::Stream(event) => self.on_stream(id, event),
                quinn::Event::DatagramReceived => {
                    while let Some(data) = self.live(id).and_then(|connection| connection.quic.datagrams().recv()) {
                        self.events.push(Event::Datagram(id, data));
                    }
                }
            }
        }
        let (now, mut low) = (self.now, false);
        if let Some(connection) = self.live(id) {
            connection.forget_endings(now);
            low = connection.is_connected() && connection.is_low(now);
            let (old, new) = (connection.path, connection.quic.remote_address());
            if new != old {
                connection.move_to(new);
                self.leave(id, old);
                self.by_path.entry(new).or_default().push(id);
            }
        }
        if low {
            self.events.push(Event::WindowLow(id));
        }
        self.queue(id);
    }
}

/// The client's choice of the server's id, of a datagram that may begin a connection.
fn cid_of_initial(datagram: &[u8]) -> Option<&[u8]> {
    if datagram.len() < SMALLEST_FIRST || datagram[0] & 0xB0 != 0x80 {
        return None;
    }
    datagram.get(6..6 + usize::from(datagram[5]))
}

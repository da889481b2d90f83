//! What goes out.

use super::Engine;
use crate::connection::Trap;
use crate::event::Id;
use std::net::SocketAddr;
use std::time::Instant;

/// Takes datagrams for one path, joined if the size of each is not 0.
pub type Emit<'a> = &'a mut dyn FnMut(&[u8], SocketAddr, usize);

/// How often one turn goes on passing on what its own packets made room for.
const ROUNDS: usize = 64;
/// Datagrams, and bytes, that the kernel takes joined (UDP_SEGMENT).
const JOINED: usize = 64;
const JOINED_BYTES: usize = 65_000;

impl Engine {
    /// A connection may have something to send, or another time at which it is due.
    pub(super) fn queue(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !std::mem::replace(&mut connection.queued, true)
        {
            self.to_send.push_back(id);
        }
    }

    /// What must be sent now. Corked connections are left out.
    pub fn transmit(&mut self, now: Instant, emit: Emit<'_>) {
        self.now = now;
        self.look();
        for (path, datagram) in std::mem::take(&mut self.outbox) {
            emit(&datagram, path, 0);
        }
        if let Some(resets) = &mut self.resets {
            resets.next_turn();
        }
        for _ in 0..ROUNDS {
            self.pump();
            if self.to_send.is_empty() {
                break;
            }
            for id in std::mem::take(&mut self.to_send) {
                let Some(connection) = self.connections.get_mut(&id) else { continue };
                connection.queued = false;
                if connection.holds > 0 {
                    connection.held_back = true;
                } else {
                    self.guarded(id, |engine| engine.send_of(id, emit));
                }
                self.arm(id);
            }
            self.look();
        }
    }

    fn send_of(&mut self, id: Id, emit: Emit<'_>) {
        self.spring(id, Trap::Transmit);
        let (mut out, now) = (std::mem::take(&mut self.scratch), self.now);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let live = connection.is_live();
        let quic = &mut connection.quic;
        if live {
            let most = (JOINED_BYTES / usize::from(quic.current_mtu())).clamp(1, JOINED);
            let before = quic.in_flight();
            let mut sent = false;
            loop {
                out.clear();
                let Some(transmit) = quic.poll_transmit(now, most, &mut out) else { break };
                let segment = transmit.segment_size.filter(|segment| *segment < transmit.size).unwrap_or(0);
                emit(&out[..transmit.size], transmit.destination, segment);
                sent = true;
            }
            let asked = quic.in_flight() > before;
            if sent {
                connection.on_sent(now, asked);
            }
            let again = connection.made_room(&self.limits);
            // These may have less to pass on than there is room for.
            let more = connection.has_room_for_more();
            for stream in again {
                self.on_room(id, stream);
            }
            if more {
                self.queue(id);
            }
        } else if connection.close_packets.is_none() {
            let mut packets = Vec::new();
            loop {
                out.clear();
                let Some(transmit) = quic.poll_transmit(now, 1, &mut out) else { break };
                emit(&out[..transmit.size], transmit.destination, 0);
                packets.push(out[..transmit.size].to_vec());
            }
            connection.close_packets = Some(packets);
        }
        self.scratch = out;
        self.tell_endpoint(id);
    }

    /// Pass on what a connection has to tell quinn's endpoint: which ids it uses, and that it is over.
    fn tell_endpoint(&mut self, id: Id) {
        while let Some(connection) = self.connections.get_mut(&id)
            && let Some(event) = connection.quic.poll_endpoint_events()
        {
            let (handle, drained) = (connection.handle, event.is_drained());
            let answer = self.quic.handle_event(handle, event);
            if drained {
                // Whatever ended it may not have been told yet.
                self.look_at(id);
                return self.is_drained(id);
            }
            if let Some(answer) = answer {
                connection.quic.handle_event(answer);
                self.queue(id);
            }
        }
    }
}

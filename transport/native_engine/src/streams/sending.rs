//! What is written: it waits here until quinn takes it, and a stream has room for so much.

use super::stream;
use crate::connection::{Connection, var};
use crate::limits::Limits;
use bytes::Bytes;
use quinn_proto::{StreamId, WriteError};
use std::collections::VecDeque;
use std::time::Instant;

/// `spnhub.transport.engine.SMALL_WRITE`.
const SMALL_WRITE: u64 = 4096;

impl Connection {
    /// Bytes that were written and wait to be sent or acknowledged.
    pub fn held(&mut self) -> u64 {
        self.quic.streams().buffered() + self.streams.waiting
    }

    /// How much more than the send window would wait with so many bytes more.
    pub fn excess_with(&mut self, size: u64) -> u64 {
        let held = self.held();
        self.send_window.excess(held + size)
    }

    /// How much a stream takes now.
    pub fn room(&mut self, id: StreamId, limits: &Limits) -> usize {
        let most = self.held();
        let most = self.send_window.room(most);
        match self.streams.get(id) {
            Some(record) if !record.send_over => {
                self.streams.share(limits).saturating_sub(record.unsent).min(most) as usize
            }
            _ => 0,
        }
    }

    /// How much it takes at least of what is no other peer's.
    #[must_use]
    pub fn small_room(&self, id: StreamId) -> usize {
        self.streams.get(id).map_or(0, |record| SMALL_WRITE.saturating_sub(record.unsent) as usize)
    }

    /// Somebody waits for more room.
    pub fn await_room(&mut self, id: StreamId) {
        let held = self.held();
        let short = self.send_window.is_short(held);
        let streams = &mut self.streams;
        if let Some(record) = streams.records.get_mut(&u64::from(id)) {
            record.blocked = true;
            if short && !record.short {
                record.short = true;
                streams.short.push_back(id.into());
            }
        }
        self.recount(id);
    }

    /// Whether more send window would be of use to the connection; told once.
    pub fn is_send_low(&mut self) -> bool {
        let held = self.held();
        self.is_connected() && self.send_window.is_low(held)
    }

    /// Queue bytes on our half, which must be open.
    pub fn send(&mut self, id: StreamId, data: Bytes, now: Instant) {
        if let Some(record) = self.streams.records.get_mut(&u64::from(id)) {
            if record.is_interactive(data.len() as u64, now) {
                self.interactive.count();
            }
            record.waiting_size += data.len() as u64;
            record.waiting.push_back(data);
        }
        self.flush(id);
    }

    /// FIN after what was queued; tells whether our half was open.
    pub fn finish(&mut self, id: StreamId) -> bool {
        let Some(record) = self.streams.get_mut(id) else { return false };
        if record.send_over {
            return false;
        }
        record.send_over = true;
        record.waiting_fin = true;
        self.flush(id);
        true
    }

    /// Give quinn what it takes; it tells when it takes more.
    pub fn flush(&mut self, id: StreamId) {
        let Some(record) = self.streams.records.get_mut(&u64::from(id)) else { return };
        while let Some(first) = record.waiting.pop_front() {
            let mut piece = [first];
            let result = self.quic.send_stream(id).write_chunks(&mut piece);
            let [rest] = piece;
            match result {
                Ok(written) => {
                    record.waiting_size -= written.bytes as u64;
                    if !rest.is_empty() {
                        record.waiting.push_front(rest);
                    }
                }
                Err(WriteError::Blocked) => {
                    record.waiting.push_front(rest);
                    break;
                }
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    record.waiting.clear();
                    record.waiting_size = 0;
                }
            }
        }
        if record.waiting.is_empty() {
            // An empty one keeps what it has allocated.
            record.waiting = VecDeque::new();
            if std::mem::take(&mut record.waiting_fin) {
                // Of a half that the peer has stopped there is nothing to end.
                let _ = self.quic.send_stream(id).finish();
            }
        }
        self.recount(id);
    }

    fn recount(&mut self, id: StreamId) {
        let queued = self.quic.send_stream(id).unsent();
        let Some(record) = self.streams.records.get_mut(&u64::from(id)) else { return };
        if record.send_done {
            record.waiting = VecDeque::new();
            record.waiting_size = 0;
            record.waiting_fin = false;
        }
        let unsent = if record.send_done { 0 } else { queued + record.waiting_size };
        self.streams.unsent = self.streams.unsent + unsent - record.unsent;
        record.unsent = unsent;
        self.streams.waiting = self.streams.waiting + record.waiting_size - record.waiting_counted;
        record.waiting_counted = record.waiting_size;
        // Of one that waits for the peer's credit only, quinn tells.
        if (queued > 0 || record.blocked && !record.short && record.waiting.is_empty()) && !record.listed {
            record.listed = true;
            self.streams.senders.push(id.into());
        }
    }

    /// Packets were made: the streams that have a quarter of their room again, of those that somebody waits for.
    pub fn made_room(&mut self, limits: &Limits) -> Vec<StreamId> {
        if self.streams.senders.is_empty() && self.streams.short.is_empty() {
            return Vec::new();
        }
        let senders = std::mem::take(&mut self.streams.senders);
        for &number in &senders {
            if let Some(record) = self.streams.records.get_mut(&number) {
                record.listed = false;
                self.recount(stream(number));
            }
        }
        let mut again: Vec<_> = senders.into_iter().map(stream).filter(|&id| self.has_room_again(id, limits)).collect();
        if !self.streams.short.is_empty() {
            self.end_shortage(&mut again, limits);
        }
        again
    }

    /// Whether streams wait for the connection's send window that have room in it now.
    pub fn has_room_for_more(&mut self) -> bool {
        !self.streams.short.is_empty() && {
            let held = self.held();
            !self.send_window.is_short(held)
        }
    }

    /// Those that have waited longest for the connection's send window, as far as it has room for them now.
    fn end_shortage(&mut self, again: &mut Vec<StreamId>, limits: &Limits) {
        let mut held = self.held();
        let share = self.streams.share(limits);
        while !self.send_window.is_short(held) {
            let Some(number) = self.streams.short.pop_front() else { break };
            let Some(record) = self.streams.records.get_mut(&number) else { continue };
            record.short = false;
            record.blocked = false;
            if !record.send_over {
                again.push(stream(number));
                held += self.send_window.room(held).min(share);
            }
        }
    }

    /// Whether somebody waits for room on a stream, and has it now.
    pub fn has_room_again(&mut self, id: StreamId, limits: &Limits) -> bool {
        let share = self.streams.share(limits);
        let Some(record) = self.streams.get_mut(id) else { return false };
        let again = record.blocked && !record.short && record.unsent * 4 <= share * 3;
        if again {
            record.blocked = false;
        }
        again
    }

    /// Reset our half; tells whether there was anything to reset: not after an acknowledged FIN.
    pub fn reset(&mut self, id: StreamId, code: u64) -> bool {
        if self.quic.send_stream(id).reset(var(code)).is_err() {
            return false;
        }
        self.send_is_done(id);
        true
    }

    /// Our half is over.
    pub fn send_is_done(&mut self, id: StreamId) {
        if let Some(record) = self.streams.get_mut(id) {
            record.send_over = true;
            record.send_done = true;
            record.blocked = false;
        }
        self.recount(id);
        self.rest(id);
    }
}

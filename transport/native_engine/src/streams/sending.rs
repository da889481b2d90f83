//! What is written: it waits here until quinn takes it, and a stream has room for so much.

use super::stream;
use crate::connection::{Connection, var};
use crate::limits::Limits;
use bytes::Bytes;
use quinn_proto::{StreamId, WriteError};
use std::collections::VecDeque;

impl Connection {
    /// How much a stream takes now.
    #[must_use]
    pub fn room(&self, id: StreamId, limits: &Limits) -> usize {
        match self.streams.get(id) {
            Some(record) if !record.send_over => self.streams.share(limits).saturating_sub(record.unsent) as usize,
            _ => 0,
        }
    }

    /// Somebody waits for more room.
    pub fn await_room(&mut self, id: StreamId) {
        if let Some(record) = self.streams.get_mut(id) {
            record.blocked = true;
        }
        self.recount(id);
    }

    /// Queue bytes on our half, which must be open.
    pub fn send(&mut self, id: StreamId, data: Bytes) {
        if let Some(record) = self.streams.get_mut(id) {
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
        if record.waiting.is_empty() && std::mem::take(&mut record.waiting_fin) {
            // Of a half that the peer has stopped there is nothing to end.
            let _ = self.quic.send_stream(id).finish();
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
        // Of one that waits for the peer's credit only, quinn tells.
        if (queued > 0 || record.blocked && record.waiting.is_empty()) && !record.listed {
            record.listed = true;
            self.streams.senders.push(id.into());
        }
    }

    /// Packets were made: the streams that have a quarter of their room again, of those that somebody waits for.
    pub fn made_room(&mut self, limits: &Limits) -> Vec<StreamId> {
        if self.streams.senders.is_empty() {
            return Vec::new();
        }
        let senders = std::mem::take(&mut self.streams.senders);
        for &number in &senders {
            if let Some(record) = self.streams.records.get_mut(&number) {
                record.listed = false;
                self.recount(stream(number));
            }
        }
        senders.into_iter().map(stream).filter(|&id| self.has_room_again(id, limits)).collect()
    }

    /// Whether somebody waits for room on a stream, and has it now.
    pub fn has_room_again(&mut self, id: StreamId, limits: &Limits) -> bool {
        let share = self.streams.share(limits);
        let Some(record) = self.streams.get_mut(id) else { return false };
        let again = record.blocked && record.unsent * 4 <= share * 3;
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

//! What is read, and the credit for it.

use super::End;
use crate::connection::{Connection, var};
use crate::limits::Limits;
use bytes::{Bytes, BytesMut};
use quinn_proto::{ReadError, StreamId};
use std::time::{Duration, Instant};

/// Bytes from which on a piece is passed on as it is; smaller ones are copied, for they hold on to a whole datagram.
const WORTH_KEEPING: usize = 600;

impl Connection {
    /// Whether there is something to read, an end included.
    pub fn has_something(&mut self, id: StreamId) -> bool {
        let Some(record) = self.streams.records.get_mut(&u64::from(id)) else { return false };
        if record.fin {
            return true;
        }
        let mut receiving = self.quic.recv_stream(id);
        let Ok(mut chunks) = receiving.read(true) else { return false };
        // No bytes: a look. But where only the end is left, quinn has told it with this, and forgets the half.
        let there = match chunks.next(0) {
            Ok(None) => {
                record.fin = true;
                true
            }
            Ok(Some(_)) => true,
            Err(ReadError::Reset(_)) => {
                record.receive_over = true;
                false
            }
            Err(ReadError::Blocked) => false,
        };
        let _ = chunks.finalize();
        there
    }

    /// Read up to `limit` bytes, and see what comes after them. No credit beyond quinn's own is given.
    pub fn take(&mut self, id: StreamId, limit: usize) -> (Vec<Bytes>, usize, End) {
        let mut taken = (Vec::new(), 0, End::Blocked);
        let Some(record) = self.streams.records.get_mut(&u64::from(id)) else { return taken };
        if record.fin {
            record.fin = false;
            taken.2 = End::Fin;
            return taken;
        }
        let mut receiving = self.quic.recv_stream(id);
        let Ok(mut chunks) = receiving.read(true) else { return taken };
        let (pieces, size, end) = &mut taken;
        *end = loop {
            match chunks.next(limit - *size) {
                Ok(Some(_)) if *size == limit => break End::More,
                Ok(Some(chunk)) => {
                    *size += chunk.bytes.len();
                    pieces.push(chunk.bytes);
                }
                Ok(None) => break End::Fin,
                Err(ReadError::Blocked) => break End::Blocked,
                Err(ReadError::Reset(code)) => break End::Reset(code.into_inner()),
            }
        };
        let _ = chunks.finalize();
        self.window.consume(taken.1 as u64);
        taken
    }

    /// Nothing more will be read.
    pub fn end_receive(&mut self, id: StreamId) {
        if let Some(record) = self.streams.get_mut(id) {
            record.receive_over = true;
            record.fin = false;
        }
        self.streams.reserve(id, 0);
        self.rest(id);
    }

    /// Ask the peer to stop, and drop what it has sent and still sends; tells whether there was anything to stop.
    pub fn stop(&mut self, id: StreamId, code: u64) -> bool {
        let Some(record) = self.streams.get_mut(id) else { return false };
        if record.receive_over || record.discarding {
            return false;
        }
        record.discarding = true;
        // Of a half whose end was told already there is nothing to stop.
        let _ = self.quic.recv_stream(id).stop(var(code));
        self.streams.reserve(id, 0);
        self.rest(id);
        true
    }

    /// Whether more window would be of use to the connection; told once.
    pub fn is_low(&mut self, now: Instant) -> bool {
        let (unread, rtt) = (self.quic.streams().unread(), self.quic.rtt());
        self.window.is_low(unread, rtt, now)
    }

    // ---- credit ------------------------------------------------------------------------------------------------

    /// Bytes of a stream were read: more window if they are read quickly.
    ///
    /// The budget is shared evenly among the streams that have grown; a stream above its share shrinks to it.
    pub fn consume(&mut self, id: StreamId, size: usize, now: Instant, limits: &Limits) {
        let rtt = self.quic.rtt();
        let streams = &mut self.streams;
        let Some(record) = streams.records.get_mut(&u64::from(id)) else { return };
        let before = record.window;
        let half = (before / 2).max(1);
        let passed = record.consumed / half;
        record.consumed += size as u64;
        if record.consumed / half == passed {
            return;
        }
        let few_round_trips = (rtt * 4).max(Duration::from_millis(50));
        let quick = record.granted_at.is_some_and(|at| now.saturating_duration_since(at) < few_round_trips);
        record.granted_at = Some(now);
        // What only filled the buffers behind a stalled reader is no sign of speed.
        let quick = quick && record.consumed >= 2 * before;
        let base = limits.stream_window;
        let sharers = streams.grown + u64::from(record.reserved == 0);
        let share = limits.stream_window_max.min(base.max(limits.window_budget / sharers.max(1)));
        let mut window = if quick { before * 2 } else { before }.min(share);
        let spare = (limits.window_budget + record.reserved).saturating_sub(streams.reserved);
        window = window.min(base + spare);
        record.window = window;
        streams.reserve(id, window.saturating_sub(base));
        if window != before {
            // A half that is over needs no window.
            let _ = self.quic.recv_stream(id).set_receive_window(var(window));
        }
    }
}

/// Several pieces as one, without copying what is worth keeping as it is.
#[must_use]
pub fn joined(mut pieces: Vec<Bytes>, size: usize) -> Bytes {
    if pieces.len() == 1
        && size >= WORTH_KEEPING
        && let Some(only) = pieces.pop()
    {
        return only;
    }
    let mut all = BytesMut::with_capacity(size);
    for piece in &pieces {
        all.extend_from_slice(piece);
    }
    all.freeze()
}

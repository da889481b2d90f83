//! A connection's streams: what was received and not read, what may be sent, and the credit for both.
//!
//! quinn gives credit for what is read, within one window for all streams; here each stream has its own, which grows
//! while its bytes are read quickly, within a budget that all streams of a connection share. And quinn takes nothing
//! beyond the peer's credit, so what was written waits here.

use crate::connection::{Connection, var};
use crate::limits::Limits;
use bytes::{Bytes, BytesMut};
use quinn_proto::{Dir, ReadError, StreamId, WriteError};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Streams that a peer may open at first; more as it uses them, since quinn makes a place for each at once.
const FIRST_STREAMS: u64 = 64;
/// Bytes from which on a piece is passed on as it is; smaller ones are copied, for they hold on to a whole datagram.
const WORTH_KEEPING: usize = 600;

/// The direction of a splice that a stream takes part in: a slot, and 0 or 1.
pub type Direction = (usize, usize);

/// One stream.
#[derive(Default)]
pub struct Record {
    /// The program knows of it.
    pub opened: bool,
    /// The program knows that there is something to read.
    pub told: bool,
    /// quinn has said that the peer's half ended in order, and the program doesn't know yet.
    pub fin: bool,
    /// The peer has reset its half, as the program knows; what came before may be unread.
    pub reset: bool,
    /// Nothing more will be read.
    pub receive_over: bool,
    /// The peer was asked to stop.
    pub discarding: bool,
    /// Nothing more will be written.
    pub send_over: bool,
    /// Our half is over, as the peer knows, too.
    pub send_done: bool,
    /// Somebody waits for room.
    pub blocked: bool,
    /// It stands among the senders.
    listed: bool,
    /// The direction that reads from it.
    pub source_of: Option<Direction>,
    /// The direction that writes to it.
    pub sink_of: Option<Direction>,
    window: u64,
    reserved: u64,
    consumed: u64,
    granted_at: Option<Instant>,
    /// Bytes written and never sent.
    unsent: u64,
    /// Of them, what quinn has not taken.
    waiting: VecDeque<Bytes>,
    waiting_size: u64,
    /// FIN follows these.
    waiting_fin: bool,
}

impl Record {
    /// Whether nobody will use it any more.
    fn is_over(&self) -> bool {
        (self.receive_over || self.discarding) && self.send_done && self.source_of.is_none() && self.sink_of.is_none()
    }
}

/// All streams of one connection.
pub struct Streams {
    records: FxHashMap<u64, Record>,
    /// Those of which bytes wait in quinn: they make room.
    senders: Vec<u64>,
    unsent: u64,
    /// How many the peer may have open, as the program says, and as it was told.
    limit: u64,
    granted: u64,
    /// The program wants to open one.
    pub wanted: bool,
    reserved: u64,
    grown: u64,
}

/// What comes after the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// More bytes.
    More,
    /// Nothing yet.
    Blocked,
    /// The end, in order.
    Fin,
    /// A reset, with its code.
    Reset(u64),
}

/// A stream's id as quinn has it.
#[must_use]
pub fn stream(number: u64) -> StreamId {
    StreamId::from(var(number))
}

impl Streams {
    /// Of a connection that begins.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            records: FxHashMap::default(),
            senders: Vec::new(),
            unsent: 0,
            limit: limits.streams,
            granted: Self::first(limits),
            wanted: false,
            reserved: 0,
            grown: 0,
        }
    }

    /// Streams that a peer may open at first.
    #[must_use]
    pub fn first(limits: &Limits) -> u64 {
        limits.streams.min(FIRST_STREAMS)
    }

    /// How many there are that the program knows of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.values().filter(|record| record.opened).count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: StreamId) -> Option<&Record> {
        self.records.get(&u64::from(id))
    }

    /// One of them.
    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut Record> {
        self.records.get_mut(&u64::from(id))
    }

    /// The splices that they take part in, each once or more.
    pub fn splices(&self) -> impl Iterator<Item = usize> {
        self.records.values().flat_map(|record| [record.source_of, record.sink_of]).flatten().map(|(slot, _)| slot)
    }

    /// Forget them all.
    pub fn clear(&mut self) {
        self.records = FxHashMap::default();
        self.senders = Vec::new();
    }

    fn share(&self, limits: &Limits) -> u64 {
        if self.unsent < limits.send_budget { limits.stream_buffer() } else { limits.stream_buffer() / 4 }
    }

    fn reserve(&mut self, id: StreamId, reserved: u64) {
        let Some(record) = self.records.get_mut(&u64::from(id)) else { return };
        self.grown = self.grown + u64::from(reserved > 0) - u64::from(record.reserved > 0);
        self.reserved = self.reserved + reserved - record.reserved;
        record.reserved = reserved;
    }
}

impl Connection {
    // ---- opening -----------------------------------------------------------------------------------------------

    /// Open a stream; None: the peer allows no more now.
    pub fn open(&mut self, limits: &Limits) -> Option<StreamId> {
        let Some(id) = self.quic.streams().open(Dir::Bi) else {
            self.streams.wanted = true;
            return None;
        };
        self.add_record(id, true, limits);
        Some(id)
    }

    /// Those that the peer has opened since the last call. It may open more when it has used half of them.
    pub fn accept(&mut self, limits: &Limits) -> Vec<StreamId> {
        let mut ids = Vec::new();
        while let Some(id) = self.quic.streams().accept(Dir::Bi) {
            self.add_record(id, false, limits);
            ids.push(id);
        }
        let open = self.quic.streams().remote_open_streams(Dir::Bi);
        if self.streams.granted < self.streams.limit && open * 2 >= self.streams.granted {
            self.grant((self.streams.granted * 4).min(self.streams.limit));
        }
        ids
    }

    fn add_record(&mut self, id: StreamId, opened: bool, limits: &Limits) {
        let record = Record { window: limits.stream_window, opened, ..Record::default() };
        self.streams.records.insert(id.into(), record);
    }

    fn grant(&mut self, streams: u64) {
        self.streams.granted = streams;
        self.quic.set_max_concurrent_streams(Dir::Bi, var(streams));
    }

    /// Let the peer have so many streams open; never fewer than before. Tells whether it has to know.
    pub fn allow_streams(&mut self, limit: u64) -> bool {
        if limit <= self.streams.limit {
            return false;
        }
        self.streams.limit = limit;
        let granted = limit.min(FIRST_STREAMS.max(self.streams.granted));
        let more = granted > self.streams.granted;
        if more {
            self.grant(granted);
        }
        more
    }

    /// Forget a stream of which both halves are over.
    pub fn rest(&mut self, id: StreamId) {
        if let Some(record) = self.streams.get(id)
            && record.is_over()
        {
            self.streams.unsent -= record.unsent;
            self.streams.records.remove(&u64::from(id));
        }
    }

    // ---- sending -----------------------------------------------------------------------------------------------

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

    // ---- receiving ---------------------------------------------------------------------------------------------

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

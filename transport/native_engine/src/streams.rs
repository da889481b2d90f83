//! A connection's streams: what was received and not read, what may be sent, and the credit for both.
//!
//! quinn gives credit for what is read, within one window for all streams; here each stream has its own, which grows
//! while its bytes are read quickly, within a budget that all streams of a connection share. And quinn takes nothing
//! beyond the peer's credit, so what was written waits here.

mod endings;
mod receiving;
mod sending;

pub use receiving::joined;

use crate::connection::{Connection, var};
use crate::limits::Limits;
use bytes::Bytes;
use endings::Endings;
use quinn_proto::{Dir, StreamId};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// `spnhub.transport.engine.LITTLE`.
pub const LITTLE: u32 = 4096;

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
    /// The peer has reset its half with this, as the program knows; what came before may be unread.
    pub reset_code: Option<u64>,
    /// The peer has asked with this to get no more, as the program knows.
    pub stop_code: Option<u64>,
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
    /// It stands among those that wait for room in the connection's send window.
    short: bool,
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
    /// Bytes written since `lately_since`.
    lately: u64,
    lately_since: Option<Instant>,
    /// Until when it is one of bulk.
    bulk_until: Option<Instant>,
    /// Of them, what quinn has not taken.
    waiting: VecDeque<Bytes>,
    waiting_size: u64,
    /// As the connection's sum has it.
    waiting_counted: u64,
    /// FIN follows these.
    waiting_fin: bool,
}

/// Bytes within a while that are much, though each piece of them is small and sent at once.
const MUCH: u64 = 64 * 1024;
const WHILE: Duration = Duration::from_millis(100);
/// For so long a stream is one of bulk after it had much to send: most writes of a shared transfer are small.
const BULK: Duration = Duration::from_secs(1);

impl Record {
    /// Whether so many bytes that are written now are little, of a stream that had little all the time.
    fn is_interactive(&mut self, size: u64, now: Instant) -> bool {
        if self.lately_since.is_none_or(|since| now.saturating_duration_since(since) > WHILE) {
            self.lately_since = Some(now);
            self.lately = 0;
        }
        self.lately += size;
        if self.unsent + size > u64::from(LITTLE) || self.lately > MUCH {
            self.bulk_until = Some(now + BULK);
        }
        self.bulk_until.is_none_or(|until| now > until)
    }

    /// Whether nobody will use it any more.
    fn is_over(&self) -> bool {
        (self.receive_over || self.discarding) && self.send_done && self.source_of.is_none() && self.sink_of.is_none()
    }
}

/// All streams of one connection.
pub struct Streams {
    /// Each on its own: a table of them would have room for up to twice as many.
    records: FxHashMap<u64, Box<Record>>,
    /// Those of which bytes wait in quinn: they make room.
    senders: Vec<u64>,
    unsent: u64,
    /// Of them, what quinn has not taken.
    waiting: u64,
    /// Those for which the connection's send window has had no room, who has waited longest first.
    short: VecDeque<u64>,
    endings: Endings,
    /// How many the peer may have open.
    limit: u64,
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
            waiting: 0,
            short: VecDeque::new(),
            endings: Endings::new(limits.streams),
            limit: limits.streams,
            wanted: false,
            reserved: 0,
            grown: 0,
        }
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
        self.records.get(&u64::from(id)).map(Box::as_ref)
    }

    /// One of them.
    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut Record> {
        self.records.get_mut(&u64::from(id)).map(Box::as_mut)
    }

    /// The splices that they take part in, each once or more.
    pub fn splices(&self) -> impl Iterator<Item = usize> {
        self.records.values().flat_map(|record| [record.source_of, record.sink_of]).flatten().map(|(slot, _)| slot)
    }

    /// Forget them all.
    pub fn clear(&mut self) {
        self.records = FxHashMap::default();
        self.senders = Vec::new();
        self.short = VecDeque::new();
        self.endings.clear();
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

    /// Those that the peer has opened since the last call.
    pub fn accept(&mut self, limits: &Limits) -> Vec<StreamId> {
        let mut ids = Vec::new();
        while let Some(id) = self.quic.streams().accept(Dir::Bi) {
            self.add_record(id, false, limits);
            ids.push(id);
        }
        ids
    }

    fn add_record(&mut self, id: StreamId, opened: bool, limits: &Limits) {
        let record = Record { window: limits.stream_window, opened, ..Record::default() };
        self.streams.records.insert(id.into(), Box::new(record));
    }

    /// Let the peer have so many streams open; never fewer than before. Tells whether it has to know.
    pub fn allow_streams(&mut self, limit: u64) -> bool {
        if limit <= self.streams.limit {
            return false;
        }
        self.streams.limit = limit;
        self.quic.set_max_concurrent_streams(Dir::Bi, var(limit));
        true
    }

    /// Forget a stream of which both halves are over.
    pub fn rest(&mut self, id: StreamId) {
        if let Some(record) = self.streams.get(id)
            && record.is_over()
        {
            let codes = [record.reset_code, record.stop_code];
            let (unsent, waiting) = (record.unsent, record.waiting_counted);
            self.streams.unsent -= unsent;
            self.streams.waiting -= waiting;
            self.streams.records.remove(&u64::from(id));
            self.streams.endings.remember(id, codes, self.times.last_heard);
        }
    }
}

//! With which codes peers have broken off streams, for a little while after nothing else is left of these.
//!
//! A program may join a stream before it comes to the event that says how the stream has ended. What was joined to it
//! has to end in the same way.

use super::Record;
use crate::connection::Connection;
use quinn_proto::StreamId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// For so long at least; then until something comes again (`ENDINGS_KEPT`).
const KEPT: Duration = Duration::from_secs(10);

struct Ending {
    stream: StreamId,
    codes: [Option<u64>; 2],
    at: Instant,
}

/// Those of one connection, the oldest first.
pub struct Endings {
    kept: VecDeque<Ending>,
    most: usize,
}

impl Endings {
    /// Of no more streams than may be open at once.
    pub fn new(most: u64) -> Self {
        Self { kept: VecDeque::new(), most: usize::try_from(most).unwrap_or(usize::MAX) }
    }

    /// A stream has ended that was joined to none; if the peer has broken it off, with a reset's code and a stop's.
    pub fn remember(&mut self, stream: StreamId, codes: [Option<u64>; 2], at: Instant) {
        if codes == [None; 2] {
            return;
        }
        if self.kept.len() >= self.most {
            self.kept.pop_front();
        }
        self.kept.push_back(Ending { stream, codes, at });
    }

    fn take(&mut self, stream: StreamId) -> Option<Ending> {
        let place = self.kept.iter().rposition(|ending| ending.stream == stream)?;
        self.kept.remove(place)
    }

    fn pass_time(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|ending| now.saturating_duration_since(ending.at) >= KEPT) {
            self.kept.pop_front();
        }
        if self.kept.is_empty() && self.kept.capacity() > 0 {
            self.kept = VecDeque::new();
        }
    }

    /// Forget them all.
    pub fn clear(&mut self) {
        self.kept = VecDeque::new();
    }
}

impl Connection {
    /// Forget what was remembered for long enough.
    pub fn forget_endings(&mut self, now: Instant) {
        self.streams.endings.pass_time(now);
    }

    /// Whether a stream is there. One that has ended comes back for it, as it ended, until [`Connection::rest`].
    pub fn recall(&mut self, id: StreamId, now: Instant) -> bool {
        if self.streams.get(id).is_some() {
            return true;
        }
        self.forget_endings(now);
        let Some(ending) = self.streams.endings.take(id) else { return false };
        let record = Record {
            opened: true,
            receive_over: true,
            send_over: true,
            send_done: true,
            reset_code: ending.codes[0],
            stop_code: ending.codes[1],
            ..Record::default()
        };
        self.streams.records.insert(id.into(), Box::new(record));
        true
    }
}

//! The windows of a whole connection: what its peer may have us hold, of what it sends and of what is sent to it. They
//! begin small where memory is short, and who runs the engine is told when more would be of use
//! (`spnhub.transport.engine.WindowLow`, `SendWindowLow`).

use crate::limits::Limits;
use std::time::{Duration, Instant};

/// In which half a window is consumed by a reader that is quick, at least.
const QUICK: Duration = Duration::from_millis(50);

/// Where less than this part of a send window is left, nobody gets any more of it: pieces would be too small.
const LEAST_PART: u64 = 16;

/// One connection's receive window.
pub struct Window {
    size: u64,
    /// More is never of use.
    most: u64,
    /// Credit that was given before the window became smaller, and isn't used up yet.
    owed: u64,
    consumed: u64,
    /// Of them, those since `since`.
    recently: u64,
    since: Instant,
    told: bool,
}

impl Window {
    /// Of a connection that begins now.
    #[must_use]
    pub fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            size: limits.initial_window(),
            most: limits.connection_window(),
            owed: 0,
            consumed: 0,
            recently: 0,
            since: now,
            told: false,
        }
    }

    /// What the peer may have us hold.
    #[must_use]
    pub fn granted(&self) -> u64 {
        self.size + self.owed
    }

    /// It is this large from now on.
    pub fn set(&mut self, size: u64) {
        self.owed += self.size.saturating_sub(size);
        self.size = size;
        self.told = false;
    }

    /// Bytes were read.
    pub fn consume(&mut self, size: u64) {
        self.owed = self.owed.saturating_sub(size);
        self.consumed += size;
        self.recently += size;
    }

    /// Whether half of it waits to be read, or was read within a few round trips; each time is told once.
    pub fn is_low(&mut self, unread: u64, rtt: Duration, now: Instant) -> bool {
        if self.told || self.size >= self.most {
            return false;
        }
        let mut low = unread * 2 > self.size;
        if self.recently * 2 >= self.size {
            let quick = now.saturating_duration_since(self.since) < QUICK.max(rtt * 4);
            low |= quick && self.consumed >= 2 * self.size;
            self.recently = 0;
            self.since = now;
        }
        self.told = low;
        low
    }
}

/// One connection's send window: how many written bytes may wait to be sent or acknowledged.
pub struct SendWindow {
    size: u64,
    told: bool,
}

impl SendWindow {
    /// Of a connection that begins now.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self { size: if limits.initial_send_window == 0 { u64::MAX } else { limits.initial_send_window }, told: false }
    }

    /// It is this large from now on.
    pub fn set(&mut self, size: u64) {
        self.size = size;
        self.told = false;
    }

    /// What one stream may have of it while so much waits: half of what is left.
    #[must_use]
    pub fn room(&self, held: u64) -> u64 {
        let left = self.size.saturating_sub(held);
        if self.is_short(held) { 0 } else { (left / 2).max(1) }
    }

    /// How much more waits than may.
    #[must_use]
    pub fn excess(&self, held: u64) -> u64 {
        held.saturating_sub(self.size)
    }

    /// Whether nobody gets any more of it.
    #[must_use]
    pub fn is_short(&self, held: u64) -> bool {
        self.size.saturating_sub(held) < (self.size / LEAST_PART).max(1)
    }

    /// Whether half of it is in use; each time is told once.
    pub fn is_low(&mut self, held: u64) -> bool {
        if self.told || held <= self.size / 2 {
            return false;
        }
        self.told = true;
        true
    }
}

//! Looks whether the ports of silent peers are still open, before a keep-alive would find out (D-20).
//!
//! A datagram of one byte, which QUIC ignores (its fixed bit is 0, RFC 9000 section 17.3), costs the peer next to
//! nothing, and a closed port answers it. Only where it proves something: where nobody translates addresses in between.

use crate::connection::Connection;
use crate::event::Id;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What is sent.
pub const LOOK: &[u8] = b"\0";
/// Steps in which each is looked at once.
const ROUND: usize = 4;
/// Connections seen, and datagrams sent, in one step at most. With more of them a round takes longer.
const VISITS: usize = 1024;
const SENT: usize = 64;

/// The connections of an engine whose peers have said that nobody translates.
pub struct PortChecks {
    interval: Duration,
    ids: VecDeque<Id>,
    next: Option<Instant>,
}

impl PortChecks {
    /// Each is looked at once in `interval`; zero: off.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, ids: VecDeque::new(), next: None }
    }

    fn pause(&self) -> Duration {
        self.interval / ROUND as u32
    }

    /// From now on; each once.
    pub fn add(&mut self, id: Id, now: Instant) {
        if !self.interval.is_zero() {
            if self.ids.is_empty() {
                self.next = Some(now + self.pause());
            }
            self.ids.push_back(id);
        }
    }

    /// When [`PortChecks::step`] is due.
    #[must_use]
    pub fn timer(&self) -> Option<Instant> {
        if self.ids.is_empty() { None } else { self.next }
    }

    /// The paths of the next ones, as far as they are silent and have anything that would be missed.
    pub fn step(&mut self, now: Instant, connections: &mut FxHashMap<Id, Box<Connection>>) -> Vec<SocketAddr> {
        let mut paths = Vec::new();
        if self.timer().is_none_or(|next| now < next) {
            return paths;
        }
        self.next = Some(now + self.pause());
        for _ in 0..self.ids.len().div_ceil(ROUND).min(VISITS) {
            if paths.len() == SENT {
                break;
            }
            let Some(id) = self.ids.pop_front() else { break };
            let Some(connection) = connections.get_mut(&id) else { continue };
            if !connection.is_live() || connection.translated != Some(false) {
                connection.checked = false;
                continue;
            }
            self.ids.push_back(id);
            if connection.is_silent(now, self.interval / 2) {
                paths.push(connection.path);
            }
        }
        paths
    }
}

//! How many bytes of splices pass in a second. Those that wait for it take turns.

use crate::streams::Direction;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Less than this isn't worth a datagram.
const LEAST: u64 = 1200;
/// Parts of a second's bytes that may pass at once.
const BURSTS: u64 = 32;

/// Bytes of several splices, both ways together.
struct Meter {
    rate: u64,
    left: f64,
    at: Instant,
    waiting: VecDeque<Direction>,
    /// How often something had to wait since that was last told.
    waits: u64,
}

impl Meter {
    fn burst(&self) -> u64 {
        (self.rate / BURSTS).max(2 * LEAST)
    }

    fn left(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.rate as f64).min(self.burst() as f64);
        self.at = self.at.max(now);
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // below 0 is nothing
        let left = (self.left + 0.5).max(0.0) as u64;
        if left < LEAST { 0 } else { left }
    }

    /// When there is enough for those that wait.
    fn due(&self) -> Instant {
        let missing = (self.burst() / 2).max(LEAST) as f64 - self.left;
        self.at + Duration::from_secs_f64((missing / self.rate as f64).max(0.0))
    }
}

/// Those of an engine, by number.
#[derive(Default)]
pub struct Meters {
    all: FxHashMap<u32, Meter>,
    /// Those that something waits for.
    throttled: Vec<u32>,
}

impl Meters {
    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// These are in force, in bytes a second; what waits for another rate, or for none now, is told.
    pub fn set(&mut self, rates: &FxHashMap<u32, u64>, now: Instant) -> Vec<Direction> {
        let mut freed = Vec::new();
        self.all.retain(|number, meter| {
            let same = rates.get(number) == Some(&meter.rate);
            if !same {
                freed.extend(meter.waiting.drain(..));
            }
            same
        });
        for (&number, &rate) in rates {
            self.all.entry(number).or_insert_with(|| {
                let mut meter = Meter { rate: rate.max(1), left: 0.0, at: now, waiting: VecDeque::new(), waits: 0 };
                meter.left = meter.burst() as f64;
                meter
            });
        }
        self.throttled.retain(|number| self.all.contains_key(number));
        freed
    }

    /// How many bytes may pass all of these now; in its turn also if others wait.
    pub fn allowed(&mut self, numbers: &[u32], in_turn: bool, now: Instant) -> u64 {
        let mut most = u64::MAX;
        for number in numbers {
            if let Some(meter) = self.all.get_mut(number) {
                let left = if meter.waiting.is_empty() || in_turn { meter.left(now) } else { 0 };
                most = most.min(left);
            }
        }
        most
    }

    /// So many have passed.
    pub fn spend(&mut self, numbers: &[u32], size: usize) {
        for number in numbers {
            if let Some(meter) = self.all.get_mut(number) {
                meter.left -= size as f64;
            }
        }
    }

    /// It waits for its turn at the one that has least; tells whether there is one.
    pub fn wait(&mut self, numbers: &[u32], direction: Direction) -> bool {
        let tightest = numbers
            .iter()
            .filter_map(|number| self.all.get(number).map(|meter| (meter.due(), *number)))
            .max_by_key(|(due, _)| *due);
        let Some(meter) = tightest.and_then(|(_, number)| {
            if !self.throttled.contains(&number) {
                self.throttled.push(number);
            }
            self.all.get_mut(&number)
        }) else {
            return false;
        };
        meter.waiting.push_back(direction);
        meter.waits += 1;
        true
    }

    /// When something's turn comes.
    #[must_use]
    pub fn timer(&self) -> Option<Instant> {
        self.throttled.iter().filter_map(|number| self.all.get(number).map(Meter::due)).min()
    }

    /// Those at which turns come now.
    pub fn due(&mut self, now: Instant) -> Vec<u32> {
        let all = &self.all;
        self.throttled.iter().copied().filter(|number| all.get(number).is_some_and(|one| one.due() <= now)).collect()
    }

    /// How many bytes each of those that wait at one gets now.
    pub fn share(&mut self, number: u32, now: Instant) -> u64 {
        let Some(meter) = self.all.get_mut(&number) else { return 0 };
        (meter.left(now) / (meter.waiting.len() as u64).max(1)).max(LEAST)
    }

    /// Whose turn it is at one; None: nobody waits, or nothing is left.
    pub fn next(&mut self, number: u32, now: Instant) -> Option<Direction> {
        let meter = self.all.get_mut(&number)?;
        if meter.left(now) == 0 {
            return None;
        }
        let next = meter.waiting.pop_front();
        if next.is_none() && meter.waits == 0 {
            self.throttled.retain(|other| *other != number);
        }
        next
    }

    /// At which something had to wait since the last call, and how often.
    pub fn take_waits(&mut self) -> Vec<(u32, u64)> {
        let mut told = Vec::new();
        for number in &self.throttled {
            if let Some(meter) = self.all.get_mut(number)
                && meter.waits > 0
            {
                told.push((*number, std::mem::take(&mut meter.waits)));
            }
        }
        told
    }
}

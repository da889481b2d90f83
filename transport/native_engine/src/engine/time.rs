//! Time: what is due, and what it ends.

use super::Engine;
use super::connections::silence;
use crate::connection::Trap;
use crate::event::{CloseKind, Event, Id};
use crate::port_checks::LOOK;
use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// Times that come back from the program may be this much early.
const ROUNDING: Duration = Duration::from_micros(1);
/// Entries that are kept, beside so many of each connection.
const FEW_TIMERS: usize = 256;
const TIMERS_EACH: usize = 8;

impl Engine {
    /// When [`Engine::handle_timer`] wants to be called; None: not at all.
    pub fn timer(&mut self) -> Option<Instant> {
        if !self.handshakes.is_empty() {
            return Some(self.now);
        }
        let next = loop {
            let Some(Reverse((when, id))) = self.timers.peek() else { break None };
            if self.connections.get(id).is_some_and(|connection| connection.times.timer_at == Some(*when)) {
                break Some(*when);
            }
            self.timers.pop();
        };
        next.into_iter().chain(self.port_checks.timer()).chain(self.meters.timer()).min()
    }

    pub(super) fn arm(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let when = connection.next_timer(&self.limits);
        if when != connection.times.timer_at {
            connection.times.timer_at = when;
            self.timers.extend(when.map(|when| Reverse((when, id))));
            if self.timers.len() > FEW_TIMERS + TIMERS_EACH * self.connections.len() {
                // Most of them are of times that were moved.
                self.timers =
                    self.connections.iter().filter_map(|(id, one)| Some(Reverse((one.times.timer_at?, *id)))).collect();
            }
        }
    }

    /// Let time pass. What has arrived by now must have been received before.
    pub fn handle_timer(&mut self, now: Instant) {
        self.now = now;
        self.may_shake_hands = true;
        self.look();
        for path in self.port_checks.step(now + ROUNDING, &mut self.connections) {
            self.outbox.push((path, LOOK.to_vec()));
        }
        let due = now + ROUNDING;
        if !self.meters.is_empty() {
            self.pump_in_turn(due);
        }
        while let Some(&Reverse((when, id))) = self.timers.peek() {
            if when > due {
                break;
            }
            self.timers.pop();
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if connection.times.timer_at != Some(when) {
                continue;
            }
            connection.times.timer_at = None;
            if connection.is_live() {
                self.guarded(id, |engine| engine.on_time(id, due));
            } else if connection.close_packets.is_none() && connection.holds == 0 {
                // Its close packet still has to leave.
                self.queue(id);
            } else if connection.times.closing_until <= due {
                self.forget(id);
            } else {
                self.arm(id);
            }
        }
    }

    fn on_time(&mut self, id: Id, now: Instant) {
        self.spring(id, Trap::Always);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let up = connection.is_connected();
        match connection.on_time(now, &self.limits) {
            None => {}
            Some(CloseKind::Idle) => return self.vanish(id, CloseKind::Idle, silence(up)),
            Some(kind) => return self.vanish(id, kind, &format!("{}, and no answer to a probe", kind.what())),
        }
        self.look_at(id);
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.unresponsive_now(now, &self.limits)
        {
            self.events.push(Event::Unresponsive(id));
        }
        self.queue(id);
    }
}

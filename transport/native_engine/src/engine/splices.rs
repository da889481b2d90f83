//! Splices: bytes of one stream go to another, both ways, and so do their ends.

use super::{Engine, LOST_CODE};
use crate::connection::Trap;
use crate::event::{Event, Id, Outcome};
use crate::splice::{Side, Splice};
use crate::streams::{Direction, End, joined, stream};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::time::Instant;

impl Engine {
    /// Join two streams both ways; the FIN of either may have been read already.
    pub fn splice(&mut self, a: (Id, u64), b: (Id, u64), ended: [bool; 2], meters: Box<[u32]>) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        let (a, b) = ((a.0, stream(a.1)), (b.0, stream(b.1)));
        let there = [a, b].map(|side| self.is_there(side));
        if there.contains(&false) {
            let outcomes = [Outcome::Lost(LOST_CODE); 2];
            self.events.push(Event::Spliced { token, passed: [0; 2], outcomes });
            for (id, stream) in [a, b] {
                self.abort(id, stream, LOST_CODE);
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.rest(stream);
                }
            }
            return token;
        }
        let slot = self.splices.insert(Splice::new(token, a, b, meters));
        self.tokens.insert(token, slot);
        for (half, (id, stream)) in [a, b].into_iter().enumerate() {
            if let Some(record) = self.connections.get_mut(&id).and_then(|one| one.streams.get_mut(stream)) {
                record.source_of = Some((slot, half));
                record.sink_of = Some((slot, 1 - half));
            }
        }
        for (half, ended) in ended.into_iter().enumerate() {
            self.begin_half(token, (slot, half), ended);
        }
        token
    }

    /// Also if it has ended, as long as that is remembered.
    fn is_there(&mut self, (id, stream): Side) -> bool {
        let now = self.now;
        self.live(id).is_some_and(|connection| connection.recall(stream, now))
    }

    fn begin_half(&mut self, token: u64, direction: Direction, ended: bool) {
        let Some(splice) = self.splices.get(direction.0).filter(|splice| splice.token == token) else { return };
        let (source, sink) = (splice.halves[direction.1].source, splice.halves[direction.1].sink);
        if ended {
            return self.finish_half(direction);
        }
        let record = |(id, stream): Side| self.connections.get(&id).and_then(|one| one.streams.get(stream));
        let (from, to) = (record(source), record(sink));
        if let Some(code) = from.and_then(|from| from.reset_code) {
            // The program was told of it, and what came before is nobody's any more.
            if let Some(connection) = self.connections.get_mut(&source.0) {
                let _ = connection.quic.recv_stream(source.1).stop(crate::connection::var(code));
                connection.end_receive(source.1);
            }
            self.source_reset(direction, code);
        } else if from.is_none_or(|from| from.receive_over || from.discarding) {
            self.source_reset(direction, LOST_CODE);
        } else if to.is_none_or(|to| to.send_over) {
            let code = to.and_then(|to| to.stop_code);
            self.sink_stopped(direction, code.unwrap_or(LOST_CODE));
        } else {
            self.queue_pump(direction);
        }
    }

    /// End a splice from our side, at both ends.
    pub fn unsplice(&mut self, token: u64, code: u64) {
        let Some(&slot) = self.tokens.get(&token) else { return };
        let Some(splice) = self.splices.get_mut(slot) else { return };
        for half in &mut splice.halves {
            half.outcome.get_or_insert(Outcome::Aborted(code));
        }
        for (id, stream) in splice.sides() {
            self.abort(id, stream, code);
        }
        self.end_splice(slot);
    }

    /// Bytes passed on so far, both ways; None: it is over.
    #[must_use]
    pub fn splice_progress(&self, token: u64) -> Option<(u64, u64)> {
        let [a_to_b, b_to_a] = &self.splices.get(*self.tokens.get(&token)?)?.halves;
        Some((a_to_b.passed, b_to_a.passed))
    }

    /// Let so many bytes a second pass each of these meters, and any number where there is none.
    pub fn set_meters(&mut self, rates: &FxHashMap<u32, u64>) {
        for direction in self.meters.set(rates, self.now) {
            if let Some(splice) = self.splices.get_mut(direction.0) {
                splice.halves[direction.1].waits = false;
            }
            self.queue_pump(direction);
        }
    }

    /// Let those pass on something whose turn has come.
    pub(super) fn pump_in_turn(&mut self, now: Instant) {
        for number in self.meters.due(now) {
            let share = self.meters.share(number, now);
            while let Some(direction) = self.meters.next(number, now) {
                let Some(splice) = self.splices.get_mut(direction.0) else { continue };
                if std::mem::take(&mut splice.halves[direction.1].waits) {
                    let token = splice.token;
                    self.guarded_splice(token, |engine| engine.pump_one(direction, Some(share)));
                }
            }
        }
    }

    pub(super) fn queue_pump(&mut self, direction: Direction) {
        let Some(splice) = self.splices.get_mut(direction.0) else { return };
        let half = &mut splice.halves[direction.1];
        if half.outcome.is_none() && !half.queued {
            half.queued = true;
            self.pumps.push_back(direction);
        }
    }

    /// Pass on what spliced streams have received.
    pub(super) fn pump(&mut self) {
        while let Some(direction) = self.pumps.pop_front() {
            let Some(token) = self.splices.get(direction.0).map(|splice| splice.token) else { continue };
            self.guarded_splice(token, |engine| engine.pump_one(direction, None));
        }
    }

    /// `turn`: how many bytes may pass meters at which others wait.
    fn pump_one(&mut self, direction: Direction, mut turn: Option<u64>) {
        let Some(splice) = self.splices.get_mut(direction.0) else { return };
        let half = &mut splice.halves[direction.1];
        half.queued = false;
        if half.outcome.is_some() {
            return;
        }
        let (source, sink) = (half.source, half.sink);
        self.spring(source.0, Trap::Splice);
        loop {
            let Some(to) = self.connections.get_mut(&sink.0) else { return };
            let room = to.room(sink.1, &self.limits);
            let allowed = if self.meters.is_empty() { room } else { self.allowed(direction, room, turn) };
            let Some(from) = self.connections.get_mut(&source.0) else { return };
            // Without room, to see whether there is only an end.
            let (pieces, size, end) = from.take(source.1, allowed);
            if size > 0 {
                if end != End::Fin {
                    from.consume(source.1, size, self.now, &self.limits);
                }
                self.pass_on(direction, sink, joined(pieces, size));
                turn = turn.map(|turn| turn.saturating_sub(size as u64));
            }
            match end {
                End::Fin => return self.finish_half(direction),
                End::Reset(code) => {
                    if let Some(from) = self.connections.get_mut(&source.0) {
                        from.end_receive(source.1);
                    }
                    return self.source_reset(direction, code);
                }
                End::Blocked => break,
                End::More if allowed < room => {
                    self.wait_for_turn(direction);
                    break;
                }
                End::More => {
                    let Some(to) = self.connections.get_mut(&sink.0) else { return };
                    if to.room(sink.1, &self.limits) == 0 {
                        to.await_room(sink.1);
                        break;
                    }
                }
            }
        }
        self.queue(source.0);
    }

    /// How many bytes may pass its meters now, of those that the sink has room for.
    fn allowed(&mut self, (slot, half): Direction, room: usize, turn: Option<u64>) -> usize {
        let Some(splice) = self.splices.get(slot) else { return room };
        if splice.halves[half].waits {
            return 0;
        }
        let most = self.meters.allowed(&splice.meters, turn.is_some(), self.now).min(turn.unwrap_or(u64::MAX));
        room.min(usize::try_from(most).unwrap_or(usize::MAX))
    }

    fn wait_for_turn(&mut self, direction: Direction) {
        if let Some(splice) = self.splices.get_mut(direction.0) {
            let half = &mut splice.halves[direction.1];
            half.waits = half.waits || self.meters.wait(&splice.meters, direction);
        }
    }

    fn pass_on(&mut self, (slot, half): Direction, sink: Side, data: bytes::Bytes) {
        if let Some(splice) = self.splices.get_mut(slot) {
            if !self.meters.is_empty() {
                self.meters.spend(&splice.meters, data.len());
            }
            splice.halves[half].passed += data.len() as u64;
        }
        self.queue_bytes(sink, data);
    }

    /// A connection is about to be gone: what it had said to the end goes to the other sides all the same, and a reset
    /// with its own code.
    pub(super) fn pass_rests(&mut self, gone: Id, slots: &BTreeSet<usize>) {
        for &slot in slots {
            for half in 0..2 {
                let Some(splice) = self
                    .splices
                    .get(slot)
                    .filter(|splice| splice.halves[half].source.0 == gone && splice.halves[half].outcome.is_none())
                else {
                    continue;
                };
                self.guarded_splice(splice.token, |engine| engine.pass_rest((slot, half)));
            }
        }
    }

    fn pass_rest(&mut self, direction: Direction) {
        let Some(splice) = self.splices.get(direction.0) else { return };
        let (source, sink) = (splice.halves[direction.1].source, splice.halves[direction.1].sink);
        let Some(from) = self.connections.get_mut(&source.0) else { return };
        let (pieces, size, end) = from.take(source.1, usize::MAX);
        match end {
            End::Fin if self.is_open(sink) && self.may_leave_behind(sink.0, size as u64) => {
                self.pass_on(direction, sink, joined(pieces, size));
                self.finish_half(direction);
            }
            End::Reset(code) => self.source_reset(direction, code),
            _ => {}
        }
    }

    /// The source's FIN was read, and with it every byte: so does the sink's half end.
    fn finish_half(&mut self, (slot, half): Direction) {
        let Some(splice) = self.splices.get_mut(slot) else { return };
        let it = &mut splice.halves[half];
        it.outcome = Some(Outcome::Finished);
        let (source, sink) = (it.source, it.sink);
        if let Some(from) = self.connections.get_mut(&source.0) {
            from.end_receive(source.1);
        }
        self.queue(source.0);
        self.finish_stream(sink.0, sink.1.into());
        self.end_splice(slot);
    }

    /// The source was reset: so is the sink's half.
    pub(super) fn source_reset(&mut self, (slot, half): Direction, code: u64) {
        let Some(splice) = self.splices.get_mut(slot) else { return };
        let it = &mut splice.halves[half];
        if it.outcome.is_none() {
            it.outcome = Some(Outcome::Reset(code));
            let sink = it.sink;
            self.reset_stream(sink.0, sink.1, code);
            self.end_splice(slot);
        }
    }

    /// The sink wants no more: ask the source to stop. After our FIN this is how a reset of the whole connection
    /// travels (D-18), so it passes through then, too.
    pub(super) fn sink_stopped(&mut self, (slot, half): Direction, code: u64) {
        let Some(splice) = self.splices.get_mut(slot) else { return };
        let it = &mut splice.halves[half];
        it.outcome.get_or_insert(Outcome::Stopped(code));
        let source = it.source;
        self.stop_stream(source.0, source.1, code);
        self.end_splice(slot);
    }

    /// Say that a splice is over, if it is; both streams are on their own again.
    pub(super) fn end_splice(&mut self, slot: usize) {
        let Some(result) = self.splices.get(slot).and_then(Splice::result) else { return };
        let splice = self.splices.remove(slot);
        self.tokens.remove(&splice.token);
        for (id, stream) in splice.sides() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if let Some(record) = connection.streams.get_mut(stream) {
                record.source_of = None;
                record.sink_of = None;
                record.blocked = false;
                // Passed on.
                record.reset_code = None;
                record.stop_code = None;
            }
            connection.rest(stream);
        }
        self.events.push(result);
    }
}

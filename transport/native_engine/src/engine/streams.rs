//! Streams: what peers do with them, and what the program asks for.

use super::Engine;
use crate::event::{Event, Id};
use crate::splice::Side;
use crate::streams::{End, stream};
use bytes::Bytes;
use quinn_proto::{Dir, StreamEvent, StreamId};

impl Engine {
    // ---- what peers do -----------------------------------------------------------------------------------------

    pub(super) fn on_stream(&mut self, id: Id, event: StreamEvent) {
        match event {
            StreamEvent::Opened { dir: Dir::Bi } => {
                let limits = &self.limits;
                let opened = self.connections.get_mut(&id).map(|connection| connection.accept(limits));
                for stream in opened.unwrap_or_default() {
                    self.on_readable(id, stream);
                }
            }
            StreamEvent::Readable { id: stream } => self.on_readable(id, stream),
            StreamEvent::Writable { id: stream } => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                connection.flush(stream);
                if connection.has_room_again(stream, &self.limits) {
                    self.on_room(id, stream);
                }
            }
            StreamEvent::Finished { id: stream } => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                if let Some(record) = connection.streams.get_mut(stream) {
                    record.send_done = true;
                }
                connection.rest(stream);
            }
            StreamEvent::Stopped { id: stream, error_code } => self.on_stopped(id, stream, error_code.into_inner()),
            StreamEvent::Available { dir: Dir::Bi } => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                if std::mem::take(&mut connection.streams.wanted) {
                    self.events.push(Event::Available(id));
                }
            }
            StreamEvent::Available { dir: Dir::Uni } | StreamEvent::Opened { dir: Dir::Uni } => {}
        }
    }

    /// The program hears of a stream first when there is something on it.
    fn tell_opened(&mut self, id: Id, stream: StreamId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some(record) = connection.streams.get_mut(stream)
            && !std::mem::replace(&mut record.opened, true)
        {
            self.events.push(Event::Opened(id, stream.into()));
        }
    }

    fn on_readable(&mut self, id: Id, stream: StreamId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(record) = connection.streams.get(stream) else { return };
        if record.receive_over || record.discarding || record.reset_code.is_some() {
            return;
        }
        let source_of = record.source_of;
        if let Some(code) = connection.quic.recv_stream(stream).received_reset().ok().flatten() {
            self.tell_opened(id, stream);
            return self.on_reset(id, stream, code.into_inner());
        }
        if !connection.has_something(stream) {
            return;
        }
        self.tell_opened(id, stream);
        if let Some(direction) = source_of {
            return self.queue_pump(direction);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some(record) = connection.streams.get_mut(stream)
            && !std::mem::replace(&mut record.told, true)
        {
            self.events.push(Event::Readable(id, stream.into()));
        }
    }

    /// The peer has reset its half. What came before can still be read, except by a splice.
    fn on_reset(&mut self, id: Id, stream: StreamId, code: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(record) = connection.streams.get_mut(stream) else { return };
        if let Some(direction) = record.source_of {
            // Drops what nobody passes on any more, and gives its credit back.
            let _ = connection.quic.recv_stream(stream).stop(crate::connection::var(code));
            connection.end_receive(stream);
            return self.source_reset(direction, code);
        }
        record.reset_code = Some(code);
        if !connection.has_something(stream) {
            connection.end_receive(stream);
        }
        self.events.push(Event::Reset(id, stream.into(), code));
    }

    fn on_stopped(&mut self, id: Id, stream: StreamId, code: u64) {
        self.tell_opened(id, stream);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(record) = connection.streams.get_mut(stream) else { return };
        let sink_of = record.sink_of;
        if sink_of.is_none() {
            record.stop_code = Some(code);
        }
        // quinn stops taking bytes, and leaves the reset to us.
        let _ = connection.quic.send_stream(stream).reset(crate::connection::var(code));
        connection.send_is_done(stream);
        match sink_of {
            Some(direction) => self.sink_stopped(direction, code),
            None => self.events.push(Event::Stopped(id, stream.into(), code)),
        }
    }

    /// Who waited for room has it.
    pub(super) fn on_room(&mut self, id: Id, stream: StreamId) {
        let record = self.connections.get(&id).and_then(|connection| connection.streams.get(stream));
        let Some(record) = record else { return };
        match record.sink_of {
            Some(direction) => self.queue_pump(direction),
            None if !record.send_over => self.events.push(Event::Writable(id, stream.into())),
            None => {}
        }
    }

    // ---- what the program asks for -----------------------------------------------------------------------------

    /// Open a stream; None: the peer allows no more now.
    pub fn open_bidi(&mut self, id: Id) -> Option<u64> {
        self.guarded(id, |engine| {
            let connection = engine.connections.get_mut(&id).filter(|connection| connection.is_live())?;
            connection.open(&engine.limits).map(u64::from)
        })?
    }

    /// Queue bytes; how many were taken. Fewer than given: Writable follows.
    pub fn write(&mut self, id: Id, number: u64, data: &[u8]) -> usize {
        self.guarded(id, |engine| engine.write_stream(id, number, data)).unwrap_or(0)
    }

    fn write_stream(&mut self, id: Id, number: u64, data: &[u8]) -> usize {
        let stream = stream(number);
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| connection.is_live()) else {
            return 0;
        };
        if connection.streams.get(stream).is_none_or(|record| record.send_over) {
            return 0;
        }
        let room = connection.room(stream, &self.limits).max(connection.small_room(stream));
        let taken = data.len().min(room);
        if taken > 0 {
            self.queue_bytes((id, stream), Bytes::copy_from_slice(&data[..taken]));
        }
        if taken < data.len()
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.await_room(stream);
        }
        taken
    }

    /// Queue all of it, and FIN, however little room there is: it is the rest of what a peer that is gone has sent.
    /// False: nothing was queued, since too much of that kind waits already, or our half is over.
    pub fn write_rest(&mut self, id: Id, number: u64, data: &[u8]) -> bool {
        self.guarded(id, |engine| {
            let stream = stream(number);
            let open = engine.is_open((id, stream)) && engine.may_leave_behind(id, data.len() as u64);
            if open {
                engine.queue_bytes((id, stream), Bytes::copy_from_slice(data));
                engine.finish_stream(id, number);
            }
            open
        })
        .unwrap_or(false)
    }

    /// Whether our half of it is.
    pub(super) fn is_open(&mut self, (id, stream): Side) -> bool {
        let record = self.live(id).and_then(|connection| connection.streams.get(stream));
        record.is_some_and(|record| !record.send_over)
    }

    /// Whether so many bytes more may wait for a peer, be it beyond its send window.
    pub(super) fn may_leave_behind(&mut self, id: Id, size: u64) -> bool {
        let mut excess_of = |id: Id, size: u64| self.live(id).map_or(0, |connection| connection.excess_with(size));
        let (before, after) = (excess_of(id, 0), excess_of(id, size));
        if after == 0 {
            return true;
        }
        let mut all = after - before;
        let mut overfull = std::mem::take(&mut self.overfull);
        overfull.retain(|&one| {
            let excess = self.live(one).map_or(0, |connection| connection.excess_with(0));
            all += excess;
            excess > 0
        });
        let may = all <= self.limits.left_behind;
        if may && !overfull.contains(&id) {
            overfull.push(id);
        }
        self.overfull = overfull;
        may
    }

    pub(super) fn queue_bytes(&mut self, (id, stream): Side, data: Bytes) {
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(&id)
            && !data.is_empty()
        {
            connection.send(stream, data, now);
            if connection.is_send_low() {
                self.events.push(Event::SendWindowLow(id));
            }
        }
        self.queue(id);
    }

    /// How many bytes of another peer's a stream should be given now; 0: Writable follows.
    pub fn room(&mut self, id: Id, number: u64) -> usize {
        let stream = stream(number);
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| connection.is_live()) else {
            return 0;
        };
        let room = connection.room(stream, &self.limits);
        if room == 0 && connection.streams.get(stream).is_some_and(|record| !record.send_over) {
            connection.await_room(stream);
        }
        room
    }

    /// End our sending half in order.
    pub fn finish(&mut self, id: Id, number: u64) {
        self.guarded(id, |engine| engine.finish_stream(id, number));
    }

    pub(super) fn finish_stream(&mut self, id: Id, number: u64) {
        if self.live(id).is_some_and(|connection| connection.finish(stream(number))) {
            self.queue(id);
        }
    }

    /// Read up to `limit` bytes, in pieces, and whether they are the last; None: reset and read to its end, or no such
    /// stream.
    pub fn read(&mut self, id: Id, number: u64, limit: usize) -> Option<(Vec<Bytes>, bool)> {
        self.guarded(id, |engine| engine.read_stream(id, number, limit))?
    }

    fn read_stream(&mut self, id: Id, number: u64, limit: usize) -> Option<(Vec<Bytes>, bool)> {
        let stream = stream(number);
        let (now, round) = (self.now, self.round);
        let connection = match self.connections.get_mut(&id) {
            Some(connection) => Some(connection),
            None => self.late.get_mut(&id),
        };
        // After the end as long as whoever was told of it may look.
        let connection = connection.filter(|connection| connection.is_live() || connection.told_in == round)?;
        let record = connection.streams.get(stream)?;
        if record.receive_over || record.discarding {
            return None;
        }
        let (pieces, size, end) = connection.take(stream, limit);
        if let Some(record) = connection.streams.get_mut(stream)
            && end != End::More
        {
            record.told = false;
        }
        match end {
            End::More | End::Blocked => connection.consume(stream, size, now, &self.limits),
            End::Fin | End::Reset(_) => connection.end_receive(stream),
        }
        let live = connection.is_live();
        if live && (size > 0 || !matches!(end, End::More | End::Blocked)) {
            self.queue(id);
        }
        match end {
            End::Reset(_) if size == 0 => None,
            _ => Some((pieces, end == End::Fin)),
        }
    }

    /// End our sending half with an error.
    pub fn reset(&mut self, id: Id, number: u64, code: u64) {
        self.guarded(id, |engine| engine.reset_stream(id, stream(number), code));
    }

    /// Ask the peer to stop its sending half.
    pub fn stop(&mut self, id: Id, number: u64, code: u64) {
        self.guarded(id, |engine| engine.stop_stream(id, stream(number), code));
    }

    pub(super) fn reset_stream(&mut self, id: Id, stream: StreamId, code: u64) {
        let Some(connection) = self.live(id) else { return };
        if connection.streams.get(stream).is_some() && connection.reset(stream, code) {
            self.queue(id);
        }
    }

    pub(super) fn stop_stream(&mut self, id: Id, stream: StreamId, code: u64) {
        if self.live(id).is_some_and(|connection| connection.stop(stream, code)) {
            self.queue(id);
        }
    }

    /// Both halves end with an error.
    pub(super) fn abort(&mut self, id: Id, stream: StreamId, code: u64) {
        self.reset_stream(id, stream, code);
        self.stop_stream(id, stream, code);
    }
}

//! A connection as the engine sees it, beside quinn's own: its path, its times, its closing.

use crate::congestion::Interactive;
use crate::event::{CloseKind, Id};
use crate::limits::Limits;
use crate::streams::Streams;
use crate::tls::Said;
use crate::window::{SendWindow, Window};
use quinn_proto::{ConnectionHandle, VarInt};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A closed connection answers stragglers for so long at least (RFC 9000 section 10.2.1).
const CLOSING_AT_LEAST: Duration = Duration::from_secs(1);
/// Of silence in the middle of what a hub sends, after which an endpoint asks whether it is still heard: its own address
/// may have changed unnoticed, and a hub learns of it from its packets only.
const ASK_AFTER: Duration = Duration::from_millis(600);
/// Between two probes of a peer that doesn't answer, at most: quinn's doubling has no end.
const LONGEST_PROBE_INTERVAL: Duration = Duration::from_millis(600);
/// Between what was sent last and the sign of life of a peer that acknowledges nothing, before it is sent again.
const SHORTEST_PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Round trips that an answer may take, on paths where that is more than the limits allow.
const LATE: u32 = 2;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The handshake isn't over.
    Handshaking,
    /// Up.
    Connected,
    /// Its end was told; only the close packet may still be repeated.
    Closing,
}

/// What the engine keeps per connection.
pub struct Connection {
    /// Ours.
    pub id: Id,
    /// quinn's name for it.
    pub handle: ConnectionHandle,
    /// quinn's.
    pub quic: quinn_proto::Connection,
    /// Which side we are.
    pub is_client: bool,
    /// How far it has come.
    pub stage: Stage,
    /// The handshake was completed once.
    pub was_connected: bool,
    /// Where the peer is.
    pub path: SocketAddr,
    /// Where it was when its handshake began.
    pub began_at: SocketAddr,
    /// The server name under which its handshake waits; empty: none of ours.
    pub queue: String,
    /// Datagrams of it wait there.
    pub waiting: bool,
    /// What the peer says about itself.
    pub said: Arc<Mutex<Said>>,
    /// A server's first connection id.
    pub first_cid: Vec<u8>,
    /// Its streams.
    pub streams: Streams,
    /// Whether it has others than bulk to serve.
    pub interactive: Arc<Interactive>,
    /// What the peer may have us hold.
    pub window: Window,
    /// What may wait for it.
    pub send_window: SendWindow,
    /// Its times.
    pub times: Times,
    /// Holds that keep it from sending.
    pub holds: u32,
    /// Something was kept back by them.
    pub held_back: bool,
    /// It stands in the queue of those that may have something to send.
    pub queued: bool,
    /// A fault of ours has happened to it once; it is being closed.
    pub failed: bool,
    /// See `Engine.set_translated`.
    pub translated: Option<bool>,
    /// It is among those whose ports are looked after.
    pub checked: bool,
    /// Its close packets, once they were sent; empty: the peer has closed it.
    pub close_packets: Option<Vec<Vec<u8>>>,
    /// Datagrams that came since it is over.
    pub stragglers: u32,
    /// In which round of events its end is told.
    pub told_in: u64,
    /// A fault to bring about, for tests.
    pub trap: Option<Trap>,
}

/// Where a fault is brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// Once, when a datagram is handled.
    Receive,
    /// Once, when what it has to say is taken.
    Collect,
    /// Once, when packets are made.
    Transmit,
    /// Once, when what it received is passed on.
    Splice,
    /// Whenever anything is done.
    Always,
}

/// When what happened, and what is due.
pub struct Times {
    last_active: Instant,
    /// The last datagram.
    pub last_heard: Instant,
    /// Something that asks for an acknowledgement was sent.
    last_asked: Instant,
    /// A probe was asked for, whether or not it could be sent: what may not send must not spin.
    probed: Instant,
    /// Bytes of streams came.
    data_at: Instant,
    /// Between the two times before that.
    data_gap: Duration,
    handshake_deadline: Instant,
    ask_at: Option<Instant>,
    probe_deadline: Option<Instant>,
    probe_again: Option<Instant>,
    port_closed: bool,
    unanswered_since: Option<Instant>,
    unresponsive: bool,
    acknowledged: u64,
    stream_frames: u64,
    black_holes: u64,
    /// Its path was seen to carry less than it did, which is still to be told.
    pub narrowed: bool,
    /// Something has come since [`Connection::hear`].
    pub heard: bool,
    /// Until when the close packet is repeated.
    pub closing_until: Instant,
    /// When the engine looks at it again.
    pub timer_at: Option<Instant>,
}

impl Times {
    /// Of a connection that begins now.
    #[must_use]
    pub fn new(now: Instant, limits: &Limits) -> Self {
        Self {
            last_active: now,
            last_heard: now,
            last_asked: now,
            probed: now,
            data_at: now,
            data_gap: Duration::MAX,
            handshake_deadline: now + limits.handshake_timeout,
            ask_at: None,
            probe_deadline: None,
            probe_again: None,
            port_closed: false,
            unanswered_since: None,
            unresponsive: false,
            acknowledged: 0,
            stream_frames: 0,
            black_holes: 0,
            narrowed: false,
            heard: false,
            closing_until: now,
            timer_at: None,
        }
    }
}

impl Connection {
    /// Whether it isn't over.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.stage != Stage::Closing
    }

    /// Whether the handshake is over.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.stage == Stage::Connected
    }

    // ---- times -------------------------------------------------------------------------------------------------

    /// A datagram has come.
    pub fn on_datagram(&mut self, now: Instant) {
        self.times.last_heard = now;
        self.times.heard = true;
    }

    /// Something was sent; `asked`: something that asks for an acknowledgement.
    pub fn on_sent(&mut self, now: Instant, asked: bool) {
        self.times.last_active = now;
        if asked && self.quic.awaits_ack() {
            self.times.last_asked = now;
            self.times.unanswered_since.get_or_insert(now);
        }
    }

    /// Take note of what has come; tells whether it is the answer of a peer that was unresponsive until now.
    ///
    /// Only an acknowledgement is an answer: where packets get through one way only, ours may be the way that is cut.
    pub fn hear(&mut self, limits: &Limits) -> bool {
        if !std::mem::take(&mut self.times.heard) {
            return false;
        }
        let up = self.is_connected();
        let times = &mut self.times;
        times.last_active = times.last_active.max(times.last_heard);
        let stats = self.quic.stats();
        times.narrowed |= stats.path.black_holes_detected > times.black_holes;
        times.black_holes = stats.path.black_holes_detected;
        let frames = stats.frame_rx.stream;
        if frames != times.stream_frames {
            times.stream_frames = frames;
            // An endpoint asks when the next bytes take twice as long as these, or as those before: an outage is no
            // interval in which they come.
            let gap = times.last_heard.saturating_duration_since(times.data_at);
            let wait = ASK_AFTER.max(gap.min(std::mem::replace(&mut times.data_gap, gap)) * 2);
            times.data_at = times.last_heard;
            times.ask_at = (self.is_client && wait < limits.keep_alive).then(|| times.data_at + wait);
        }
        let (acknowledged, unanswered) = (self.quic.acknowledged(), self.quic.awaits_ack());
        if up && unanswered && acknowledged == times.acknowledged {
            // It may have missed what we sent: that needn't wait for the back-off, which one late acknowledgement may
            // have made seconds long.
            let pause = SHORTEST_PROBE_INTERVAL.max(self.quic.min_rtt() * 3);
            if times.last_heard.saturating_duration_since(times.last_asked) >= pause {
                self.quic.probe();
            }
            return false;
        }
        times.acknowledged = acknowledged;
        times.probe_deadline = None;
        times.probe_again = None;
        times.port_closed = false;
        times.unanswered_since = unanswered.then_some(times.last_heard);
        std::mem::take(&mut times.unresponsive)
    }

    /// The peer has another address; what was said about the old one counts no more.
    pub fn move_to(&mut self, path: SocketAddr) {
        self.path = path;
        if self.translated == Some(false) {
            self.translated = Some(true);
        }
        self.times.probe_deadline = None;
        self.times.probe_again = None;
        self.times.port_closed = false;
        self.quic.probe();
    }

    /// The peer may be gone: it has the probe timeout to answer. False: that has begun already.
    pub fn begin_probe(&mut self, now: Instant, port_closed: bool, limits: &Limits) -> bool {
        let times = &mut self.times;
        let longer = port_closed && !times.port_closed && self.translated == Some(true);
        times.port_closed |= port_closed;
        if self.stage == Stage::Closing || (times.probe_deadline.is_some() && !longer) {
            return false;
        }
        // Behind a translator that has forgotten it hears no probe, and speaks again when it has something to say.
        let more = if longer { limits.keep_alive } else { Duration::ZERO };
        let timeout = limits.probe_timeout.max(self.quic.rtt() * LATE);
        times.probe_deadline = Some(now + timeout + more);
        times.probe_again = Some(now + timeout / 2);
        self.quic.probe();
        true
    }

    /// Whether this side has begun it, and it isn't up yet.
    #[must_use]
    pub fn is_attempt(&self) -> bool {
        self.is_client && self.stage == Stage::Handshaking
    }

    /// Whether it has streams of the program's beside the first, and nothing has come for so long.
    #[must_use]
    pub fn is_silent(&self, now: Instant, duration: Duration) -> bool {
        self.is_connected() && self.streams.len() > 1 && now >= self.times.last_heard + duration
    }

    /// When a peer that acknowledges nothing is probed again, whatever quinn's back-off says.
    fn nag_at(&self) -> Option<Instant> {
        let pause = LONGEST_PROBE_INTERVAL.max(self.quic.min_rtt() * 3);
        (self.is_connected() && self.quic.awaits_ack()).then(|| self.times.last_asked.max(self.times.probed) + pause)
    }

    /// When the engine has to look at it again.
    pub fn next_timer(&mut self, limits: &Limits) -> Option<Instant> {
        if self.stage == Stage::Closing {
            return Some(self.times.closing_until);
        }
        let (nag, suspect_after) = (self.nag_at(), self.suspect_after(limits));
        let timer = self.quic.poll_timeout();
        let times = &self.times;
        let mut next = [timer, times.ask_at, times.probe_again, times.probe_deadline, nag].into_iter().flatten().min();
        let mut also = |when: Instant| next = Some(next.map_or(when, |next| next.min(when)));
        if self.stage == Stage::Handshaking {
            also(times.handshake_deadline);
        } else {
            if !limits.keep_alive.is_zero() {
                also(times.last_active + limits.keep_alive);
            }
            if let (Some(since), false) = (times.unanswered_since, times.unresponsive) {
                also(since + suspect_after);
            }
        }
        next
    }

    /// Let time pass; what it has ended.
    pub fn on_time(&mut self, now: Instant, limits: &Limits) -> Option<CloseKind> {
        let due = |when: Option<Instant>| when.is_some_and(|when| now >= when);
        if self.stage == Stage::Handshaking && now >= self.times.handshake_deadline {
            return Some(CloseKind::Idle);
        }
        if due(self.times.probe_deadline) {
            return Some(if self.times.port_closed { CloseKind::PortClosed } else { CloseKind::Unreachable });
        }
        if due(self.times.probe_again) {
            self.times.probe_again = None;
            self.quic.probe();
        }
        if due(self.times.ask_at) {
            self.times.ask_at = None;
            self.quic.probe();
        }
        if due(self.nag_at()) {
            self.times.probed = now;
            self.quic.probe();
        }
        if due(self.quic.poll_timeout()) {
            self.quic.handle_timeout(now);
        }
        if self.is_connected() && !limits.keep_alive.is_zero() && now >= self.times.last_active + limits.keep_alive {
            self.times.last_active = now;
            self.quic.ping();
        }
        None
    }

    fn suspect_after(&self, limits: &Limits) -> Duration {
        limits.suspect_after.max(self.quic.rtt() * LATE)
    }

    /// Whether the peer has just become unresponsive (D-20).
    pub fn unresponsive_now(&mut self, now: Instant, limits: &Limits) -> bool {
        let suspect_after = self.suspect_after(limits);
        let times = &mut self.times;
        let Some(since) = times.unanswered_since else { return false };
        if self.stage != Stage::Connected || times.unresponsive || now < since + suspect_after {
            return false;
        }
        if !self.quic.awaits_ack() {
            times.unanswered_since = None;
            return false;
        }
        times.unresponsive = true;
        true
    }

    // ---- closing -----------------------------------------------------------------------------------------------

    /// Stay for a while, to repeat the close packet to a peer that missed it (D-19). An endpoint stays as long as a hub
    /// may believe that it is there (D-20).
    pub fn begin_closing(&mut self, now: Instant, limits: &Limits) {
        let least = if self.is_client && self.was_connected {
            limits.keep_alive + limits.idle_timeout
        } else {
            CLOSING_AT_LEAST
        };
        self.times.closing_until = now + least.max(self.quic.rtt() * 9);
        self.stage = Stage::Closing;
    }

    /// The peer still sends; tells whether its close packet goes out again: for every 1st, 2nd, 4th, 8th … straggler.
    pub fn heard_while_closing(&mut self) -> bool {
        self.stragglers += 1;
        self.stragglers.is_power_of_two()
    }
}

/// A number as QUIC has it; the largest where it is larger than that.
#[must_use]
pub fn var(number: u64) -> VarInt {
    VarInt::from_u64(number).unwrap_or(VarInt::MAX)
}

//! How many bytes may be in flight: CUBIC (RFC 9438) as quinn has it, and less of them where that serves somebody.
//!
//! Between hosts beside each other, or programs of one, nothing is lost until a receiver's socket overflows. So CUBIC
//! fills that, and an echo on the same connection waits behind megabytes for a receiver that is busy with them. While
//! there is one, no more are in flight than keep the receiver busy: the queue is its own, and shows in the round trips.
//! As with CoDel (RFC 8289) the shortest of an interval counts, so a burst, or a process that waits for its turn, is no
//! queue; one that stands through the interval is. Without anybody who is served by it large batches cost less.
//!
//! On longer paths the queue is the network's, where who yields to delay gets nothing beside those that don't: they are
//! CUBIC's alone.

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, Cubic, CubicConfig};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest round trip of a path on which bytes in flight are bounded by delay.
const SHORT: Duration = Duration::from_millis(5);
/// What a queue may add to the round trip for a whole interval.
const QUEUE: Duration = Duration::from_micros(250);
/// How long a queue has to stand; less than a process may wait for its turn were noise.
const INTERVAL: Duration = Duration::from_millis(10);
/// Bytes that are never too many: what one turn sends, and half as much that is worked off meanwhile.
const LEAST: u64 = 48 * 1024;
/// Intervals in which as few as that take longer than [`SHORT`]: then the path has become longer.
const LONGER_AFTER: u32 = 16;

/// After the last little that was sent beside bulk, for so long more is expected.
const SERVED: Duration = Duration::from_millis(250);

/// How often a connection has sent little on a stream that sends little: an echo, a request, what opens another stream.
#[derive(Debug, Default)]
pub struct Interactive(AtomicU64);

impl Interactive {
    /// Once more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes those of one connection.
pub struct Bounded {
    cubic: Arc<CubicConfig>,
    interactive: Arc<Interactive>,
}

impl Bounded {
    /// Of a connection that counts there.
    #[must_use]
    pub fn new(interactive: Arc<Interactive>) -> Self {
        Self { cubic: Arc::default(), interactive }
    }
}

impl ControllerFactory for Bounded {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(BoundedCubic {
            cubic: Cubic::new(self.cubic.clone(), now, current_mtu),
            interactive: self.interactive.clone(),
            counted: 0,
            serves_until: None,
            bound: u64::MAX,
            shortest: Duration::MAX,
            interval: Interval::new(now),
            acknowledged: 0,
            too_long: 0,
        })
    }
}

/// What was seen since its beginning.
#[derive(Clone, Debug)]
struct Interval {
    began: Instant,
    /// Something that was sent in it was acknowledged.
    round_trip: bool,
    shortest: Duration,
    most_in_flight: u64,
}

impl Interval {
    fn new(now: Instant) -> Self {
        Self { began: now, round_trip: false, shortest: Duration::MAX, most_in_flight: 0 }
    }
}

#[derive(Clone, Debug)]
struct BoundedCubic {
    cubic: Cubic,
    interactive: Arc<Interactive>,
    /// As it was at the end of the last interval.
    counted: u64,
    serves_until: Option<Instant>,
    /// Bytes in flight; the largest number: no bound.
    bound: u64,
    /// Round trip of the path, as far as is known.
    shortest: Duration,
    interval: Interval,
    /// Bytes, in the batch of acknowledgements that is being handled.
    acknowledged: u64,
    /// Intervals one after the other.
    too_long: u32,
}

impl BoundedCubic {
    fn end_interval(&mut self, now: Instant) {
        let over = std::mem::replace(&mut self.interval, Interval::new(now));
        let counted = self.interactive.0.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.counted, counted) != counted {
            self.serves_until = Some(now + SERVED);
        }
        if self.shortest > SHORT || self.serves_until.is_none_or(|until| now > until) {
            self.bound = u64::MAX;
            return;
        }
        let used = over.most_in_flight >= self.bound / 4 * 3;
        let wanted = self.shortest + QUEUE;
        if over.shortest <= wanted {
            self.too_long = 0;
            if used {
                self.bound = self.bound.saturating_add(self.bound / 8);
            }
            return;
        }
        if self.bound.min(over.most_in_flight) > LEAST {
            let part = (wanted.as_secs_f64() / over.shortest.as_secs_f64()).max(0.5);
            #[allow(clippy::cast_sign_loss)] // a part of what isn't below 0
            let less = (self.bound.min(over.most_in_flight) as f64 * part) as u64;
            self.bound = less.max(LEAST);
        } else if used && over.shortest > SHORT {
            self.too_long += 1;
            if self.too_long >= LONGER_AFTER {
                self.too_long = 0;
                self.shortest = over.shortest;
            }
        }
    }
}

impl Controller for BoundedCubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        // What isn't used doesn't grow (RFC 9002 section 7.8).
        let bounded = self.bound < self.cubic.window();
        self.cubic.on_ack(now, sent, bytes, app_limited || bounded, rtt);
        let took = now.saturating_duration_since(sent);
        self.shortest = self.shortest.min(took);
        self.interval.shortest = self.interval.shortest.min(took);
        self.interval.round_trip |= sent >= self.interval.began;
        self.acknowledged += bytes;
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        let before = in_flight + std::mem::take(&mut self.acknowledged);
        self.interval.most_in_flight = self.interval.most_in_flight.max(before);
        if self.interval.round_trip && now.saturating_duration_since(self.interval.began) >= INTERVAL {
            self.end_interval(now);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().min(self.bound)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

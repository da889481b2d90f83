//! A QUIC endpoint, client and server at once: `spnhub.transport.engine.Engine` says what it promises.
//!
//! No sockets, no clock, no Python. Each file beside this one has one subject: what comes in ([`receive`]), handshakes,
//! connections and their ends, streams, splices, time, and what goes out ([`transmit`]).

mod connections;
mod faults;
mod handshakes;
mod receive;
mod splices;
mod streams;
mod time;
mod transmit;

pub use faults::remember_panics;
pub use handshakes::Named;
pub use transmit::Emit;

use crate::cids::{Cids, FirstCid, locked, random};
use crate::congestion::{Bounded, Interactive};
use crate::connection::{Connection, var};
use crate::event::{Event, Id, Under};
use crate::handshakes::Handshakes;
use crate::limits::Limits;
use crate::meters::Meters;
use crate::paths::Paths;
use crate::port_checks::PortChecks;
use crate::resets::Resets;
use crate::retry::{HalfOpen, RetryTokens};
use crate::splice::Splice;
use crate::streams::{Direction, LITTLE};
use handshakes::{Policy, RefusedHellos};
use quinn_proto::{
    ConnectionEvent, Endpoint, EndpointConfig, IdleTimeout, Incoming, MtuDiscoveryConfig, TransportConfig,
};
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// With which a splice ends one side when the other side's connection is lost.
pub const LOST_CODE: u64 = 0x5350_4E01;
/// With which whatever a fault of ours was about is ended.
const INTERNAL: u64 = 1;
/// Bytes that a handshake may have on their way or incomplete here: a certificate chain of 64 KiB, and what is beside
/// it.
const HANDSHAKE_BUFFER: usize = 72 * 1024;
/// Unsent bytes are bounded per stream and connection here, so quinn's own bound must never be met.
const QUINN_SEND_WINDOW: u64 = 1 << 28;
const DATAGRAMS: usize = 1 << 20;
/// What every path carries (RFC 9000 section 14), and what is gone back to where larger datagrams get lost.
const SMALLEST_DATAGRAM: u16 = 1200;
/// Bytes that a path is given before larger datagrams are tried on it: who says little has nothing of them, and a
/// search costs up to some twenty probes.
const PROBE_AFTER: u64 = 128 * 1024;
/// The search ends less than twice so many bytes below what the path carries.
const PROBE_STEP: u16 = 10;

/// How many of which things there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Connections, those that are closing included.
    pub connections: usize,
    /// Paths that some connection uses.
    pub peers: usize,
    /// Streams of all connections.
    pub streams: usize,
    /// Splices.
    pub splices: usize,
    /// Handshakes that have begun and are not over, of the server name that has most.
    pub half_open: usize,
}

/// A look at a connection.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Where the peer is.
    pub path: SocketAddr,
    /// Round-trip time.
    pub rtt: Duration,
    /// Bytes.
    pub congestion_window: u64,
    /// Bytes.
    pub in_flight: u64,
    /// Streams.
    pub streams: usize,
    /// Bytes received and not read.
    pub buffered: u64,
    /// Bytes that the peer may have us hold.
    pub window: u64,
    /// Bytes written and not yet acknowledged.
    pub unacknowledged: u64,
    /// Largest UDP payload that is sent to the peer.
    pub datagram_size: u16,
}

/// The endpoint.
///
/// What peers choose is hashed with a secret; `FxHashMap` is for our own numbers.
pub struct Engine {
    limits: Limits,
    quic: Endpoint,
    /// What quinn's addresses mean.
    pub paths: Paths,
    policy: Policy,
    now: Instant,
    random: StdRng,

    connections: FxHashMap<Id, Box<Connection>>,
    by_handle: Vec<Option<Id>>,
    by_path: HashMap<SocketAddr, Vec<Id>>,
    next_id: Id,
    /// Those that something came for.
    touched: Vec<Id>,
    /// Those that may have something to send.
    to_send: VecDeque<Id>,
    timers: BinaryHeap<Reverse<(Instant, Id)>>,

    events: Vec<Event>,
    /// How often they were taken.
    round: u64,
    /// Connections whose end is among the events, and those whose end was told last: these may be read still.
    over: Vec<Id>,
    told_over: Vec<Id>,
    /// Of those, the ones that the engine has forgotten otherwise.
    late: FxHashMap<Id, Box<Connection>>,

    splices: Slab<Splice>,
    tokens: FxHashMap<u64, usize>,
    next_token: u64,
    pumps: VecDeque<Direction>,
    meters: Meters,
    /// Connections for whose peers more may wait than their send windows allow ([`Engine::write_rest`]).
    overfull: Vec<Id>,

    handshakes: Handshakes<Incoming, ConnectionEvent>,
    half_open: HalfOpen,
    retry_tokens: RetryTokens,
    /// Retries sent since they were last reported.
    retries: BTreeMap<Under, u64>,
    may_shake_hands: bool,
    first_cid: FirstCid,
    refused: RefusedHellos,

    /// None: no key to make them with.
    resets: Option<Resets>,
    port_checks: PortChecks,
    outbox: Vec<(SocketAddr, Vec<u8>)>,
    scratch: Vec<u8>,
    faults: Vec<String>,
}

impl Engine {
    /// With a reset key packets of unknown connections are answered; with a seed all but keys is the same each time.
    #[must_use]
    pub fn new(limits: Limits, reset_key: Option<&[u8]>, seed: Option<[u8; 32]>, now: Instant) -> Self {
        let mut random = random(seed);
        let mut key = [0; 32];
        rand::Rng::fill_bytes(&mut random, &mut key);
        let mut config =
            EndpointConfig::new(Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, reset_key.unwrap_or(&key))));
        let first_cid = FirstCid::default();
        let first = first_cid.clone();
        config.supported_versions(vec![1]).min_reset_interval(Duration::ZERO).rng_seed(seed);
        // With the bit greased (RFC 9287) a hub that has started again couldn't tell packets from noise (D-20).
        config.grease_quic_bit(false);
        // The largest there is: what others send is bounded by their own path.
        let _ = config.max_udp_payload_size(65_527);
        config.cid_generator(move || Box::new(Cids::new(seed, first.clone())));
        let quic = Endpoint::new(Arc::new(config), None, true, None);
        let check = if limits.keep_alive.is_zero() { Duration::ZERO } else { limits.port_check };
        Self {
            limits,
            quic,
            paths: Paths::default(),
            policy: Policy::default(),
            now,
            random,
            connections: FxHashMap::default(),
            by_handle: Vec::new(),
            by_path: HashMap::default(),
            next_id: 1,
            touched: Vec::new(),
            to_send: VecDeque::new(),
            timers: BinaryHeap::new(),
            events: Vec::new(),
            round: 0,
            over: Vec::new(),
            told_over: Vec::new(),
            late: FxHashMap::default(),
            splices: Slab::new(),
            tokens: FxHashMap::default(),
            next_token: 1,
            pumps: VecDeque::new(),
            meters: Meters::default(),
            overfull: Vec::new(),
            handshakes: Handshakes::default(),
            half_open: HalfOpen::default(),
            retry_tokens: RetryTokens::new(reset_key.unwrap_or(&key), now),
            retries: BTreeMap::new(),
            may_shake_hands: false,
            first_cid,
            refused: RefusedHellos::default(),
            resets: reset_key.map(|_| Resets::default()),
            port_checks: PortChecks::new(check),
            outbox: Vec::new(),
            scratch: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Serve these identities from now on: by server name, and in their place by socket.
    pub fn set_policy(&mut self, names: Named, by_socket: FxHashMap<u32, Named>) {
        self.policy = Policy::new(names, by_socket, &self.retry_tokens);
        self.quic.set_server_config(self.policy.server_config());
    }

    /// What has happened since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        for id in std::mem::take(&mut self.told_over) {
            self.late.remove(&id);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.streams.clear();
            }
        }
        if self.may_shake_hands {
            self.shake_hands(self.now);
        }
        self.look();
        let dropped = self.handshakes.take_dropped().into_iter();
        self.events.extend(dropped.map(|(under, count)| Event::HandshakesDropped(under, count)));
        let retries = std::mem::take(&mut self.retries).into_iter();
        self.events.extend(retries.map(|(under, count)| Event::RetriesSent(under, count)));
        self.pump();
        if !self.meters.is_empty() {
            self.events
                .extend(self.meters.take_waits().into_iter().map(|(meter, count)| Event::Throttled(meter, count)));
        }
        self.told_over = std::mem::take(&mut self.over);
        self.round += 1;
        std::mem::take(&mut self.events)
    }

    /// Faults of ours that ended a connection or a splice, since the last call: where, and what.
    pub fn take_faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    /// A look at a connection; None: it is gone.
    #[must_use]
    pub fn info(&mut self, id: Id) -> Option<Info> {
        let connection = self.live(id)?;
        let path = connection.quic.stats().path;
        Some(Info {
            path: connection.path,
            rtt: path.rtt,
            congestion_window: path.cwnd,
            in_flight: connection.quic.in_flight(),
            streams: connection.streams.len(),
            buffered: connection.quic.streams().unread(),
            window: connection.window.granted(),
            unacknowledged: connection.held(),
            datagram_size: path.current_mtu,
        })
    }

    /// How many of which things there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.len(),
            peers: self.by_path.len(),
            streams: self.connections.values().map(|connection| connection.streams.len()).sum(),
            splices: self.splices.len(),
            half_open: self.half_open.most(),
        }
    }

    /// How often the keys of a connection were replaced; None: it is gone.
    #[must_use]
    pub fn key_updates(&mut self, id: Id) -> Option<u64> {
        let connection = self.live(id)?;
        // quinn asks for the next keys once when a handshake is over, and then at each replacement.
        Some(locked(&connection.said).next_keys.saturating_sub(1))
    }

    fn live(&mut self, id: Id) -> Option<&mut Connection> {
        self.connections.get_mut(&id).map(|connection| &mut **connection).filter(|connection| connection.is_live())
    }
}

/// Of a connection that counts there when it sends little.
fn transport(limits: &Limits, interactive: Arc<Interactive>) -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(limits.datagram_size_max).minimum_change(PROBE_STEP).begin_after(PROBE_AFTER);
    let larger = limits.datagram_size_max > limits.datagram_size;
    config
        .max_concurrent_bidi_streams(var(limits.streams))
        .max_concurrent_uni_streams(var(0))
        .receive_window(var(limits.initial_window()))
        .stream_receive_window(var(limits.stream_window))
        .send_window(QUINN_SEND_WINDOW)
        .send_quantum(LITTLE)
        .crypto_buffer_size(HANDSHAKE_BUFFER)
        .congestion_controller_factory(Arc::new(Bounded::new(interactive)))
        .initial_mtu(limits.datagram_size)
        .min_mtu(SMALLEST_DATAGRAM)
        .mtu_discovery_config(larger.then_some(discovery))
        .max_idle_timeout(IdleTimeout::try_from(limits.idle_timeout).ok())
        .keep_alive_interval(None)
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS);
    config
}

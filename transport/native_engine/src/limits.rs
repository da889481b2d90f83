//! Sizes and times of one engine, as `spnhub.transport.engine.Limits` explains them.

use std::time::Duration;

/// Bounds of every connection. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Silence after which a connection is lost.
    pub idle_timeout: Duration,
    /// Silence after which a PING is sent; zero: never.
    pub keep_alive: Duration,
    /// What a handshake may take.
    pub handshake_timeout: Duration,
    /// UDP payload that each path carries.
    pub datagram_size: u16,
    /// The largest that path MTU discovery tries.
    pub datagram_size_max: u16,
    /// Bidirectional streams that a peer may have open at once.
    pub streams: u64,
    /// Receive window of a stream that has consumed nothing.
    pub stream_window: u64,
    /// What it may grow to.
    pub stream_window_max: u64,
    /// What all streams of a connection may have together above `stream_window` each.
    pub window_budget: u64,
    /// Receive window with which a connection begins; zero: the largest.
    pub initial_window: u64,
    /// Written bytes that may wait for a peer at first; zero: any number.
    pub initial_send_window: u64,
    /// Unsent bytes that a stream takes.
    pub send_buffer: u64,
    /// Unsent bytes of a connection from which on each stream takes a quarter only.
    pub send_budget: u64,
    /// Bytes of peers that are gone that may wait beyond the send windows of all connections.
    pub left_behind: u64,
    /// Silence after something was sent that makes a peer unresponsive.
    pub suspect_after: Duration,
    /// What a peer has to answer a probe.
    pub probe_timeout: Duration,
    /// How often the port of a silent peer is looked after; zero: never.
    pub port_check: Duration,
}

/// Datagrams that a stream's buffer holds at least, so that large ones go in batches, too.
const SEND_DATAGRAMS: u64 = 12;

impl Limits {
    /// Unsent bytes of one stream while its connection has room.
    #[must_use]
    pub fn stream_buffer(&self) -> u64 {
        self.send_buffer.max(SEND_DATAGRAMS * u64::from(self.datagram_size))
    }

    /// The connection's own window at its largest: all that its streams may be given.
    #[must_use]
    pub fn connection_window(&self) -> u64 {
        self.streams * self.stream_window + self.window_budget
    }

    /// That with which it begins.
    #[must_use]
    pub fn initial_window(&self) -> u64 {
        if self.initial_window == 0 { self.connection_window() } else { self.initial_window }
    }
}

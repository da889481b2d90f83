//! What an engine says, as `spnhub.transport.engine` explains it.

use bytes::Bytes;
use std::net::SocketAddr;

/// A connection of one engine, for its whole life.
pub type Id = u64;

/// Which of our sockets clients came to, and the server name; empty: none of ours, or not looked for yet.
pub type Under = (u32, String);

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseKind {
    /// The peer closed with an application code.
    Peer,
    /// The peer closed with a transport code.
    PeerTransport,
    /// The program closed.
    Local,
    /// The peer broke QUIC's rules, or our own code failed; we closed.
    Violation,
    /// Nothing was heard.
    Idle,
    /// The network said so, and a probe stayed unanswered.
    Unreachable,
    /// The peer's host said so, and a probe stayed unanswered.
    PortClosed,
    /// A stateless reset.
    Reset,
}

impl CloseKind {
    /// What the network has said of the peer.
    #[must_use]
    pub fn what(self) -> &'static str {
        if self == Self::PortClosed { "port closed" } else { "unreachable" }
    }
}

/// How one direction of a splice ended, with the code where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// FIN was passed on.
    Finished,
    /// The source reset it.
    Reset(u64),
    /// The sink stopped it.
    Stopped(u64),
    /// One side's connection is gone.
    Lost(u64),
    /// The program ended it.
    Aborted(u64),
}

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// A handshake is complete.
    Connected {
        /// Whose.
        id: Id,
        /// SNI.
        server_name: String,
        /// The peer's, DER, leaf first.
        certificates: Vec<Vec<u8>>,
        /// What was agreed on.
        alpn: String,
        /// The first connection id of the server.
        cid: Vec<u8>,
        /// The path.
        path: SocketAddr,
    },
    /// A server's handshake ended before that.
    HandshakeRefused {
        /// Whose.
        id: Id,
        /// The path.
        path: SocketAddr,
        /// SNI, as far as it is known.
        server_name: Option<String>,
        /// TLS alert, sent or received.
        alert: Option<u8>,
        /// In words.
        reason: String,
        /// The leaf that was presented, DER.
        certificate: Option<Vec<u8>>,
    },
    /// First packets that found no place.
    HandshakesDropped(Under, u64),
    /// More receive window would be of use to a connection.
    WindowLow(Id),
    /// More send window would be.
    SendWindowLow(Id),
    /// First packets that were answered with a Retry.
    RetriesSent(Under, u64),
    /// A connection is over.
    Closed {
        /// Which.
        id: Id,
        /// Why.
        kind: CloseKind,
        /// With which code.
        code: u64,
        /// In words.
        reason: String,
    },
    /// The peer opened a stream.
    Opened(Id, u64),
    /// There is something to read.
    Readable(Id, u64),
    /// More can be written.
    Writable(Id, u64),
    /// The peer reset its half.
    Reset(Id, u64, u64),
    /// The peer stopped ours.
    Stopped(Id, u64, u64),
    /// Streams can be opened again.
    Available(Id),
    /// A DATAGRAM frame.
    Datagram(Id, Bytes),
    /// A peer leaves us without answer.
    Unresponsive(Id),
    /// It has answered.
    Answered(Id),
    /// A path carries less than it did.
    PathNarrowed(Id),
    /// Bytes had to wait at a meter, so many times.
    Throttled(u32, u64),
    /// A splice is over.
    Spliced {
        /// Which.
        token: u64,
        /// Bytes passed on, each way.
        passed: [u64; 2],
        /// How each way ended.
        outcomes: [Outcome; 2],
    },
}

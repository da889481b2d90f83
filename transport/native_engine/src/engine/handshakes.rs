//! Handshakes: who we are, whose turn it is, and whom we refuse.

use super::{Engine, transport};
use crate::cids::locked;
use crate::congestion::Interactive;
use crate::connection::{Connection, Stage, Times};
use crate::error::Error;
use crate::event::{Event, Id, Under};
use crate::handshakes::{Arrival, Judged, Step};
use crate::retry::{MAX_HALF_OPEN, RetryTokens};
use crate::streams::Streams;
use crate::tls::{self, Identities, Peeked, Said, Sessions};
use crate::window::{SendWindow, Window};
use quinn_proto::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, ConnectionError, ConnectionHandle, ConnectionId, Incoming, ServerConfig, ValidationTokenConfig,
};
use rand::Rng;
use rustc_hash::FxHashMap;
use rustls::pki_types::CertificateDer;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes of a handshake that may wait for those before them where many are half-open.
const CROWDED_HELD: usize = 16 * 1024;
/// First packets that quinn keeps. The queues here are shorter, and drop; quinn would refuse.
const MAX_INCOMING: usize = 1 << 16;
/// Bytes that a client may send before its turn has come.
const INCOMING_BUFFER: u64 = 12 * 1500;
const INCOMING_BUFFERS: u64 = 32 << 20;
/// The transport parameter `initial_source_connection_id` (RFC 9000 section 18.2).
const INITIAL_SOURCE_CID: u64 = 0x0F;

/// A policy's identities, by server name in lower case; with each how many handshakes may be under way at once under
/// it, if it says so.
pub type Named = HashMap<String, (Arc<QuicServerConfig>, Option<usize>)>;

/// The same, as they are needed.
#[derive(Default)]
struct Served {
    names: Arc<Identities>,
    /// Of the names that say so.
    places: FxHashMap<String, usize>,
}

impl From<Named> for Served {
    fn from(named: Named) -> Self {
        let places = named.iter().filter_map(|(name, (_, places))| Some((name.clone(), (*places)?))).collect();
        let names = named.into_iter().map(|(name, (identity, _))| (name, identity)).collect();
        Self { names: Arc::new(names), places }
    }
}

/// Who we are as a server.
#[derive(Default)]
pub struct Policy {
    served: Served,
    by_socket: FxHashMap<u32, Served>,
    /// What all identities have in common, with any of them. Each connection has a transport configuration of its own.
    base: Option<(ServerConfig, Arc<QuicServerConfig>)>,
}

impl Policy {
    pub fn new(names: Named, by_socket: FxHashMap<u32, Named>, retry_tokens: &RetryTokens) -> Self {
        let any = names.values().chain(by_socket.values().flat_map(|names| names.values())).next();
        let any = any.map(|(identity, _)| identity.clone());
        let base = any.map(|any| {
            let mut config = ServerConfig::with_crypto(any.clone());
            let mut tokens = ValidationTokenConfig::default();
            tokens.sent(0);
            config
                .validation_token_config(tokens)
                .max_incoming(MAX_INCOMING)
                .incoming_buffer_size(INCOMING_BUFFER)
                .incoming_buffer_size_total(INCOMING_BUFFERS);
            retry_tokens.configure(&mut config);
            (config, any)
        });
        let by_socket = by_socket.into_iter().map(|(local, names)| (local, names.into())).collect();
        Self { served: names.into(), by_socket, base }
    }

    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.base.as_ref().map(|(config, _)| Arc::new(config.clone()))
    }

    /// The names that one of our sockets serves.
    pub fn names(&self, local: u32) -> &Arc<Identities> {
        &self.served(local).names
    }

    /// For how many handshakes at once a name has places there; what isn't ours, under the empty name, as many as any.
    pub fn places(&self, local: u32, name: &str) -> usize {
        self.served(local).places.get(name).copied().unwrap_or(MAX_HALF_OPEN)
    }

    fn served(&self, local: u32) -> &Served {
        self.by_socket.get(&local).unwrap_or(&self.served)
    }
}

/// Clients that were refused by their first packet, so that quinn knows nothing of them: what they repeat is answered
/// as it was, now and then, and refused once.
#[derive(Default)]
pub struct RefusedHellos {
    by_cid: HashMap<Vec<u8>, (SocketAddr, Vec<u8>, u32)>,
    order: VecDeque<(Instant, Vec<u8>)>,
}

impl RefusedHellos {
    const MOST: usize = 1024;
    const REMEMBERED: Duration = Duration::from_secs(10);

    fn add(&mut self, cid: Vec<u8>, path: SocketAddr, answer: Vec<u8>, now: Instant) {
        while self
            .order
            .front()
            .is_some_and(|(at, _)| self.order.len() >= Self::MOST || now.duration_since(*at) > Self::REMEMBERED)
        {
            if let Some((_, oldest)) = self.order.pop_front() {
                self.by_cid.remove(&oldest);
            }
        }
        self.order.push_back((now, cid.clone()));
        self.by_cid.insert(cid, (path, answer, 0));
    }

    /// What to answer a first packet that is the repetition of one that was refused: something now and then; None: it
    /// is none.
    pub fn repeated(&mut self, cid: &[u8]) -> Option<Vec<(SocketAddr, Vec<u8>)>> {
        let (path, answer, stragglers) = self.by_cid.get_mut(cid)?;
        *stragglers += 1;
        Some(if stragglers.is_power_of_two() { vec![(*path, answer.clone())] } else { Vec::new() })
    }
}

impl Engine {
    /// Begin a connection.
    ///
    /// # Errors
    /// quinn can't.
    pub fn connect(
        &mut self,
        path: SocketAddr,
        name: &str,
        config: Arc<QuicClientConfig>,
        now: Instant,
    ) -> Result<Id, Error> {
        self.now = now;
        let (crypto, said) = tls::begin_client(config, name);
        let mut config = ClientConfig::new(crypto);
        let mut cid = [0; 18];
        self.random.fill_bytes(&mut cid);
        let interactive = Arc::<Interactive>::default();
        config
            .transport_config(Arc::new(transport(&self.limits, interactive.clone())))
            .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&cid)));
        let (handle, quic) = self.quic.connect(now, config, path, name)?;
        Ok(self.add(handle, quic, path, true, said, String::new(), interactive))
    }

    /// One step of a handshake that waits its turn; false: none waits.
    pub fn shake_hands(&mut self, now: Instant) -> bool {
        self.now = now;
        self.may_shake_hands = false;
        if self.handshakes.is_empty() {
            return false;
        }
        let (policy, half_open) = (&self.policy, &self.half_open);
        let turned_away = self.handshakes.sort_arrivals(|arrival| match tls::peek(&arrival.datagrams) {
            Peeked::Noise => Judged::Noise,
            Peeked::Somebody(name) => {
                let ours = name.filter(|name| policy.names(arrival.local).contains_key(name)).unwrap_or_default();
                let places = policy.places(arrival.local, &ours);
                if !arrival.validated && half_open.are_many(&ours, arrival.incoming.remote_address(), places) {
                    return Judged::Unvalidated(ours);
                }
                Judged::Waits(ours)
            }
        });
        for (arrival, judged) in turned_away {
            match judged {
                Judged::Unvalidated(name) => self.send_retry(arrival.incoming, (arrival.local, name)),
                Judged::Noise | Judged::Waits(_) => self.skip_noise(arrival),
            }
        }
        let step = self.handshakes.next(now);
        self.ignore_discarded();
        match step {
            None => return false,
            Some(Step::Begin(arrival, name)) => self.guarded_datagram(|engine| engine.begin(*arrival, name)),
            Some(Step::GoOn(id, datagrams)) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.waiting = false;
                }
                for datagram in datagrams {
                    self.deliver(id, datagram);
                }
            }
        }
        self.look();
        true
    }

    /// Nothing begins with a first packet that is spoiled; but what came after it, of the same id, may be whole.
    fn skip_noise(&mut self, arrival: Arrival<Incoming>) {
        let path = arrival.incoming.remote_address();
        self.quic.ignore(arrival.incoming);
        for datagram in arrival.datagrams.into_iter().skip(1) {
            self.guarded_datagram(|engine| engine.receive_one(&datagram, path));
        }
    }

    pub(super) fn ignore_discarded(&mut self) {
        for incoming in self.handshakes.take_discarded() {
            self.quic.ignore(incoming);
        }
    }

    /// Have a client show that it hears at its address, before anything is kept of it.
    pub(super) fn send_retry(&mut self, incoming: Incoming, under: Under) {
        let path = incoming.remote_address();
        let mut out = Vec::new();
        match self.quic.retry(incoming, &mut out) {
            Ok(_) => {
                *self.retries.entry(under).or_default() += 1;
                self.outbox.push((path, out));
            }
            Err(refused) => self.quic.ignore(refused.into_incoming()),
        }
    }

    fn begin(&mut self, arrival: Arrival<Incoming>, name: String) {
        let names = self.policy.names(arrival.local).clone();
        let base = self.policy.base.clone().filter(|_| !names.is_empty());
        let Some((mut config, any)) = base else { return self.quic.ignore(arrival.incoming) };
        let places = self.policy.places(arrival.local, &name);
        if !arrival.validated && self.half_open.are_many(&name, arrival.incoming.remote_address(), places) {
            return self.send_retry(arrival.incoming, (arrival.local, name));
        }
        if self.half_open.under(&name) >= places {
            self.handshakes.count_dropped(arrival.local, &name);
            return self.quic.ignore(arrival.incoming);
        }
        let is_crowded = self.half_open.is_crowded(&name, places);
        let said = Arc::<Mutex<Said>>::default();
        config.crypto = Arc::new(Sessions::new(names, any, said.clone()));
        let interactive = Arc::<Interactive>::default();
        config.transport_config(Arc::new(transport(&self.limits, interactive.clone())));
        let path = arrival.incoming.remote_address();
        let _ = self.first_cid.take();
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        match self.quic.accept(arrival.incoming, self.now, &mut out, Some(Arc::new(config))) {
            Ok((handle, mut quic)) => {
                if is_crowded {
                    quic.set_max_crypto_held(CROWDED_HELD);
                }
                let id = self.add(handle, quic, path, false, said, name, interactive);
                let first_cid = self.first_cid.take();
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.first_cid = first_cid.map(|cid| cid.to_vec()).unwrap_or_default();
                    connection.on_datagram(self.now);
                }
                self.touched.push(id);
                self.scratch = out;
            }
            Err(refused) => {
                let answer = refused.response.map(|transmit| out[..transmit.size].to_vec());
                self.scratch = out;
                // Of one that says nothing there was no handshake: spoiled, or too old.
                let ConnectionError::TransportError(error) = refused.cause else { return };
                let Some(answer) = answer else { return };
                self.outbox.push((path, answer.clone()));
                self.refused.add(arrival.cid, path, answer, self.now);
                let (alert, reason) = (alert_of(u64::from(error.code)), error.reason);
                let id = self.next_id;
                self.next_id += 1;
                self.events.push(refusal(id, path, &said, name, alert, reason));
            }
        }
    }

    fn add(
        &mut self,
        handle: ConnectionHandle,
        quic: quinn_proto::Connection,
        path: SocketAddr,
        is_client: bool,
        said: Arc<Mutex<Said>>,
        queue: String,
        interactive: Arc<Interactive>,
    ) -> Id {
        let id = self.next_id;
        self.next_id += 1;
        if self.by_handle.len() <= handle.0 {
            self.by_handle.resize(handle.0 + 1, None);
        }
        self.by_handle[handle.0] = Some(id);
        self.half_open.add(&queue, path);
        let connection = Connection {
            id,
            handle,
            quic,
            is_client,
            stage: Stage::Handshaking,
            was_connected: false,
            path,
            began_at: path,
            queue,
            waiting: false,
            said,
            first_cid: Vec::new(),
            streams: Streams::new(&self.limits),
            interactive,
            window: Window::new(&self.limits, self.now),
            send_window: SendWindow::new(&self.limits),
            times: Times::new(self.now, &self.limits),
            holds: 0,
            held_back: false,
            queued: false,
            failed: false,
            translated: None,
            checked: false,
            close_packets: None,
            stragglers: 0,
            told_in: 0,
            trap: None,
        };
        self.connections.insert(id, Box::new(connection));
        self.by_path.entry(path).or_default().push(id);
        self.queue(id);
        id
    }

    pub(super) fn on_connected(&mut self, id: Id) {
        self.no_longer_half_open(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.stage = Stage::Connected;
        connection.was_connected = true;
        let session = connection.quic.crypto_session();
        let data = session.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let alpn = data.and_then(|data| data.protocol).unwrap_or_default();
        let peer = session.peer_identity().and_then(|peer| peer.downcast::<Vec<CertificateDer<'static>>>().ok());
        let cid = if connection.is_client {
            // Only its transport parameters tell which id the server chose, and quinn shows them written only.
            let mut raw = Vec::new();
            if let Ok(Some(parameters)) = session.transport_parameters() {
                parameters.write(&mut raw);
            }
            parameter(&raw, INITIAL_SOURCE_CID).unwrap_or_default().to_vec()
        } else {
            connection.first_cid.clone()
        };
        self.events.push(Event::Connected {
            id,
            server_name: locked(&connection.said).name.clone().unwrap_or_default(),
            certificates: peer.map(|peer| peer.iter().map(|one| one.to_vec()).collect()).unwrap_or_default(),
            alpn: String::from_utf8_lossy(&alpn).into_owned(),
            cid,
            path: connection.path,
        });
    }

    pub(super) fn no_longer_half_open(&mut self, id: Id) {
        let Some(connection) = self.connections.get(&id) else { return };
        self.half_open.remove(&connection.queue, connection.began_at);
    }
}

/// What to say of a handshake that failed on the server's side.
pub fn refusal(
    id: Id,
    path: SocketAddr,
    said: &Mutex<Said>,
    queue: String,
    alert: Option<u8>,
    reason: String,
) -> Event {
    let said = locked(said);
    let server_name = said.name.clone().or((!queue.is_empty()).then_some(queue));
    let reason = if reason.is_empty() { "closed in the handshake".to_owned() } else { reason };
    Event::HandshakeRefused { id, path, server_name, alert, reason, certificate: said.certificate.clone() }
}

/// The TLS alert that a QUIC error code stands for (RFC 9001 section 4.8).
pub fn alert_of(code: u64) -> Option<u8> {
    u8::try_from(code.checked_sub(0x100)?).ok()
}

/// One of the transport parameters (RFC 9000 section 18).
fn parameter(raw: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut at = 0;
    while at < raw.len() {
        let (kind, first) = tls::varint(raw, at)?;
        let (length, second) = tls::varint(raw, at + first)?;
        let begin = at + first + second;
        let end = begin.checked_add(usize::try_from(length).ok()?)?;
        let value = raw.get(begin..end)?;
        if kind == wanted {
            return Some(value);
        }
        at = end;
    }
    None
}

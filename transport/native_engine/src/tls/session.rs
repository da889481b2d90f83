//! Sessions around rustls': a server's waits for the server name before it becomes one of the identity that has it.

use super::hello;
use super::judge::{Judged, judged};
use crate::cids::locked;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError, TransportErrorCode};
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

const DECODE_ERROR: u8 = 50;
const UNEXPECTED_MESSAGE: u8 = 10;
const UNRECOGNIZED_NAME: u8 = 112;
const NO_CERTIFICATE: u8 = 116;
const DECRYPT_ERROR: u8 = 51;
const TOO_LARGE: &str = "a handshake message is larger than 65535 bytes; a certificate chain may take 65531";

/// Who we are, by server name in lower case.
pub type Identities = HashMap<String, Arc<QuicServerConfig>>;

/// What a peer has said about itself, so far.
#[derive(Debug, Default)]
pub struct Said {
    /// SNI.
    pub name: Option<String>,
    /// The leaf that it presented, DER.
    pub certificate: Option<Vec<u8>>,
    /// How often 1-RTT keys were made to follow others.
    pub next_keys: u64,
}

fn alert(code: u8, reason: impl Into<String>) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(code), frame: None, reason: reason.into() }
}

/// Read what has come; an error says in our words what was wrong.
fn read(inner: &mut dyn Session, bytes: &[u8], said: &Mutex<Said>, whose: &str) -> Result<bool, TransportError> {
    let (result, Judged { leaf, refusal }) = judged(|| inner.read_handshake(bytes));
    if leaf.is_some() {
        locked(said).certificate = leaf;
    }
    result.map_err(|mut error| {
        if let Some(refusal) = refusal {
            error.reason = refusal.reason;
        } else if error.code == TransportErrorCode::crypto(NO_CERTIFICATE) {
            error.reason = format!("no {whose} certificate");
        } else if error.code == TransportErrorCode::crypto(DECRYPT_ERROR) {
            error.reason = format!("{whose} certificate: forged signature");
        } else if error.reason.contains("HandshakePayloadTooLarge") {
            // rustls has no alert for it, and no error that could be told apart otherwise.
            error.code = TransportErrorCode::CRYPTO_BUFFER_EXCEEDED;
            TOO_LARGE.clone_into(&mut error.reason);
        }
        error
    })
}

// ---- the server's ----------------------------------------------------------------------------------------------

/// Makes the session of one connection.
pub struct Sessions {
    names: Arc<Identities>,
    any: Arc<QuicServerConfig>,
    said: Arc<Mutex<Said>>,
}

impl Sessions {
    /// `any`: one of the identities, for what is the same with all of them.
    #[must_use]
    pub fn new(names: Arc<Identities>, any: Arc<QuicServerConfig>, said: Arc<Mutex<Said>>) -> Self {
        Self { names, any, said }
    }
}

impl crypto::ServerConfig for Sessions {
    fn initial_keys(&self, version: u32, cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.any.initial_keys(version, cid)
    }

    fn retry_tag(&self, version: u32, cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.any.retry_tag(version, cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, parameters: &TransportParameters) -> Box<dyn Session> {
        // For Initial keys until the server name is known; nothing else is asked of it.
        let initial = crypto::ServerConfig::start_session(self.any.clone(), version, parameters);
        Box::new(ServerSession {
            config: self,
            version,
            parameters: *parameters,
            hello: Vec::new(),
            session: initial,
            chosen: false,
        })
    }
}

struct ServerSession {
    config: Arc<Sessions>,
    version: u32,
    parameters: TransportParameters,
    hello: Vec<u8>,
    session: Box<dyn Session>,
    chosen: bool,
}

impl ServerSession {
    /// Take what has come of the ClientHello; once it is whole, the identity is chosen.
    fn read_hello(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.hello.extend_from_slice(bytes);
        if !hello::is_client_hello(&self.hello) {
            return Err(alert(UNEXPECTED_MESSAGE, "the first message is no ClientHello"));
        }
        let Some(size) = hello::message_size(&self.hello) else { return Ok(false) };
        if size > hello::LARGEST {
            return Err(alert(DECODE_ERROR, format!("a ClientHello is larger than {} bytes", hello::LARGEST)));
        }
        if self.hello.len() < size {
            return Ok(false);
        }
        let name = hello::server_name(&self.hello);
        locked(&self.config.said).name.clone_from(&name);
        let Some(name) = name else { return Err(alert(UNRECOGNIZED_NAME, "no server name (SNI)")) };
        let Some(identity) = self.config.names.get(&name) else {
            return Err(alert(UNRECOGNIZED_NAME, format!("unknown server name '{}'", name.escape_default())));
        };
        self.session = crypto::ServerConfig::start_session(identity.clone(), self.version, &self.parameters);
        self.chosen = true;
        let hello = std::mem::take(&mut self.hello);
        read(&mut *self.session, &hello, &self.config.said, "client")
    }
}

impl Session for ServerSession {
    fn initial_keys(&self, cid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        if self.chosen { read(&mut *self.session, bytes, &self.config.said, "client") } else { self.read_hello(bytes) }
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        if self.chosen { self.session.transport_parameters() } else { Ok(None) }
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        if self.chosen { self.session.write_handshake(out) } else { None }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        locked(&self.config.said).next_keys += 1;
        self.session.next_1rtt_keys()
    }

    fn is_valid_retry(&self, cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

// ---- the client's ----------------------------------------------------------------------------------------------

/// What makes the session of one connection to `name`.
#[must_use]
pub fn begin_client(inner: Arc<QuicClientConfig>, name: &str) -> (Arc<dyn crypto::ClientConfig>, Arc<Mutex<Said>>) {
    let said = Arc::new(Mutex::new(Said { name: Some(name.to_owned()), ..Said::default() }));
    (Arc::new(ClientSessions { inner, said: said.clone() }), said)
}

struct ClientSessions {
    inner: Arc<QuicClientConfig>,
    said: Arc<Mutex<Said>>,
}

impl crypto::ClientConfig for ClientSessions {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        name: &str,
        parameters: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let session = crypto::ClientConfig::start_session(self.inner.clone(), version, name, parameters)?;
        Ok(Box::new(ClientSession { session, said: self.said.clone() }))
    }
}

struct ClientSession {
    session: Box<dyn Session>,
    said: Arc<Mutex<Said>>,
}

impl Session for ClientSession {
    fn initial_keys(&self, cid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        read(&mut *self.session, bytes, &self.said, "hub")
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        self.session.write_handshake(out)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        locked(&self.said).next_keys += 1;
        self.session.next_1rtt_keys()
    }

    fn is_valid_retry(&self, cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

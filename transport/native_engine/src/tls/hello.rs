//! A ClientHello's server name, read before anything is begun for its sender.

use super::configuration::provider;
use super::varint;
use rustls::quic::{Suite, Version};
use rustls::{CipherSuite, Side, SupportedCipherSuite};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Bytes of a ClientHello: some 0.3 KiB, 2 KiB with a post-quantum key share.
pub const LARGEST: usize = 16 * 1024;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: usize = 0;

/// How many bytes a handshake message takes with its header, once that is there.
pub fn message_size(bytes: &[u8]) -> Option<usize> {
    Some(4 + (usize::from(*bytes.get(1)?) << 16 | number(bytes, 2)?))
}

/// Whether a message begins as a ClientHello does.
pub fn is_client_hello(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|kind| *kind == CLIENT_HELLO)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(*bytes.get(at)?) << 8 | usize::from(*bytes.get(at + 1)?))
}

/// The SNI of a whole ClientHello, header included, in lower case and without a final dot (RFC 6066 section 3).
pub fn server_name(hello: &[u8]) -> Option<String> {
    let body = hello.get(4..)?;
    // Version and random; session id, cipher suites, compression methods.
    let mut at = 34;
    at += 1 + usize::from(*body.get(at)?);
    at += 2 + number(body, at)?;
    at += 1 + usize::from(*body.get(at)?);
    let end = at + 2 + number(body, at)?;
    at += 2;
    while at + 4 <= end {
        let (kind, length) = (number(body, at)?, number(body, at + 2)?);
        if kind == SERVER_NAME {
            // Length of the list, kind of the name, its length.
            let size = number(body, at + 7)?;
            let name = std::str::from_utf8(body.get(at + 9..at + 9 + size)?).ok()?.to_ascii_lowercase();
            let name = name.trim_end_matches('.');
            return (!name.is_empty()).then(|| name.to_owned());
        }
        at += 4 + length;
    }
    None
}

/// What is to be seen of who has sent a first datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Peeked {
    /// It is no packet, or says nothing of a handshake: nothing begins with it.
    Noise,
    /// Somebody, with a server name as far as it can be read.
    Somebody(Option<String>),
}

/// Look for the server name in a client's first datagrams, as far as it is in these. They are encrypted with keys that
/// everybody can derive (RFC 9001 section 5.2). A ClientHello with a post-quantum key share takes two, in any order.
#[must_use]
pub fn peek(datagrams: &[Vec<u8>]) -> Peeked {
    let mut pieces = BTreeMap::new();
    for (number, datagram) in datagrams.iter().enumerate() {
        let plain = decrypt(datagram);
        if let Some(plain) = &plain {
            // Whatever can't be read ends the packet; the handshake itself will say what is wrong with it.
            let _ = collect(plain, &mut pieces);
        }
        if number == 0 && pieces.is_empty() {
            return Peeked::Noise;
        }
    }
    Peeked::Somebody(name_in(pieces))
}

fn name_in(pieces: BTreeMap<u64, Vec<u8>>) -> Option<String> {
    let mut hello = Vec::new();
    for (offset, piece) in pieces {
        let have = hello.len() as u64;
        if offset > have {
            break;
        }
        hello.extend_from_slice(piece.get((have - offset) as usize..).unwrap_or_default());
    }
    if hello.is_empty() || !is_client_hello(&hello) || hello.len() < message_size(&hello)? {
        return None;
    }
    server_name(&hello)
}

/// The frames of the Initial packet that a datagram begins with.
fn decrypt(datagram: &[u8]) -> Option<Vec<u8>> {
    let mut packet = datagram.to_vec();
    let mut at = 5;
    let length = usize::from(*packet.get(at)?);
    let cid = packet.get(at + 1..at + 1 + length)?.to_vec();
    at += 1 + length;
    at += 1 + usize::from(*packet.get(at)?);
    let (token, size) = varint(&packet, at)?;
    at = at.checked_add(size)?.checked_add(usize::try_from(token).ok()?)?;
    let (length, size) = varint(&packet, at)?;
    at += size;
    packet.truncate(at.checked_add(usize::try_from(length).ok()?)?);
    let keys = initial_suite()?.keys(&cid, Side::Server, Version::V1);
    let sample = packet.get(at + 4..at + 20)?.to_vec();
    let (header, rest) = packet.split_at_mut(at);
    keys.remote.header.decrypt_in_place(&sample, header.first_mut()?, rest.get_mut(..4)?).ok()?;
    let size = 1 + usize::from(packet[0] & 3);
    let packet_number = packet.get(at..at + size)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (header, payload) = packet.split_at_mut(at + size);
    keys.remote.packet.decrypt_in_place(packet_number, header, payload).ok().map(<[u8]>::to_vec)
}

fn initial_suite() -> Option<&'static Suite> {
    static SUITE: OnceLock<Option<Suite>> = OnceLock::new();
    let suite = SUITE.get_or_init(|| {
        provider().cipher_suites.iter().find_map(|suite| match suite {
            SupportedCipherSuite::Tls13(tls13) if suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256 => {
                tls13.quic_suite()
            }
            SupportedCipherSuite::Tls13(_) => None,
        })
    });
    suite.as_ref()
}

/// Take the CRYPTO frames of an Initial packet, by offset; None: at what can't be read.
fn collect(plain: &[u8], pieces: &mut BTreeMap<u64, Vec<u8>>) -> Option<()> {
    const PADDING: u8 = 0;
    const PING: u8 = 1;
    const ACK: u8 = 2;
    const CRYPTO: u8 = 6;
    let mut at = 0;
    while let Some(kind) = plain.get(at) {
        match *kind {
            PADDING | PING => at += 1,
            ACK => {
                at += 1;
                let mut ranges = 0;
                for field in 0..4 {
                    let (value, size) = varint(plain, at)?;
                    at += size;
                    if field == 2 {
                        ranges = value;
                    }
                }
                for _ in 0..ranges.checked_mul(2)? {
                    at += varint(plain, at)?.1;
                }
            }
            CRYPTO => {
                let (offset, first) = varint(plain, at + 1)?;
                let (length, second) = varint(plain, at + 1 + first)?;
                let begin = at + 1 + first + second;
                let end = begin.checked_add(usize::try_from(length).ok()?)?;
                pieces.insert(offset, plain.get(begin..end)?.to_vec());
                at = end;
            }
            _ => return None,
        }
    }
    Some(())
}

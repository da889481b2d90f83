//! TLS as this engine has it: an identity chosen by SNI, certificates judged by whoever made the configuration, and
//! what a peer said about itself known however its handshake ends. There are no tickets, so nothing gets around it.

mod configuration;
mod der;
mod hello;
mod judge;
mod session;

pub use configuration::{client_config, server_config};
pub use hello::{Peeked, peek};
pub use judge::{Judge, Refusal};
pub use session::{Identities, Said, Sessions, begin_client};

/// A QUIC variable-length integer at `at`, and its size (RFC 9000 section 16).
pub(crate) fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let first = *bytes.get(at)?;
    let size = 1 << (first >> 6);
    let mut value = u64::from(first & 0x3F);
    for byte in bytes.get(at + 1..at + size)? {
        value = value << 8 | u64::from(*byte);
    }
    Some((value, size))
}

//! What a program can be told is wrong with what it gave.

use thiserror::Error;

/// An engine's call that can't be carried out.
#[derive(Debug, Error)]
pub enum Error {
    /// A certificate or key that TLS can't use here.
    #[error("{what} can't be used: {reason}")]
    Unusable {
        /// Which, in words.
        what: &'static str,
        /// Why, in the library's words.
        reason: String,
    },
    /// No connection can be begun.
    #[error("can't connect: {0}")]
    Connect(#[from] quinn_proto::ConnectError),
}

//! The native engine of SPN Hub: `spnhub.transport.engine.Engine` on quinn-proto and rustls.
//!
//! [`engine`] is the endpoint; it knows neither Python nor sockets nor clocks. [`python`] is the line to Python.
//! Counterpart: `spnhub.transport.native_engine`, which parses certificates and judges them.

pub mod cids;
pub mod congestion;
pub mod connection;
pub mod engine;
pub mod error;
pub mod event;
pub mod handshakes;
pub mod limits;
pub mod meters;
pub mod paths;
pub mod port_checks;
pub mod python;
pub mod resets;
pub mod retry;
pub mod splice;
pub mod streams;
pub mod tls;
pub mod window;

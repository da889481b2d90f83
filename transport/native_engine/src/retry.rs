//! Address validation (RFC 9000 section 8.1): who seems to come from many addresses shows that it hears there.
//! `spnhub.transport.aioquic_engine.retry` explains why; this keeps the same rules and sizes.
//!
//! The tokens are quinn's. Their key follows from the reset key, so that those of before an update count, and their
//! times are the program's clock, which no step of the wall clock moves.

use crate::paths::network;
use quinn_proto::{ServerConfig, TimeSource};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use rustc_hash::FxHashMap;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Handshakes under way at once under a server name that says nothing else; further ones are dropped (the client
/// repeats them).
pub const MAX_HALF_OPEN: usize = 512;
/// Which part of a name's places may be taken before clients without a token are sent a Retry.
const RETRY_PART: usize = 8;
/// The same of one network, a /24 of IPv4 or a /56 of IPv6.
const HALF_OPEN_SOURCE: usize = 32;
/// For which a token counts.
const TOKEN_LIFETIME: Duration = Duration::from_secs(15);

/// The program's clock, as quinn asks for it.
struct Clock(AtomicU64);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// What tokens are made and judged with.
pub struct RetryTokens {
    key: Arc<Prk>,
    clock: Arc<Clock>,
    /// Second 0.
    base: Instant,
}

impl RetryTokens {
    /// With the key that theirs follows from, and second 0 of the program's clock.
    #[must_use]
    pub fn new(key: &[u8], base: Instant) -> Self {
        let key = Arc::new(Salt::new(HKDF_SHA256, b"retry token").extract(key));
        Self { key, clock: Arc::new(Clock(AtomicU64::new(0))), base }
    }

    /// Have a server make and judge them.
    pub fn configure(&self, config: &mut ServerConfig) {
        config.token_key(self.key.clone()).time_source(self.clock.clone()).retry_token_lifetime(TOKEN_LIFETIME);
    }

    /// It is so late.
    pub fn set_time(&self, now: Instant) {
        let since = now.saturating_duration_since(self.base).as_millis();
        self.clock.0.store(since as u64, Ordering::Relaxed);
    }
}

/// Counts handshakes that are under way, by server name and by network.
#[derive(Default)]
pub struct HalfOpen {
    names: FxHashMap<String, usize>,
    sources: HashMap<Ipv6Addr, usize>,
}

impl HalfOpen {
    /// One more.
    pub fn add(&mut self, name: &str, path: SocketAddr) {
        *self.names.entry(name.to_owned()).or_default() += 1;
        *self.sources.entry(network(path)).or_default() += 1;
    }

    /// One is no longer half-open, that began there.
    pub fn remove(&mut self, name: &str, path: SocketAddr) {
        one_less(&mut self.names, name);
        one_less(&mut self.sources, &network(path));
    }

    /// How many there are under a name.
    #[must_use]
    pub fn under(&self, name: &str) -> usize {
        self.names.get(name).copied().unwrap_or(0)
    }

    /// How many there are under the name that has most.
    #[must_use]
    pub fn most(&self) -> usize {
        self.names.values().copied().max().unwrap_or(0)
    }

    /// Whether there are many under a name that has so many places.
    #[must_use]
    pub fn is_crowded(&self, name: &str, places: usize) -> bool {
        self.under(name) >= places / RETRY_PART
    }

    /// Whether a client there has to show that it hears what is sent to it.
    #[must_use]
    pub fn are_many(&self, name: &str, path: SocketAddr, places: usize) -> bool {
        self.is_crowded(name, places)
            || self.sources.get(&network(path)).is_some_and(|count| *count >= HALF_OPEN_SOURCE)
    }
}

/// Count one less; what has none left is forgotten.
fn one_less<K, Q, S>(counts: &mut HashMap<K, usize, S>, key: &Q)
where
    K: Borrow<Q> + Eq + Hash,
    Q: Eq + Hash + ?Sized,
    S: BuildHasher,
{
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

//! Connection ids: random ones of eight bytes, of which the first of each server connection names the session (D-2).

use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of each of ours.
pub const CID_LENGTH: usize = 8;

/// The first id that was made since it was last taken: quinn tells nobody which one a connection begins with.
#[derive(Clone, Default)]
pub struct FirstCid(Arc<Mutex<Option<ConnectionId>>>);

impl FirstCid {
    /// Take it; the next one made is the first again.
    #[must_use]
    pub fn take(&self) -> Option<ConnectionId> {
        locked(&self.0).take()
    }
}

/// Makes them.
pub struct Cids {
    random: StdRng,
    first: FirstCid,
}

impl Cids {
    /// With a seed: the same ones each time.
    #[must_use]
    pub fn new(seed: Option<[u8; 32]>, first: FirstCid) -> Self {
        Self { random: random(seed), first }
    }
}

impl ConnectionIdGenerator for Cids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; CID_LENGTH];
        self.random.fill_bytes(&mut bytes);
        let cid = ConnectionId::new(&bytes);
        locked(&self.first.0).get_or_insert(cid);
        cid
    }

    fn cid_len(&self) -> usize {
        CID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Randomness, the same each time with a seed.
#[must_use]
pub fn random(seed: Option<[u8; 32]>) -> StdRng {
    seed.map_or_else(|| StdRng::from_rng(&mut rand::rng()), StdRng::from_seed)
}

/// What a mutex guards, also when somebody panicked with it: what we keep in them is always whole.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

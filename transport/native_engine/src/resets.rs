//! How many stateless resets are sent, and how long they are (RFC 9000 section 10.3). quinn makes their tokens.

use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

/// Bytes of the smallest datagram that can be a stateless reset.
const SMALLEST: usize = 21;
const TOKEN: usize = 16;
/// Bytes of the smallest packets of most peers: shorter resets would stand out.
const USUAL: usize = 30;
/// The length is chosen among so many.
const SPREAD: usize = 16;
/// Resets per second, and at once: who gets none sends again, and asks so again.
const RATE: f64 = 1000.0;

/// Judges each answer that quinn would give.
pub struct Resets {
    allowed: f64,
    at: Option<Instant>,
    /// Who got one since the last transmit: one answer to a burst will do.
    answered: HashSet<SocketAddr>,
}

impl Default for Resets {
    fn default() -> Self {
        Self { allowed: RATE, at: None, answered: HashSet::default() }
    }
}

impl Resets {
    /// A new burst may be answered.
    pub fn next_turn(&mut self) {
        self.answered.clear();
    }

    /// The reset to send for `packet`, of the one that quinn has made; None: none.
    pub fn answer(
        &mut self,
        packet: &[u8],
        made: &[u8],
        path: SocketAddr,
        now: Instant,
        random: &mut StdRng,
    ) -> Option<Vec<u8>> {
        if packet.len() <= SMALLEST || packet[0] & 0x40 == 0 || self.answered.contains(&path) || !self.admit(now) {
            return None;
        }
        self.answered.insert(path);
        // quinn's is almost as long as what came.
        let size = (packet.len() - 1).min(USUAL + random.random_range(0..SPREAD)).min(made.len());
        let mut reset = made[made.len() - size.max(TOKEN)..].to_vec();
        reset[0] = 0x40 | reset[0] & 0x3F;
        Some(reset)
    }

    fn admit(&mut self, now: Instant) -> bool {
        let passed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.allowed = (self.allowed + passed * RATE).min(RATE);
        self.at = Some(now);
        let admitted = self.allowed >= 1.0;
        if admitted {
            self.allowed -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cids::random;
    use std::time::Duration;

    fn path(port: u16) -> SocketAddr {
        SocketAddr::from(([0; 16], port))
    }

    #[test]
    fn smaller_than_what_caused_it_with_the_token_last() {
        let mut random = random(Some([1; 32]));
        let mut lengths = HashSet::new();
        for size in 22..1500_usize {
            let made: Vec<u8> = (0..size - 1).map(|n| n as u8).collect();
            let mut resets = Resets::default();
            let answer =
                resets.answer(&vec![0x40; size], &made, path(1), Instant::now(), &mut random).unwrap_or_default();
            assert!((SMALLEST..size).contains(&answer.len()) && answer.len() <= 45);
            assert_eq!(answer[0] & 0xC0, 0x40);
            assert_eq!(answer[answer.len() - 16..], made[made.len() - 16..]);
            lengths.insert(answer.len());
        }
        assert!(lengths.len() > 5);
    }

    #[test]
    fn the_rate_is_bounded() {
        let (mut resets, mut random, now) = (Resets::default(), random(None), Instant::now());
        let mut count = |after: Duration, ports: std::ops::Range<u16>| {
            ports
                .filter(|&port| resets.answer(&[0x40; 50], &[0; 49], path(port), now + after, &mut random).is_some())
                .count()
        };
        assert_eq!(count(Duration::ZERO, 1..5000), 1000);
        assert_eq!(count(Duration::from_millis(500), 5000..10_000), 500);
        assert_eq!(count(Duration::from_secs(99), 10_000..15_000), 1000);
    }
}

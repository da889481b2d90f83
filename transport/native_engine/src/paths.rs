//! Paths as quinn knows them. It compares the peer's socket address only; here a path is more: our socket, our own
//! address there, and the peer's. So all of it is put into the one address that quinn is given, as IPv6, and read back
//! when something is sent.
//!
//! The flow label says which socket, or which pair of a socket and an own address. Peers by IPv4, and those of
//! simulations that have a name, get addresses out of 100::/64, which no packet comes from (RFC 6666).

use rustc_hash::{FxHashMap, FxHashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The pair of a socket and an own address, in place of the socket alone.
const PAIR: u32 = 1 << 31;
const IPV4: u64 = 4;
const NAME: u64 = 5;
/// Pairs and names that are remembered before those that nobody uses are forgotten.
const KNOWN: usize = 4096;

/// The peer's socket address, as the socket module gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Host and port of IPv4.
    V4(Ipv4Addr, u16),
    /// Host, zone, port and scope of IPv6.
    V6(Ipv6Addr, String, u16, u32),
    /// Anything else, a simulation's.
    Name(String, u16),
}

/// Where a datagram came from or goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Which of our sockets.
    pub local: u32,
    /// The peer.
    pub remote: Remote,
    /// Which of our own addresses; empty: the socket has one.
    pub own: Vec<u8>,
}

struct Names<K> {
    numbers: FxHashMap<K, u32>,
    keys: FxHashMap<u32, K>,
    next: u32,
}

impl<K> Default for Names<K> {
    fn default() -> Self {
        Self { numbers: FxHashMap::default(), keys: FxHashMap::default(), next: 0 }
    }
}

impl<K: Clone + Eq + std::hash::Hash> Names<K> {
    fn number(&mut self, key: &K) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        while self.keys.contains_key(&self.next) {
            self.next = (self.next + 1) % PAIR;
        }
        let number = self.next;
        self.next = (self.next + 1) % PAIR;
        self.numbers.insert(key.clone(), number);
        self.keys.insert(number, key.clone());
        number
    }

    fn keep(&mut self, used: &FxHashSet<u32>) {
        self.keys.retain(|number, _| used.contains(number));
        self.numbers.retain(|_, number| used.contains(number));
    }
}

/// Both ways between an [`Address`] and what quinn calls it.
pub struct Paths {
    pairs: Names<(u32, Vec<u8>)>,
    names: Names<String>,
    zones: FxHashMap<u32, String>,
    /// Pairs, and names, from which on it is time to forget.
    most: [usize; 2],
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            pairs: Names::default(),
            names: Names::default(),
            zones: FxHashMap::default(),
            most: [KNOWN, 16 * KNOWN],
        }
    }
}

impl Paths {
    /// What quinn calls an address.
    pub fn to_quinn(&mut self, address: &Address) -> SocketAddr {
        let label = if address.own.is_empty() {
            address.local
        } else {
            PAIR | self.pairs.number(&(address.local, address.own.clone()))
        };
        let (ip, port, scope) = match &address.remote {
            Remote::V4(ip, port) => (synthetic(IPV4, u32::from(*ip)), *port, 0),
            Remote::V6(ip, zone, port, scope) => {
                if !zone.is_empty() && self.zones.len() < KNOWN {
                    self.zones.entry(*scope).or_insert_with(|| zone.clone());
                }
                (*ip, *port, *scope)
            }
            Remote::Name(name, port) => (synthetic(NAME, self.names.number(name)), *port, 0),
        };
        SocketAddr::V6(SocketAddrV6::new(ip, port, label, scope))
    }

    /// The address that quinn calls `path`; None: it was forgotten, since nobody used it.
    #[must_use]
    pub fn of_quinn(&self, path: SocketAddr) -> Option<Address> {
        let SocketAddr::V6(v6) = path else { return None };
        let (local, own) = self.socket(v6.flowinfo())?;
        let (kind, number) = parts(*v6.ip());
        let remote = match kind {
            Some(IPV4) => Remote::V4(Ipv4Addr::from(number), v6.port()),
            Some(NAME) => Remote::Name(self.names.keys.get(&number)?.clone(), v6.port()),
            _ => {
                let zone = self.zones.get(&v6.scope_id()).cloned().unwrap_or_default();
                Remote::V6(*v6.ip(), zone, v6.port(), v6.scope_id())
            }
        };
        Some(Address { local, remote, own })
    }

    /// Which of our sockets a path uses.
    #[must_use]
    pub fn local(&self, path: SocketAddr) -> Option<u32> {
        let SocketAddr::V6(v6) = path else { return None };
        Some(self.socket(v6.flowinfo())?.0)
    }

    fn socket(&self, label: u32) -> Option<(u32, Vec<u8>)> {
        if label & PAIR == 0 { Some((label, Vec::new())) } else { self.pairs.keys.get(&(label & !PAIR)).cloned() }
    }

    /// Whether it is time to [`Paths::forget`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pairs.keys.len() > self.most[0] || self.names.keys.len() > self.most[1]
    }

    /// Forget what none of `used` needs.
    pub fn forget(&mut self, used: impl Iterator<Item = SocketAddr>) {
        let (mut pairs, mut names) = (FxHashSet::default(), FxHashSet::default());
        for path in used {
            let SocketAddr::V6(v6) = path else { continue };
            if v6.flowinfo() & PAIR != 0 {
                pairs.insert(v6.flowinfo() & !PAIR);
            }
            if let (Some(NAME), number) = parts(*v6.ip()) {
                names.insert(number);
            }
        }
        self.pairs.keep(&pairs);
        self.names.keep(&names);
        // Those that are in use are no reason to look again soon.
        self.most = [KNOWN.max(2 * pairs.len()), (16 * KNOWN).max(2 * names.len())];
    }
}

fn synthetic(kind: u64, number: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x0100_u128 << 112 | u128::from(kind) << 32 | u128::from(number))
}

fn parts(ip: Ipv6Addr) -> (Option<u64>, u32) {
    let bits = ip.to_bits();
    let discard = bits >> 64 == 0x0100_u128 << 48;
    (discard.then_some((bits >> 32) as u32).map(u64::from), bits as u32)
}

/// The network that a path comes from: a /24 of IPv4, also where it is mapped, or a /56 of IPv6.
#[must_use]
pub fn network(path: SocketAddr) -> Ipv6Addr {
    let ip = match path.ip() {
        IpAddr::V6(ip) => ip,
        IpAddr::V4(ip) => synthetic(IPV4, u32::from(ip)),
    };
    match (parts(ip), ip.to_ipv4_mapped()) {
        ((Some(IPV4), number), _) => synthetic(IPV4, number & 0xFFFF_FF00),
        (_, Some(mapped)) => synthetic(IPV4, u32::from(mapped) & 0xFFFF_FF00),
        ((Some(_), _), _) => ip,
        _ => Ipv6Addr::from_bits(ip.to_bits() >> 72 << 72),
    }
}

/// A host and a port as the socket module gives them.
#[must_use]
pub fn remote(host: &str, port: u16, scope: u32) -> Remote {
    let (name, zone) = host.split_once('%').unwrap_or((host, ""));
    match name.parse() {
        Ok(IpAddr::V4(ip)) => Remote::V4(ip, port),
        Ok(IpAddr::V6(ip)) => Remote::V6(ip, zone.to_owned(), port, scope),
        Err(_) => Remote::Name(host.to_owned(), port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(remote: Remote, own: &[u8]) -> Address {
        Address { local: 7, remote, own: own.to_vec() }
    }

    #[test]
    fn every_address_comes_back_as_it_was() {
        let mut paths = Paths::default();
        for remote in [
            remote("192.0.2.1", 443, 0),
            remote("::ffff:192.0.2.1", 443, 0),
            remote("fe80::1%eth0", 443, 2),
            remote("client", 1, 0),
        ] {
            for own in [b"".as_slice(), b"here", b"there"] {
                let it = address(remote.clone(), own);
                let path = paths.to_quinn(&it);
                assert_eq!(paths.of_quinn(path), Some(it));
                assert_eq!(paths.local(path), Some(7));
            }
        }
    }

    #[test]
    fn whatever_differs_makes_another_path() {
        let mut paths = Paths::default();
        let (here, there) = (remote("192.0.2.1", 443, 0), remote("::ffff:192.0.2.1", 443, 0));
        let all = [address(here.clone(), b""), address(here, b"a"), address(there, b"a")].map(|a| paths.to_quinn(&a));
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let mut paths = Paths::default();
        let kept = address(remote("192.0.2.1", 443, 0), b"kept");
        let path = paths.to_quinn(&kept);
        let gone = paths.to_quinn(&address(remote("192.0.2.1", 443, 0), b"gone"));
        paths.forget([path].into_iter());
        assert_eq!(paths.of_quinn(path), Some(kept));
        assert_eq!(paths.of_quinn(gone), None);
    }
}

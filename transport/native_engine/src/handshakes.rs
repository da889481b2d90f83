//! Handshakes wait their turn (D-33): a bounded queue per server name, served round robin.
//! `spnhub.transport.aioquic_engine.handshakes` explains why; this keeps the same rules and sizes.
//!
//! Under one name those whose handshake has begun come first, then who was heard last: a client repeats itself as long
//! as it is there. Whatever finds no place is dropped and counted, and the client repeats it.

use crate::event::{Id, Under};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// New connections whose server name isn't known yet.
const ARRIVALS: usize = 1024;
/// Of them those without a token; beyond it nobody is looked into that has none.
const CROWD: usize = 64;
/// For which that then holds.
const CROWDED: Duration = Duration::from_secs(1);
/// New connections with their name, shared by the names under which some wait.
const SORTED: usize = 4096;
/// New connections that every name has a place for, however many names there are.
const FEWEST: usize = 16;
/// Datagrams of a new connection that are looked into for its name.
const REPEATS: usize = 3;
/// Datagrams of a handshake that has begun, the first ones, since the later ones wait for their bytes.
const FLIGHT: usize = 12;
/// Arrivals that are looked into in one step.
const PEEKS: usize = 8;
/// Since a client was heard: nothing is begun with it then.
const STALE: Duration = Duration::from_secs(5);
/// Of so many steps under one name one begins a handshake, even if others that have begun wait.
const NEW_EVERY: u64 = 4;

/// A first packet. `I` is what begins a connection with it.
pub struct Arrival<I> {
    /// What begins it.
    pub incoming: I,
    /// The client's choice of the server's connection id, by which its repetitions are known.
    pub cid: Vec<u8>,
    /// The client has shown that it hears at its address.
    pub validated: bool,
    /// Which of our sockets it came to.
    pub local: u32,
    /// Its datagrams, until the name has been looked for.
    pub datagrams: Vec<Vec<u8>>,
    /// When it was heard last.
    pub heard: Instant,
}

/// What is to become of an arrival.
pub enum Judged {
    /// Nothing begins with it.
    Noise,
    /// It has to show first that it hears at its address, under this name.
    Unvalidated(String),
    /// It waits under this name, the empty one for all that aren't ours.
    Waits(String),
}

/// What to do next.
pub enum Step<I, D> {
    /// Begin with a client that has arrived, under this name (empty: none of ours).
    Begin(Box<Arrival<I>>, String),
    /// Go on with these datagrams.
    GoOn(Id, VecDeque<D>),
}

/// What waits under one name, by the order in which it was heard.
struct Queue<I, D> {
    begun: BTreeMap<u64, (Id, VecDeque<D>)>,
    begun_at: FxHashMap<Id, u64>,
    new: BTreeMap<u64, Box<Arrival<I>>>,
    steps: u64,
}

impl<I, D> Default for Queue<I, D> {
    fn default() -> Self {
        Self { begun: BTreeMap::new(), begun_at: FxHashMap::default(), new: BTreeMap::new(), steps: 0 }
    }
}

impl<I, D> Queue<I, D> {
    fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.new.is_empty()
    }
}

/// All queues. `D` is a datagram of a connection that has begun.
pub struct Handshakes<I, D> {
    /// Those without a token.
    unsorted: VecDeque<Box<Arrival<I>>>,
    /// Those with one, which are sorted first.
    validated: VecDeque<Box<Arrival<I>>>,
    crowded_until: Option<Instant>,
    /// Where an arrival stands, by its id; None: it is unsorted.
    known: HashMap<Vec<u8>, Option<(String, u64)>>,
    queues: FxHashMap<String, Queue<I, D>>,
    turn: VecDeque<String>,
    order: u64,
    dropped: BTreeMap<Under, u64>,
    discarded: Vec<I>,
}

impl<I, D> Default for Handshakes<I, D> {
    fn default() -> Self {
        Self {
            unsorted: VecDeque::new(),
            validated: VecDeque::new(),
            crowded_until: None,
            known: HashMap::default(),
            queues: FxHashMap::default(),
            turn: VecDeque::new(),
            order: 0,
            dropped: BTreeMap::new(),
            discarded: Vec::new(),
        }
    }
}

impl<I, D> Handshakes<I, D> {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unsorted.is_empty() && self.validated.is_empty() && self.turn.is_empty()
    }

    /// New connections that found no place, since the last call.
    pub fn take_dropped(&mut self) -> BTreeMap<Under, u64> {
        std::mem::take(&mut self.dropped)
    }

    /// Count one that found no place elsewhere.
    pub fn count_dropped(&mut self, local: u32, name: &str) {
        *self.dropped.entry((local, name.to_owned())).or_default() += 1;
    }

    /// What won't be begun, since the last call.
    pub fn take_discarded(&mut self) -> Vec<I> {
        std::mem::take(&mut self.discarded)
    }

    /// A client that waits says something again, if it does.
    pub fn heard_again(&mut self, cid: &[u8], datagram: &[u8], now: Instant) {
        match self.known.get_mut(cid) {
            None => {}
            Some(Some((name, at))) => {
                self.order += 1;
                if let Some(new) = self.queues.get_mut(name).map(|queue| &mut queue.new)
                    && let Some(mut arrival) = new.remove(at)
                {
                    arrival.heard = now;
                    new.insert(self.order, arrival);
                    *at = self.order;
                }
            }
            Some(None) => {
                let mut arrivals = self.unsorted.iter_mut().rev().chain(self.validated.iter_mut().rev());
                if let Some(arrival) = arrivals.find(|arrival| arrival.cid == cid) {
                    arrival.heard = now;
                    if arrival.datagrams.len() < REPEATS {
                        arrival.datagrams.push(datagram.to_vec());
                    }
                }
            }
        }
    }

    /// A first packet.
    pub fn arrive(&mut self, arrival: Arrival<I>) {
        let arrivals = if arrival.validated { &mut self.validated } else { &mut self.unsorted };
        if arrivals.len() >= ARRIVALS {
            self.count_dropped(arrival.local, "");
            self.discarded.push(arrival.incoming);
            return;
        }
        self.known.insert(arrival.cid.clone(), None);
        arrivals.push_back(Box::new(arrival));
    }

    /// Whether more without a token arrive than can be looked into.
    pub fn is_crowded(&mut self, now: Instant) -> bool {
        if self.unsorted.len() >= CROWD {
            self.crowded_until = Some(now + CROWDED);
        }
        self.crowded_until.is_some_and(|until| now < until)
    }

    /// A datagram of a handshake that has begun under `name`.
    pub fn go_on(&mut self, name: &str, id: Id, datagram: D) {
        self.order += 1;
        let order = self.order;
        let queue = self.queue(name);
        let begun = queue.begun_at.remove(&id).and_then(|at| queue.begun.remove(&at));
        let mut datagrams = begun.map_or_else(VecDeque::new, |(_, datagrams)| datagrams);
        if datagrams.len() < FLIGHT {
            datagrams.push_back(datagram);
        }
        queue.begun.insert(order, (id, datagrams));
        queue.begun_at.insert(id, order);
    }

    /// Look into some arrivals and put each with its name; names that aren't ours share a queue, the empty one's. Those
    /// that don't wait are given back.
    pub fn sort_arrivals(&mut self, judge: impl Fn(&Arrival<I>) -> Judged) -> Vec<(Arrival<I>, Judged)> {
        let mut turned_away = Vec::new();
        for _ in 0..PEEKS {
            let Some(mut arrival) = self.validated.pop_front().or_else(|| self.unsorted.pop_front()) else { break };
            match judge(&arrival) {
                Judged::Waits(name) => {
                    arrival.datagrams = Vec::new();
                    self.sort(arrival, name);
                }
                judged => {
                    self.known.remove(&arrival.cid);
                    turned_away.push((*arrival, judged));
                }
            }
        }
        turned_away
    }

    fn sort(&mut self, arrival: Box<Arrival<I>>, name: String) {
        self.order += 1;
        let order = self.order;
        let cid = arrival.cid.clone();
        self.queue(&name);
        let most = FEWEST.max(SORTED / self.queues.len());
        let queue = self.queue(&name);
        let mut gone = Vec::new();
        while queue.new.len() >= most
            && let Some((_, oldest)) = queue.new.pop_first()
        {
            gone.push(oldest);
        }
        queue.new.insert(order, arrival);
        for oldest in gone {
            self.known.remove(&oldest.cid);
            self.count_dropped(oldest.local, &name);
            self.discarded.push(oldest.incoming);
        }
        self.known.insert(cid, Some((name, order)));
    }

    fn queue(&mut self, name: &str) -> &mut Queue<I, D> {
        if !self.queues.contains_key(name) {
            self.turn.push_back(name.to_owned());
        }
        self.queues.entry(name.to_owned()).or_default()
    }

    /// What to do next, round robin over the names; None: nothing waits.
    pub fn next(&mut self, now: Instant) -> Option<Step<I, D>> {
        while let Some(name) = self.turn.pop_front() {
            let Some(mut queue) = self.queues.remove(&name) else { continue };
            let step = self.take(&mut queue, &name, now);
            if !queue.is_empty() {
                self.turn.push_back(name.clone());
                self.queues.insert(name, queue);
            }
            if step.is_some() {
                return step;
            }
        }
        None
    }

    fn take(&mut self, queue: &mut Queue<I, D>, name: &str, now: Instant) -> Option<Step<I, D>> {
        queue.steps += 1;
        if (!queue.steps.is_multiple_of(NEW_EVERY) || queue.new.is_empty())
            && let Some((_, (id, datagrams))) = queue.begun.pop_last()
        {
            queue.begun_at.remove(&id);
            return Some(Step::GoOn(id, datagrams));
        }
        while let Some((_, arrival)) = queue.new.pop_last() {
            self.known.remove(&arrival.cid);
            if now.saturating_duration_since(arrival.heard) <= STALE {
                return Some(Step::Begin(arrival, name.to_owned()));
            }
            self.discarded.push(arrival.incoming);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Play {
        queue: Handshakes<u32, u32>,
        begin: Instant,
        number: u32,
    }

    impl Play {
        fn new() -> Self {
            Self { queue: Handshakes::default(), begin: Instant::now(), number: 0 }
        }

        fn at(&self, milliseconds: u32) -> Instant {
            self.begin + Duration::from_millis(u64::from(milliseconds))
        }

        /// So many arrivals under a name, a millisecond after one another.
        fn arrive(&mut self, name: &str, count: u32) {
            for _ in 0..count {
                let cid = self.number.to_be_bytes().to_vec();
                let heard = self.at(self.number);
                let datagrams = vec![name.as_bytes().to_vec()];
                self.queue.arrive(Arrival { incoming: self.number, cid, validated: false, local: 0, datagrams, heard });
                self.number += 1;
                let judge = |arrival: &Arrival<u32>| {
                    String::from_utf8(arrival.datagrams[0].clone()).map_or(Judged::Noise, Judged::Waits)
                };
                let _ = self.queue.sort_arrivals(judge);
            }
        }

        fn next(&mut self, milliseconds: u32) -> Option<(String, u32)> {
            match self.queue.next(self.at(milliseconds)) {
                Some(Step::Begin(arrival, name)) => Some((name, arrival.incoming)),
                Some(Step::GoOn(id, _)) => Some((String::from("begun"), id as u32)),
                None => None,
            }
        }
    }

    #[test]
    fn names_are_served_in_turn() {
        let mut play = Play::new();
        play.arrive("a", 5);
        play.arrive("b", 2);
        let served: Vec<String> = (0..7).filter_map(|_| play.next(100)).map(|(name, _)| name).collect();
        assert_eq!(served, ["a", "b", "a", "b", "a", "a", "a"]);
        assert!(play.next(100).is_none() && play.queue.is_empty());
    }

    #[test]
    fn who_was_heard_last_comes_first() {
        let mut play = Play::new();
        play.arrive("a", 4);
        let (cid, now) = (1_u32.to_be_bytes(), play.at(50));
        play.queue.heard_again(&cid, b"", now);
        let served: Vec<u32> = (0..4).filter_map(|_| play.next(100)).map(|(_, number)| number).collect();
        assert_eq!(served, [1, 3, 2, 0]);
    }

    #[test]
    fn nothing_is_begun_with_who_has_been_silent() {
        let mut play = Play::new();
        play.arrive("a", 3);
        assert_eq!(play.next(5002), Some(("a".into(), 2)));
        assert_eq!(play.next(5002), None);
        assert_eq!(play.queue.take_discarded(), [1, 0]);
    }

    #[test]
    fn places_are_bounded_and_a_name_keeps_its_share() {
        let mut play = Play::new();
        play.arrive("a", 5000);
        play.arrive("b", 3000);
        let dropped: Vec<_> = play.queue.take_dropped().into_iter().collect();
        assert_eq!(dropped, [((0, "a".to_owned()), 5000 - 4096), ((0, "b".to_owned()), 3000 - 2048)]);
        for number in 0..1100_u32 {
            let (cid, heard) = (number.to_le_bytes().to_vec(), play.begin);
            play.queue.arrive(Arrival { incoming: number, cid, validated: false, local: 0, datagrams: vec![], heard });
        }
        let dropped: Vec<_> = play.queue.take_dropped().into_iter().collect();
        assert_eq!(dropped, [((0, String::new()), 1100 - 1024)]);
    }

    #[test]
    fn what_has_begun_goes_on_first_and_every_fourth_step_begins() {
        let mut play = Play::new();
        play.arrive("a", 2);
        for id in [7, 8, 9, 10] {
            play.queue.go_on("a", id, 0);
        }
        let served: Vec<u32> = (0..6).filter_map(|_| play.next(100)).map(|(_, number)| number).collect();
        assert_eq!(served, [10, 9, 8, 1, 7, 0]);
    }
}

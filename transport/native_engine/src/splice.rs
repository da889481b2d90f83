//! Two streams joined: what is read from one is written to the other, both ways, with its end as it was.

use crate::event::{Event, Id, Outcome};
use quinn_proto::StreamId;

/// One end of a splice.
pub type Side = (Id, StreamId);

/// One direction of a splice.
pub struct Half {
    /// Where bytes come from.
    pub source: Side,
    /// Where they go.
    pub sink: Side,
    /// How many have gone.
    pub passed: u64,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// It stands among those that may have something to pass on.
    pub queued: bool,
    /// It waits for its turn at a meter.
    pub waits: bool,
}

/// Both.
pub struct Splice {
    /// What the program calls it.
    pub token: u64,
    /// a to b, and b to a.
    pub halves: [Half; 2],
    /// What bounds its bytes, as far as they are there.
    pub meters: Box<[u32]>,
}

impl Splice {
    /// Of two streams.
    #[must_use]
    pub fn new(token: u64, a: Side, b: Side, meters: Box<[u32]>) -> Self {
        let half = |source, sink| Half { source, sink, passed: 0, outcome: None, queued: false, waits: false };
        Self { token, halves: [half(a, b), half(b, a)], meters }
    }

    /// Both ends.
    #[must_use]
    pub fn sides(&self) -> [Side; 2] {
        [self.halves[0].source, self.halves[0].sink]
    }

    /// What to say of it when both directions have ended.
    #[must_use]
    pub fn result(&self) -> Option<Event> {
        let [a_to_b, b_to_a] = &self.halves;
        Some(Event::Spliced {
            token: self.token,
            passed: [a_to_b.passed, b_to_a.passed],
            outcomes: [a_to_b.outcome?, b_to_a.outcome?],
        })
    }
}

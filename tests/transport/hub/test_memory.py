"""What sessions may have the hub hold: windows that grow under budgets, refusals where memory is short. No engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import SessionRefusal
from spnhub.events.model import EndPointType, LimitReached
from spnhub.transport.engine import Limits
from spnhub.transport.hub.memory import (
    INITIAL_MEMORY,
    INITIAL_SEND_WINDOW,
    INITIAL_WINDOW,
    LEAST_MEMORY,
    Memory,
    MemoryLimits,
)
from spnhub.transport.hub.rates import Rates
from tests.transport.hub.bench import REALM, Bench, Peer

MIB = 1 << 20
BOUNDS = MemoryLimits(memory=256 * MIB).of(1 << 50, Limits())


@dataclass
class Windows:
    """All that the budgets use of an engine: who has which window, and how much of it is in use."""

    window: dict[int, int] = field(default_factory=dict)
    credit: dict[int, int] = field(default_factory=dict)
    buffered: dict[int, int] = field(default_factory=dict)
    send_window: dict[int, int] = field(default_factory=dict)
    unacknowledged: dict[int, int] = field(default_factory=dict)

    def set_window(self, connection_id: int, window: int) -> None:
        """See :class:`spnhub.transport.engine.Engine`."""
        self.window[connection_id] = window
        self.credit[connection_id] = max(window, self.credit.get(connection_id, 0))

    def set_send_window(self, connection_id: int, window: int) -> None:
        """Likewise."""
        self.send_window[connection_id] = window

    def info(self, connection_id: int) -> Any:
        """Likewise, as far as it is looked at."""
        return Info(
            self.buffered.get(connection_id, 0),
            self.credit.get(connection_id, INITIAL_WINDOW),
            self.unacknowledged.get(connection_id, 0),
        )


@dataclass
class Info:
    """Of one connection."""

    buffered: int
    window: int
    unacknowledged: int


class Site:
    """The budgets of a hub."""

    def __init__(self, limits: MemoryLimits = BOUNDS) -> None:
        self.engine = Windows()
        self.rates = Rates()
        self.resident = 0
        self.memory = Memory(self.engine, limits, lambda: self.resident, self.rates)  # type: ignore[arg-type] # see Windows
        self.now = 0.0

    def begin(self, *numbers: int, realm: str = "a", identity: str = "CN=one") -> list[str | None]:
        """So many sessions."""
        return [self.memory.begin(number, realm, identity, self.now) for number in numbers]

    def fill(self, *numbers: int) -> int:
        """Let each grow as long as it may, filling whatever it gets; what they have together."""
        before = -1
        while before != (total := sum(self.engine.window.get(number, INITIAL_WINDOW) for number in numbers)):
            before = total
            for number in numbers:
                self.engine.buffered[number] = self.engine.window.get(number, INITIAL_WINDOW)
                self.memory.low(number, self.now)
        return total

    def fill_sending(self, *numbers: int) -> int:
        """The same of what is sent to them."""
        before = -1
        while before != (total := sum(self.engine.send_window.get(number, INITIAL_SEND_WINDOW) for number in numbers)):
            before = total
            for number in numbers:
                self.engine.unacknowledged[number] = self.engine.send_window.get(number, INITIAL_SEND_WINDOW)
                self.memory.low(number, self.now, sending=True)
        return total

    def limits(self) -> set[tuple[str, str]]:
        """Whose limits were reached."""
        return {(realm, limit) for realm, limit, _ in self.rates.take_exceeded()}


def test_what_is_not_set_follows_from_the_process() -> None:
    """And a session never gets more than is of use to it."""
    assert (
        MemoryLimits(memory=256 * MIB, realm_memory=64 * MIB, identity_memory=32 * MIB, session_memory=16 * MIB)
        == BOUNDS
    )
    large = MemoryLimits().of(1 << 40, Limits())
    assert (large.memory, large.session_memory) == (1 << 40, Limits().connection_window)
    assert MemoryLimits(identity_memory=MIB).of(1 << 30, Limits()).identity_memory == MIB
    assert MemoryLimits().of(1000, Limits()).memory == LEAST_MEMORY


def test_one_session_grows_to_its_bound() -> None:
    """And is told of no more."""
    site = Site()
    site.begin(1)
    assert site.fill(1) == 16 * MIB - INITIAL_SEND_WINDOW
    assert site.limits() == {("a", "sessionMemory")}


def test_thirteen_sessions_of_one_certificate() -> None:
    """They fill what their identity may; another one's of the realm grow as before, and so do other realms'."""
    site = Site()
    site.begin(*range(13))
    assert site.fill(*range(13)) <= 32 * MIB + 13 * INITIAL_WINDOW
    assert ("a", "identityMemory") in site.limits()
    site.begin(100, identity="CN=other")
    assert site.fill(100) >= 8 * MIB
    site.begin(200, realm="b")
    assert site.fill(200) == 16 * MIB - INITIAL_SEND_WINDOW


def test_both_windows_of_a_session_count_together() -> None:
    """What is sent to it as what it sends; what the one doesn't use any more goes to the other."""
    site = Site()
    site.begin(1)
    assert site.fill_sending(1) == 16 * MIB - INITIAL_WINDOW
    assert site.limits() == {("a", "sessionMemory")}
    assert site.fill(1) == INITIAL_WINDOW
    site.engine.unacknowledged[1] = 0
    for _ in range(12):
        site.now += 1.0
        site.memory.pass_time(site.now)
        site.engine.buffered[1] = site.engine.window.get(1, INITIAL_WINDOW)
        site.memory.low(1, site.now)
    assert site.engine.window[1] > 8 * MIB
    assert site.engine.window[1] + site.engine.send_window[1] <= 16 * MIB


def test_slow_readers_of_one_certificate() -> None:
    """What waits for them counts as what they send; what they have acknowledged is free for others."""
    site = Site()
    site.begin(*range(13))
    assert site.fill_sending(*range(13)) <= 32 * MIB + 13 * INITIAL_SEND_WINDOW
    assert ("a", "identityMemory") in site.limits()
    site.begin(100, identity="CN=other")
    assert site.fill_sending(100) >= 8 * MIB
    had = site.engine.send_window[0]
    for number in range(1, 13):
        site.engine.unacknowledged[number] = 0
    for _ in range(12):
        site.now += 1.0
        site.memory.pass_time(site.now)
        site.memory.low(0, site.now, sending=True)
    assert site.engine.send_window[0] > had


def test_control_packets_that_are_not_read() -> None:
    """They count, and without room for them their session can't go on; once they are gone there is room again."""
    site = Site(MemoryLimits(memory=256 * MIB, identity_memory=1 * MIB).of(1 << 50, Limits()))
    site.begin(1, 2)
    assert site.memory.hold_packets(1, 700_000, site.now) is None
    assert site.memory.hold_packets(1, 800_000, site.now) is None
    assert site.memory.hold_packets(2, 700_000, site.now) == "identityMemory"
    assert site.rates.take_exceeded() == {("a", "identityMemory", MIB): 1}
    site.memory.hold_packets(1, 0, site.now)
    assert site.memory.hold_packets(2, 700_000, site.now) is None
    site.memory.end(1)
    site.memory.end(2)
    assert set(site.memory.counts().values()) == {0}


def test_a_realm_fills_what_it_may() -> None:
    """By any number of certificates; the next realm has its own."""
    site = Site()
    for number in range(40):
        site.begin(number, identity=f"CN={number}")
    assert site.fill(*range(40)) <= 64 * MIB + 40 * INITIAL_WINDOW
    assert ("a", "realmMemory") in site.limits()
    site.begin(200, realm="b")
    assert site.fill(200) == 16 * MIB - INITIAL_SEND_WINDOW


def test_a_realm_with_a_bound_of_its_own() -> None:
    """More or less than others have; it can be another from one moment to the next, and takes no credit back."""
    site = Site()
    site.memory.set_realms({"a": MIB, "b": 100 * MIB})
    for realm, first in (("a", 0), ("b", 100)):
        for number in range(first, first + 40):
            site.begin(number, realm=realm, identity=f"CN={number}")
    own = 40 * INITIAL_WINDOW
    assert MIB // 2 <= site.fill(*range(40)) - own <= MIB
    assert site.rates.take_exceeded()["a", "realmMemory", MIB] > 0
    assert 64 * MIB < (larger := site.fill(*range(100, 140)) - own) <= 100 * MIB
    site.memory.set_realms({"a": 4 * MIB, "b": MIB})
    assert 2 * MIB <= site.fill(*range(40)) - own <= 4 * MIB
    assert site.fill(*range(100, 140)) - own == larger


def test_realms_fill_half_of_the_process() -> None:
    """And then even first windows aren't there: a new session is refused, and an end makes room."""
    site = Site(MemoryLimits(memory=LEAST_MEMORY).of(1 << 50, Limits()))
    most = LEAST_MEMORY // 2 // INITIAL_MEMORY
    assert set(site.begin(*range(most), realm="a")) == {None}
    (reason,) = site.begin(most)
    assert reason == f"the hub has no memory for more sessions than now ({LEAST_MEMORY} bytes for everything)"
    assert site.limits() == {("a", "memory")}
    site.memory.end(most)
    site.memory.end(0)
    assert site.begin(most) == [None]


def test_a_process_that_is_nearly_full() -> None:
    """No window grows and no session begins, whatever the budgets say; looked at a few times a second at most."""
    site = Site()
    site.begin(1)
    site.resident = 250 * MIB
    site.now = 1.0
    assert site.fill(1) == INITIAL_WINDOW
    assert site.begin(2) != [None]
    assert site.limits() == {("a", "memory")}
    site.memory.end(2)
    site.resident = 100 * MIB
    site.now = 2.5
    assert site.begin(2) == [None]
    # The one that waits is looked at again.
    site.memory.pass_time(site.now)
    assert site.engine.window[1] == 2 * INITIAL_WINDOW


def test_what_is_not_used_goes_to_those_who_wait() -> None:
    """Half of it each second, and its peer's credit counts until it is used up."""
    site = Site()
    site.begin(*range(13))
    site.fill(*range(13))
    site.engine.buffered[0] = 0
    had = site.engine.window[0]
    others = sum(site.engine.window[number] for number in range(1, 13))
    for _ in range(10):
        site.now += 1.0
        site.memory.pass_time(site.now)
    assert site.engine.window[0] < had
    assert sum(site.engine.window[number] for number in range(1, 13)) == others
    site.engine.credit[0] = INITIAL_WINDOW
    for _ in range(10):
        site.now += 1.0
        site.memory.pass_time(site.now)
    assert sum(site.engine.window[number] for number in range(1, 13)) > others


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.integers(0, 3)), max_size=200))
def test_budgets_are_never_exceeded(acts: list[tuple[int, int, int]]) -> None:
    """Whoever comes, fills, reads and goes; and nothing is left of them."""
    site = Site(MemoryLimits(memory=LEAST_MEMORY, identity_memory=MIB, realm_memory=2 * MIB).of(1 << 50, Limits()))
    identities: dict[int, str] = {}
    for act, number, who in acts:
        site.now += 0.3
        if act == 0 and number not in identities:
            identities[number] = f"CN={who}"
            site.begin(number, identity=identities[number])
        elif act == 1 and number in identities:
            site.engine.buffered[number] = site.engine.window.get(number, INITIAL_WINDOW)
            site.memory.low(number, site.now)
        elif act == 4 and number in identities:
            site.engine.unacknowledged[number] = site.engine.send_window.get(number, INITIAL_SEND_WINDOW)
            site.memory.low(number, site.now, sending=True)
        elif act == 2:
            site.engine.buffered[number] = site.engine.unacknowledged[number] = 0
            site.memory.pass_time(site.now)
        elif act == 3 and identities.pop(number, ""):
            site.memory.end(number)
            engine = site.engine
            for known in (
                engine.window,
                engine.credit,
                engine.buffered,
                engine.send_window,
                engine.unacknowledged,
            ):
                known.pop(number, None)
        extra = {
            n: site.engine.credit.get(n, INITIAL_WINDOW)
            + site.engine.send_window.get(n, INITIAL_SEND_WINDOW)
            - INITIAL_MEMORY
            for n in identities
        }
        assert sum(extra.values()) <= 2 * MIB
        for identity in identities.values():
            assert sum(extra[n] for n, theirs in identities.items() if theirs == identity) <= MIB
    for number in list(identities):
        site.memory.end(number)
    assert set(site.memory.counts().values()) == {0}


def test_a_session_without_memory_is_refused_by_name() -> None:
    """It may come back, and the log has it."""
    bench = Bench(memory=BOUNDS, resident=lambda: 255 * MIB)
    refusal = Peer(bench, EndPointType.CONSUMER, "client", "c1").take(SessionRefusal)
    reason = f"the hub has no memory for more sessions than now ({256 * MIB} bytes for everything)"
    assert (refusal.code, refusal.reason, refusal.retryable) == (Code.LIMIT, reason, True)
    bench.settle(2.0)
    assert [(event.limit, event.bound, event.realm) for event in bench.events(LimitReached)] == [
        ("memory", 256 * MIB, REALM)
    ]

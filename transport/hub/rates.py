"""How often sessions and realms may do what costs the hub: token buckets that no honest endpoint empties. Sans-I/O.

What is beyond is refused or ends the session, with the code LIMIT and the limit's name in the reason; the log and the
metrics have the number of times (:class:`~spnhub.actors.contract.inputs.LimitExceeded`). Round robin between sessions
(:mod:`spnhub.transport.hub.backlog`) is what protects the others; this bounds what one makes of the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from spnhub.actors.contract.definitions import RealmDefinition
from spnhub.dataclass import dataclass

__all__ = ["Rate", "Rates", "RealmRates", "SessionRates", "TokenBucket"]


_SECONDS_AT_ONCE: Final = 10
"""How many seconds' worth of a realm's rate may come at once, after a while without any."""


class Rate(NamedTuple):
    """So many a second, and so many at once after a while without any."""

    per_second: int
    burst: int

    def __str__(self) -> str:
        return f"{self.per_second} per second"


@dataclass(frozen=True, slots=True)
class SessionRates:
    """Of one session."""

    control_packets: Rate = Rate(20_000, 100_000)
    """Of any kind, unknown ones included; beyond it the session ends."""
    openings: Rate = Rate(5_000, 16_384)
    """Data streams; a further one is refused."""
    resets: Rate = Rate(5_000, 16_384)
    """Data streams that are reset or stopped before bytes pass; beyond it the session ends."""
    weights: Rate = Rate(50, 1_000)
    """SetWeight; beyond it the session ends."""
    resumes: Rate = Rate(1_000, 16_384)
    """ResumeRequests; a further one is refused, and may be repeated."""


@dataclass(frozen=True, slots=True)
class RealmRates:
    """Of all sessions of one realm. At once are ten seconds' worth."""

    handshakes: Rate = Rate(2_000, 20_000)
    """Handshakes that become sessions: a further one is closed before its request is read."""
    events: Rate = Rate(50_000, 500_000)
    """Events that it causes. Beyond it neither handshakes, openings nor resumes are admitted, and weights have to wait;
    what is open goes on, and is counted, too."""
    journal_bytes: Rate = Rate(16 << 20, 160 << 20)
    """Bytes of these, likewise."""

    @classmethod
    def of(cls, realm: RealmDefinition) -> RealmRates:
        """Those of the inventory, in place of the defaults where it has some."""
        own = {
            "handshakes": realm.max_handshake_rate,
            "events": realm.max_event_rate,
            "journal_bytes": realm.max_journal_rate,
        }
        return cls(**{name: Rate(most, _SECONDS_AT_ONCE * most) for name, most in own.items() if most is not None})


class TokenBucket:
    """Notices when something happens more often than a rate allows."""

    __slots__ = ("_at", "_burst", "_per_second", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._per_second, self._burst = rate
        self._tokens = float(rate.burst)
        self._at = now

    def take(self, now: float, count: int = 1) -> bool:
        """Whether ``count`` more may happen at ``now`` (monotonic seconds); if not, they don't count."""
        tokens = self._tokens + (now - self._at) * self._per_second
        tokens = min(tokens, self._burst)
        self._at = now
        admitted = count <= tokens
        self._tokens = tokens - count if admitted else tokens
        return admitted

    def spend(self, now: float, count: int) -> bool:
        """What has happened counts, whether it was admitted or not: whether something is left.

        What was beyond the rate has to come back first, but not more than a burst.
        """
        tokens = min(self._tokens + (now - self._at) * self._per_second, self._burst) - count
        self._at = now
        self._tokens = max(tokens, -self._burst)
        return tokens > 0


_LOOK_EVERY: Final = 0.01
"""Seconds between two looks at what a realm has logged, while that is within its rates."""
_NOTHING: Final = (0, 0)
_DEFAULT: Final = RealmRates()
_NAMES: Final = {
    "control_packets": "controlPackets",
    "openings": "openings",
    "resets": "resets",
    "weights": "weightChanges",
    "resumes": "resumeRequests",
}
"""What the log calls the limit, by the field of :class:`SessionRates`."""
_REALM_NAMES: Final = {"handshakes": "realmHandshakes", "events": "realmEvents", "journal_bytes": "realmJournalBytes"}
"""Likewise, by the field of :class:`RealmRates`."""


class _Realm:
    """What one realm may still do."""

    __slots__ = ("events", "handshakes", "journal_bytes", "look_at", "rates", "seen")

    def __init__(self, rates: RealmRates, logged: Sequence[int], now: float) -> None:
        self.rates = rates
        self.seen = tuple(logged)
        """Its events, and their bytes, that are counted already."""
        self.look_at = now + _LOOK_EVERY
        """When they are counted next. Until then they are within its rates."""
        self.handshakes = TokenBucket(rates.handshakes, now)
        self.events = TokenBucket(rates.events, now)
        self.journal_bytes = TokenBucket(rates.journal_bytes, now)


class Rates:
    """Of all sessions and realms of a hub process: what was beyond a rate, until the actors are told of it.

    :param logged: how many events each realm has caused, and how many bytes they are.
    """

    def __init__(self, rates: SessionRates | None = None, logged: Mapping[str, Sequence[int]] | None = None) -> None:
        self._rates = rates or SessionRates()
        self._logged: Mapping[str, Sequence[int]] = {} if logged is None else logged
        self._realm_rates: Mapping[str, RealmRates] = {}
        self._realms: dict[str, _Realm] = {}
        self._exceeded: Counter[tuple[str, str, int]] = Counter()

    def set_realms(self, rates: Mapping[str, RealmRates]) -> None:
        """The realms of the inventory; who has other rates now begins anew."""
        self._realm_rates = rates
        for name, realm in list(self._realms.items()):
            if rates.get(name) != realm.rates:
                del self._realms[name]

    def refuse_session(self, realm: str, now: float) -> str | None:
        """Why a realm gets no further session now; None: it does, and that was counted."""
        reason = self.refuse_more(realm, now)
        if reason is None and not self._realms[realm].handshakes.take(now):
            reason = self._refuse(realm, "handshakes")
        return reason

    def refuse_more(self, realm: str, now: float) -> str | None:
        """Why nothing that would be logged may begin in a realm now; None: it may."""
        known = self._realms.get(realm)
        if known is not None and now < known.look_at:
            return None  # as nearly always, without a further call
        over = self._exceeded_by(realm, now)
        return None if over is None else self._refuse(realm, over)

    def is_over(self, realm: str, now: float) -> bool:
        """Whether :meth:`refuse_more` has a reason; nothing is counted as refused."""
        return self._exceeded_by(realm, now) is not None

    def _exceeded_by(self, realm: str, now: float) -> str | None:
        known = self._realms.get(realm) or self._begin(realm, now)
        if now < known.look_at:
            return None
        logged = self._logged.get(realm, _NOTHING)
        events, size = known.seen
        known.seen = logged[0], logged[1]
        few = known.events.spend(now, logged[0] - events)
        small = known.journal_bytes.spend(now, logged[1] - size)
        if few and small:
            known.look_at = now + _LOOK_EVERY
            return None
        known.look_at = now  # each time, to see when it no longer is
        return "journal_bytes" if few else "events"

    def _begin(self, name: str, now: float) -> _Realm:
        rates = self._realm_rates.get(name, _DEFAULT)
        known = self._realms[name] = _Realm(rates, self._logged.get(name, _NOTHING), now)
        return known

    def _refuse(self, realm: str, name: str) -> str:
        rate, limit = getattr(self._realms[realm].rates, name), _REALM_NAMES[name]
        self.exceed_limit(realm, limit, rate.per_second)
        return f"realm {realm} has more than {rate} {limit}"

    def reason(self, name: str) -> str:
        """Why something is refused that goes beyond a rate."""
        return f"more than {getattr(self._rates, name)} {_NAMES[name]}"

    def bucket(self, name: str, now: float) -> TokenBucket:
        """A new session's, for a field of :class:`SessionRates`."""
        return TokenBucket(getattr(self._rates, name), now)

    def exceed(self, realm: str, name: str) -> None:
        """Count a rate that was exceeded."""
        self.exceed_limit(realm, _NAMES[name], getattr(self._rates, name).per_second)

    def exceed_limit(self, realm: str, limit: str, bound: int) -> None:
        """Count another limit that was exceeded."""
        self._exceeded[realm, limit, bound] += 1

    def take_exceeded(self) -> Counter[tuple[str, str, int]]:
        """How often limits were exceeded since the last call, by realm, limit and bound."""
        exceeded = self._exceeded
        if exceeded:
            self._exceeded = Counter()
        return exceeded

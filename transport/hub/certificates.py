"""The certificate chains of live sessions, verified again as time passes and when their network's trust changes: its
CAs, or what is revoked (D-30).

A handshake verifies a chain once. Here the chains of live sessions are kept, and a session whose chain would be refused
now is reported. To verify one costs a fraction of a millisecond of CPU, so it is done in portions, and equal chains are
verified once. Sans-I/O. Counterpart: :mod:`spnhub.transport.certificates`, which verifies.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from spnhub.dataclass import dataclass
from spnhub.events.faults import log_fault
from spnhub.transport.engine import ChainFault, ClientTrust

__all__ = ["Certificates", "Judge"]

_PORTION: Final = 20
"""Chains verified in one turn: some 6 ms."""
_PAUSE: Final = 0.01
"""Seconds from one portion to the next."""
_LONGEST_WAIT: Final = 60.0
"""The most seconds between two checks of the wall clock, which may be set."""
_HANDSHAKE: Final = 20.0
"""Seconds after a change of CA in which a handshake verified by the old CA may complete; twice its bound."""
_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Judge(Protocol):
    """Verifies chains of client certificates (DER, leaf first)."""

    def check(self, certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> ChainFault | None:
        """Why the chain isn't accepted at ``moment``; None: it is."""

    def next_expiry(self, certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> datetime | None:
        """When the first certificate of the chain, or of its CA, expires after ``moment``."""


@dataclass(slots=True)
class _Entry:
    network_urn: str
    chain: tuple[bytes, ...]
    queued: bool = False
    hour: int | None = None
    """In which it expires, since 1970; None: never."""


class Certificates:
    """The chains of one hub process's sessions.

    :param judge: verifies them.
    :param invalidate: called with a session's number and what is wrong when its chain isn't accepted any more.
    :param fail: called with a session's number and what was raised about its chain; the others' are verified.
    """

    def __init__(
        self,
        judge: Judge,
        invalidate: Callable[[int, ChainFault], None],
        fail: Callable[[int, BaseException], None] = lambda _, fault: log_fault("certificates", fault),
    ) -> None:
        self._judge = judge
        self._invalidate = invalidate
        self._fail = fail
        self._authorities: Mapping[str, ClientTrust] = {}
        self._changed: dict[str, float] = {}
        """Networks whose CA has changed, each until no handshake can complete any more that the old CA has verified."""
        self._entries: dict[int, _Entry] = {}
        self._queue: deque[int] = deque()
        self._verdicts: dict[tuple[tuple[bytes, ...], ClientTrust], ChainFault | None] = {}
        """The verdicts of this round, by chain and CA; a round ends when nothing is queued."""
        self._expiries: list[tuple[int, int]] = []
        """When a chain expires, microseconds since 1970, and of which session."""
        self._hours: dict[str, Counter[int]] = {}
        """How many chains of a network (by URN) expire in an hour since 1970."""
        self._stale = 0
        self._next_portion_at = 0.0
        self._check_at: float | None = None
        self._now = 0.0
        self._wall = 0

    def __len__(self) -> int:
        """How many chains are kept."""
        return len(self._entries)

    def chain(self, connection_id: int) -> tuple[bytes, ...]:
        """What a session presented, DER, leaf first; empty if there is no such session."""
        entry = self._entries.get(connection_id)
        return () if entry is None else entry.chain

    def first_expiries(self) -> dict[str, datetime]:
        """Per network (by URN) the hour in which the first chain of a live session expires.

        Costs as much as there are such hours, however many sessions.
        """
        return {urn: _EPOCH + min(hours) * _HOUR for urn, hours in self._hours.items()}

    def set_authorities(self, authorities: Mapping[str, ClientTrust]) -> None:
        """Whom each network (by URN) trusts from now on; sessions for which that has changed are verified again."""
        changed = {
            urn for urn, trust in authorities.items() if urn in self._authorities and self._authorities[urn] != trust
        }
        self._authorities = authorities
        if not changed:
            return
        self._changed |= dict.fromkeys(changed, self._now + _HANDSHAKE)
        self._verdicts.clear()
        for connection_id, entry in self._entries.items():
            if entry.network_urn in changed:
                self._enqueue(connection_id, entry)

    def add(self, connection_id: int, network_urn: str, chain: tuple[bytes, ...]) -> None:
        """A session's handshake is complete; its chain was accepted by the CA that was valid when it began."""
        entry = self._entries[connection_id] = _Entry(network_urn, chain)
        if self._changed.get(network_urn, 0.0) > self._now:
            self._enqueue(connection_id, entry)
        else:
            self._watch(connection_id, entry)

    def forget(self, connection_id: int) -> None:
        """The session is gone."""
        if (entry := self._entries.pop(connection_id, None)) is None:
            return
        self._count(entry, None)
        self._stale += 1
        if self._stale > 64 and self._stale * 2 > len(self._expiries):
            self._expiries = [expiry for expiry in self._expiries if expiry[1] in self._entries]
            heapq.heapify(self._expiries)
            self._stale = 0

    def timer(self) -> float | None:
        """When :meth:`pass_time` wants to be called, monotonic seconds."""
        return self._next_portion_at if self._queue else self._check_at

    def pass_time(self, now: float, wall_us: int) -> None:
        """Judge what is due. ``wall_us`` is microseconds since 1970."""
        self._now, self._wall = now, wall_us
        while self._expiries and self._expiries[0][0] <= wall_us:
            _, connection_id = heapq.heappop(self._expiries)
            if (entry := self._entries.get(connection_id)) is not None:
                self._enqueue(connection_id, entry)
            else:
                self._stale -= 1
        if self._check_at is None or self._check_at <= now:
            self._plan_look()
        if not self._queue or self._next_portion_at > now:
            return
        self._next_portion_at = now + _PAUSE
        for _ in range(min(_PORTION, len(self._queue))):
            connection_id = self._queue.popleft()
            try:
                self._examine(connection_id)
            except Exception as fault:
                self._fail(connection_id, fault)
        if not self._queue:
            self._verdicts.clear()

    def _enqueue(self, connection_id: int, entry: _Entry) -> None:
        if not entry.queued:
            entry.queued = True
            self._queue.append(connection_id)

    def _examine(self, connection_id: int) -> None:
        entry = self._entries.get(connection_id)
        if entry is None:
            return
        entry.queued = False
        trust = self._authorities.get(entry.network_urn)
        if trust is None:  # the network has gone, and its sessions go with it
            return
        asked = (entry.chain, trust)
        if asked not in self._verdicts:
            self._verdicts[asked] = self._judge.check(entry.chain, trust, self._moment())
        fault = self._verdicts[asked]
        if fault is None:
            self._watch(connection_id, entry)
        else:
            self._invalidate(connection_id, fault)

    def _watch(self, connection_id: int, entry: _Entry) -> None:
        """Remember when time will change the verdict."""
        trust = self._authorities.get(entry.network_urn)
        if trust is None:
            return
        end = self._judge.next_expiry(entry.chain, trust, self._moment())
        if end is None:
            self._count(entry, None)
            return
        self._count(entry, (end - _EPOCH) // _HOUR)
        # The last second named still counts (RFC 5280 section 4.1.2.5).
        # Not as a date: there is none after the end of 9999, which stands for "never" (RFC 5280 section 4.1.2.5).
        due = (end - _EPOCH) // timedelta(microseconds=1) + 1_000_000
        heapq.heappush(self._expiries, (due, connection_id))
        if self._expiries[0] == (due, connection_id):
            self._plan_look()

    def _count(self, entry: _Entry, hour: int | None) -> None:
        if entry.hour == hour:
            return
        hours = self._hours.setdefault(entry.network_urn, Counter())
        if hour is not None:
            hours[hour] += 1
        if entry.hour is not None:
            hours[entry.hour] -= 1
            if not hours[entry.hour]:
                del hours[entry.hour]
        if not hours:
            del self._hours[entry.network_urn]
        entry.hour = hour

    def _plan_look(self) -> None:
        if not self._expiries:
            self._check_at = None
            return
        left = (self._expiries[0][0] - self._wall) / 1_000_000
        self._check_at = self._now + min(max(left, 0.0), _LONGEST_WAIT)

    def _moment(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self._wall)

"""Refused handshakes, logged in such a way that a peer without a certificate cannot flood the log (D-13).

The first refusal of a kind is logged at once; those that follow within a window (1 s) share one event at its end. Of
each realm, and of what names none, a bounded number of kinds is distinguished, and one at least; its further kinds
share one event. Sans-I/O and pure but for the counts it keeps.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from spnhub.actors.contract.inputs import HandshakeRefusal
from spnhub.dataclass import dataclass
from spnhub.events.model import Event, SessionRefused

__all__ = ["Refusals"]


class _Kind(NamedTuple):
    """What two refusals of the same kind have in common: everything but the peer's port."""

    realm: str | None
    network_urn: str | None
    server_name: str | None
    host: str
    alert: int | None
    reason: str
    subject: str | None


@dataclass(slots=True)
class _Window:
    first: HandshakeRefusal
    ends: float
    more: int = 0


_REALMS: Final = 16
"""Where so many realms have all the kinds that one may have, each further realm has one."""


def _others(realm: str | None) -> HandshakeRefusal:
    reason = "refusals of other kinds, too many to tell apart"
    return HandshakeRefusal(realm, None, None, "", None, reason, None)


def _kind(refusal: HandshakeRefusal) -> _Kind:
    return _Kind(
        refusal.realm,
        refusal.network_urn,
        refusal.server_name,
        refusal.remote_address.rpartition(":")[0],
        refusal.alert,
        refusal.reason,
        refusal.subject,
    )


def _event(refusal: HandshakeRefusal, count: int) -> SessionRefused:
    return SessionRefused(
        realm=refusal.realm,
        network_urn=refusal.network_urn,
        spn_end_point=refusal.subject,
        server_name=refusal.server_name,
        remote_address=refusal.remote_address,
        alert=refusal.alert,
        reason=refusal.reason,
        count=count,
    )


class Refusals:
    """The refusals of the last window.

    :param window: seconds.
    :param kinds: how many kinds of one realm are distinguished at once.
    """

    def __init__(self, window: float, kinds: int) -> None:
        self._window = window
        self._kinds = kinds
        self._windows: dict[_Kind, _Window] = {}
        """Oldest first, since all windows are equally long."""
        self._told_apart: Counter[str | None] = Counter()
        """How many of them are of each realm."""

    def add(self, refusal: HandshakeRefusal, now: float) -> tuple[Event, ...]:
        """Add a refusal at ``now`` (monotonic seconds); returns the events that are due now."""
        events = self.expire(now)
        kind = _kind(refusal)
        window = self._windows.get(kind)
        if window is not None:
            window.more += 1
            return events
        own = self._told_apart[kind.realm]
        if own < self._kinds and (not own or len(self._windows) < self._kinds * _REALMS):
            self._open(kind, refusal, now)
            return (*events, _event(refusal, 1))
        others = _others(kind.realm)
        window = self._windows.get(_kind(others)) or self._open(_kind(others), others, now)
        window.more += 1
        return events

    def due(self) -> float | None:
        """When :meth:`expire` is to be called next, monotonic seconds; None: no window is open."""
        return next((window.ends for window in self._windows.values()), None)

    def expire(self, now: float) -> tuple[Event, ...]:
        """The events of the windows that are over at ``now`` (monotonic seconds)."""
        over = []
        for kind, window in self._windows.items():
            if window.ends > now:
                break
            over.append(kind)
        return self._close(over)

    def flush(self) -> tuple[Event, ...]:
        """The events of all windows, over or not."""
        return self._close(list(self._windows))

    def _open(self, kind: _Kind, first: HandshakeRefusal, now: float) -> _Window:
        window = self._windows[kind] = _Window(first, now + self._window)
        self._told_apart[kind.realm] += 1
        return window

    def _close(self, kinds: list[_Kind]) -> tuple[Event, ...]:
        windows = [self._windows.pop(kind) for kind in kinds]
        self._told_apart -= Counter(kind.realm for kind in kinds)
        return tuple(_event(window.first, window.more) for window in windows if window.more)

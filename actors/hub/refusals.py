"""Refused handshakes, logged in such a way that a peer without a certificate cannot flood the log (D-13).

The first refusal of a kind is logged at once; those that follow within a window (1 s) share one event at its end. Only
a bounded number of kinds is distinguished; all further kinds share one event. Sans-I/O and pure but for the counts it
keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from spnhub.actors.contract.inputs import HandshakeRefusal
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


_OTHERS = HandshakeRefusal(None, None, None, "", None, "refusals of other kinds, too many to tell apart", None)


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
    :param kinds: how many kinds are distinguished at once.
    """

    def __init__(self, window: float, kinds: int) -> None:
        self._window = window
        self._kinds = kinds
        self._windows: dict[_Kind, _Window] = {}
        """Oldest first, since all windows are equally long."""

    def add(self, refusal: HandshakeRefusal, now: float) -> tuple[Event, ...]:
        """Add a refusal at ``now`` (monotonic seconds); returns the events that are due now."""
        events = self.expire(now)
        kind = _kind(refusal)
        window = self._windows.get(kind)
        if window is not None:
            window.more += 1
            return events
        if len(self._windows) < self._kinds:
            self._windows[kind] = _Window(refusal, now + self._window)
            return (*events, _event(refusal, 1))
        others = self._windows.setdefault(_kind(_OTHERS), _Window(_OTHERS, now + self._window))
        others.more += 1
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

    def _close(self, kinds: list[_Kind]) -> tuple[Event, ...]:
        windows = [self._windows.pop(kind) for kind in kinds]
        return tuple(_event(window.first, window.more) for window in windows if window.more)

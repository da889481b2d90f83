"""Which events a reader wants: by time, service, realm and kind. Counterpart: the commands of ``spnlog``."""

from __future__ import annotations

import re
from typing import Final

from spnhub.dataclass import dataclass
from spnhub.events.analysis.point_in_time import Moment, MomentError
from spnhub.events.model import Event, Recorded

__all__ = ["EventSelection", "moment_or_ago"]

_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def moment_or_ago(text: str, now: int) -> Moment:
    """A time or a sequence (:meth:`Moment.parse`), or how long ago: ``90s``, ``15m``, ``1h``, ``2d``.

    :param now: microseconds since 1970.
    :raises MomentError: it is none of these.
    """
    if found := _AGO.fullmatch(text.strip()):
        return Moment(None, now - round(float(found[1]) * _SECONDS[found[2]] * 1_000_000))
    try:
        return Moment.parse(text)
    except MomentError as exc:
        more = "" if text.isdecimal() else ", nor how long ago, like 90s, 15m, 1h or 2d"
        raise MomentError(f"{exc}{more}") from None


@dataclass(frozen=True, slots=True)
class EventSelection:
    """What None is said of isn't asked about."""

    since: Moment | None = None
    """The first moment, included."""
    until: Moment | None = None
    """The last moment, included."""
    realm: str | None = None
    service: str | None = None
    """A service's URN, or its name: the last part of it."""
    types: frozenset[str] | None = None
    """Of events (``eventType``)."""

    def takes(self, recorded: Recorded) -> bool:
        """Whether it is one of them."""
        if self.types is not None and recorded.event.event_type not in self.types:
            return False
        return self.about(recorded.event) and not self.before(recorded) and not self.after(recorded)

    def about(self, event: Event) -> bool:
        """Whether an event is about that realm and service."""
        return self.names(event.realm, getattr(event, "service_urn", None))

    def names(self, realm: str | None, service_urn: str | None) -> bool:
        """Whether these are that realm and service."""
        if self.realm is not None and realm != self.realm:
            return False
        if self.service is None:
            return True
        return service_urn is not None and self.service in (service_urn, service_urn.rpartition(":")[2])

    def before(self, recorded: Recorded) -> bool:
        """Whether it is before the first moment."""
        if (first := self.since) is None:
            return False
        if first.sequence is not None:
            return recorded.sequence < first.sequence
        return first.time is not None and recorded.timestamp < first.time

    def after(self, recorded: Recorded) -> bool:
        """Whether it is after the last moment."""
        if (last := self.until) is None:
            return False
        if last.sequence is not None:
            return recorded.sequence > last.sequence
        return last.time is not None and recorded.timestamp > last.time

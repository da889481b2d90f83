"""Events as the lines that people and programs read: the spec's lifecycle lines, and any event whole.

The hub prints :func:`lifecycle_line` through structlog, ``spnlog`` prints the same from the log: one function, so that
they can't differ. Counterpart: :mod:`spnhub.events.model`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from spnhub.events.codes import alert_name, code_name
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionStarted,
    DisconnectReason,
    Event,
    Recorded,
    SessionEnded,
    SessionStarted,
    TerminateReason,
    to_datetime,
    to_record,
)

__all__ = ["LIFECYCLE", "event_line", "failed", "format_time", "lifecycle_line"]

Line = dict[str, Any]

_COMMON: Final = ("realm", "hubId", "networkUrn", "sequence")
"""D-14, in every line."""

_SESSION: Final = ("spnSessionId", "spnEndPoint", "endPointType", "serviceUrn")
_CONNECTION: Final = ("spnConnectionId", "consumerSideSpnSessionId", "providerSideSpnSessionId")
_LEG: Final = ("connectionUid", "epoch")
"""D-14, in the lines of connections."""

_LINES: Final[dict[type[Event], tuple[str, ...]]] = {
    SessionStarted: (*_SESSION, *_COMMON),
    SessionEnded: (*_SESSION, "totalConnectionCount", "elapsedTime", "terminateReason", *_COMMON),
    ConnectionStarted: (*_CONNECTION, *_COMMON, *_LEG),
    ConnectionEnded: (
        *_CONNECTION,
        "totalSentBytes",
        "totalReceiveBytes",
        "elapsedTime",
        "disconnectReason",
        *_COMMON,
        *_LEG,
    ),
}


LIFECYCLE: Final = frozenset(_LINES)
"""The events that have the spec's line."""


def _attribute(name: str) -> str:
    attribute = re.sub("[A-Z]", lambda capital: "_" + capital[0].lower(), name)
    return attribute if attribute in Recorded.__slots__ else f"event.{attribute}"


_GETTERS: Final[dict[type[Event], Callable[[Recorded], tuple[Any, ...]]]] = {
    cls: attrgetter(*map(_attribute, names)) for cls, names in _LINES.items()
}
"""What gets the values of a line: one is made for every session and connection."""
_ENUMERATIONS: Final = {
    cls: tuple(name for name in names if name in {"endPointType", "terminateReason", "disconnectReason"})
    for cls, names in _LINES.items()
}
"""Names of the values to be shown as the strings they are."""

_TIMES: Final = frozenset(
    {
        "aliveAt",
        "expiredAt",
        "firstTimestamp",
        "lastTimestamp",
        "passedOverUntil",
        "since",
        "startAt",
        "startedAt",
        "stoppedAt",
        "timestamp",
    }
)


def format_time(timestamp: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC with microseconds: ``2026-01-02T03:04:05.000006Z``."""
    return to_datetime(timestamp).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def lifecycle_line(recorded: Recorded) -> Line | None:
    """The spec's line (R-2.5, R-4.4) with D-14's fields; None when the event has none. An end by an error says why.

    ``timestamp`` is the event's own, elapsedTime a number of seconds, byte counts are integers.
    """
    event = recorded.event
    kind = type(event)
    if kind not in LIFECYCLE:
        return None
    line: Line = {"timestamp": format_time(recorded.timestamp), "eventType": event.event_type}
    line.update(zip(_LINES[kind], _GETTERS[kind](recorded), strict=True))
    for name in _ENUMERATIONS[kind]:
        line[name] = _plain(line[name])
    if isinstance(event, SessionEnded | ConnectionEnded) and failed(event):
        # That it ended with an error is of no use without which.
        line |= {"code": event.code, **_names(event.code, None), "reason": event.reason}
    return line


def failed(event: Event) -> bool:
    """Whether it is the end of something by an error."""
    match event:
        case ConnectionEnded():
            return event.disconnect_reason is DisconnectReason.ERROR
        case SessionEnded():
            return event.terminate_reason is TerminateReason.ERROR
    return False


def event_line(recorded: Recorded) -> Line:
    """All fields of any event, named as in its schema; times as text, and codes have their names beside them."""
    line = {
        name: format_time(value) if name in _TIMES and isinstance(value, int) else _plain(value)
        for name, value in to_record(recorded).items()
    }
    return line | _names(line.get("code"), line.get("alert"))


def _names(code: object, alert: object) -> Line:
    """``codeName`` and ``alertName``: a code of spn/1 and one of TLS may be the same number."""
    names: Line = {}
    if isinstance(code, int):
        names["codeName"] = code_name(code)
    if isinstance(alert, int):
        names["alertName"] = alert_name(alert)
    return names


def _plain(value: object) -> object:
    """Enumerations as the strings they are: structlog's console and ``json`` would show them differently."""
    return str(value) if isinstance(value, str) else value

"""The story of one session or conversation, over the logs of several hubs, for a person who asks what happened.

The log is read twice. :class:`Search` finds what an id names, and which sessions belong to it; :class:`Story` collects
the events about them and makes lines of them. Pure; both take events in D-11's order. Counterparts:
:mod:`spnhub.events.analysis.merge`, :mod:`spnhub.cli.log_explain`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import field
from typing import Any, Final

from spnhub.dataclass import dataclass
from spnhub.events.analysis.log_lines import event_line
from spnhub.events.analysis.narrative import because, bytes_text, seconds_text, sentence
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionFinished,
    ConnectionLost,
    ConnectionPaused,
    ConnectionProgress,
    ConnectionRefused,
    ConnectionResumed,
    ConnectionStarted,
    Event,
    EventsLost,
    JournalStalled,
    ProviderAnswered,
    ProviderFailed,
    ProviderRecovered,
    ProviderSilent,
    Recorded,
    ResumeRefused,
    SessionEnded,
    SessionStarted,
    WeightChanged,
)

__all__ = ["CONVERSATION_LIMIT", "EVENT_LIMIT", "Search", "Story", "names_of"]

EVENT_LIMIT: Final = 1_000
"""Events of one story that are kept from its beginning, and as many from its end."""
CONVERSATION_LIMIT: Final = 20
"""The most conversations that are shown when an spnConnectionId names several."""

_Connection = (
    ConnectionStarted
    | ConnectionProgress
    | ConnectionEnded
    | ConnectionPaused
    | ConnectionResumed
    | ConnectionRefused
    | ConnectionLost
    | ConnectionFinished
)


def _uid(event: Event) -> str | None:
    return event.connection_uid if isinstance(event, _Connection | ResumeRefused) else None


def _sessions(event: Event) -> tuple[str, ...]:
    """The sessions that an event names."""
    match event:
        case (
            ConnectionStarted()
            | ConnectionProgress()
            | ConnectionEnded()
            | ConnectionPaused()
            | ConnectionResumed()
            | ConnectionFinished()
        ):
            return event.consumer_side_spn_session_id, event.provider_side_spn_session_id
        case ConnectionRefused():
            return (event.consumer_side_spn_session_id,)
        case (
            SessionStarted()
            | SessionEnded()
            | WeightChanged()
            | ProviderSilent()
            | ProviderAnswered()
            | ProviderFailed()
            | ProviderRecovered()
            | ResumeRefused()
            | ConnectionLost()
        ):
            return (event.spn_session_id,)
    return ()


def names_of(event: Event) -> tuple[str, ...]:
    """Under which keys (see :meth:`Search.keys`, :meth:`Story.keys`) an index has to find an event."""
    uid = _uid(event)
    if uid is None:
        return tuple(f"session {name}" for name in _sessions(event))
    keys = (f"uid {uid}", *(f"leg of {name}" for name in _sessions(event)))
    return (*keys, f"streams {event.spn_connection_id}") if isinstance(event, ConnectionStarted) else keys


class Search:
    """What ``name`` names: a session, a conversation by its uid, or legs by their spnConnectionId."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.session = False
        self.uids: dict[str, set[str]] = {}
        """Sessions by connectionUid, in the order of appearance; of the first :data:`CONVERSATION_LIMIT`."""
        self.more = 0
        """Legs of further conversations with this spnConnectionId."""

    def keys(self) -> set[str]:
        """Of the events that it needs to see, as far as it knows by now."""
        kinds = ("uid", "session", "leg of", "streams")
        return {f"{kind} {self.name}" for kind in kinds} | {f"uid {uid}" for uid in self.uids}

    def mentions(self) -> set[str]:
        """Each of these events has one of these texts in it."""
        return {self.name, *self.uids}

    @property
    def found(self) -> bool:
        """Whether it names anything."""
        return self.session or bool(self.uids)

    def take(self, recorded: Recorded) -> None:
        """Look at the next event."""
        event = recorded.event
        self.session = self.session or self.name in _sessions(event)
        uid = _uid(event)
        if uid is None:
            return
        if uid == self.name or uid in self.uids:
            self.uids.setdefault(uid, set()).update(_sessions(event))
        elif isinstance(event, ConnectionStarted) and event.spn_connection_id == self.name:
            if len(self.uids) < CONVERSATION_LIMIT:
                self.uids[uid] = set(_sessions(event))
            else:
                self.more += 1

    def stories(self) -> list[Story]:
        """Empty ones, to be fed with all events once more."""
        if self.session and not self.uids:
            return [Story(self.name, None, {self.name})]
        return [Story(uid, uid, sessions) for uid, sessions in self.uids.items()]


@dataclass(slots=True)
class _Leg:
    epoch: int
    hub_id: str
    start: Recorded | None = None
    end: Recorded | None = None


@dataclass(slots=True)
class Story:
    """The events of one session, or of one conversation. Memory: twice :data:`EVENT_LIMIT` events, and its legs."""

    name: str
    uid: str | None
    """None: of a session."""
    sessions: set[str]
    first: list[Recorded] = field(default_factory=list)
    last: deque[Recorded] = field(default_factory=lambda: deque(maxlen=EVENT_LIMIT))
    omitted: int = 0
    starts: dict[str, Recorded] = field(default_factory=dict)
    """The sessions' starts."""
    legs: dict[tuple[str, str, str], _Leg] = field(default_factory=dict)
    """Of a conversation, by hub, sessions and streams: the last :data:`EVENT_LIMIT`."""
    finished: ConnectionFinished | None = None
    """Its endpoints' word on a conversation that has ended in order."""
    lost: ConnectionLost | None = None
    """Its endpoint's word on a conversation that was given up."""
    refused: ConnectionRefused | None = None
    open: bool = False
    """As far as the log has been looked at."""

    def keys(self) -> set[str]:
        """Of the events that it needs to see; what happens to the log itself has none."""
        own = {f"session {name}" for name in self.sessions}
        return own | ({f"leg of {self.name}"} if self.uid is None else {f"uid {self.uid}"})

    def mentions(self) -> set[str]:
        """Each of the events that it needs to see has one of these texts in it."""
        return {self.name, *self.sessions, JournalStalled.event_type, EventsLost.event_type}

    def take(self, recorded: Recorded) -> None:
        """Look at the next event."""
        event = recorded.event
        if self.uid is None:
            if self.name in _sessions(event) or (self.open and self._meanwhile(recorded)):
                self._keep(recorded)
            if isinstance(event, SessionStarted) and event.spn_session_id == self.name:
                self.starts[self.name] = recorded
                self.open = True
            elif isinstance(event, SessionEnded) and event.spn_session_id == self.name:
                self.open = False
            return
        if _uid(event) == self.uid:
            self._leg(recorded)
            self._keep(recorded)
        elif isinstance(event, SessionStarted) and event.spn_session_id in self.sessions:
            self.starts[event.spn_session_id] = recorded
        elif self.open and (
            (isinstance(event, SessionEnded) and event.spn_session_id in self.sessions) or self._meanwhile(recorded)
        ):
            self._keep(recorded)

    def _meanwhile(self, recorded: Recorded) -> bool:
        """What happened to the hub's log itself during the story."""
        if not isinstance(recorded.event, JournalStalled | EventsLost):
            return False
        hubs = {one.hub_id for one in self.starts.values()} | {leg.hub_id for leg in self.legs.values()}
        return recorded.hub_id in hubs

    def _leg(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, ConnectionStarted | ConnectionEnded):
            sides = f"{event.consumer_side_spn_session_id} {event.provider_side_spn_session_id}"
            key = (recorded.hub_id, sides, event.spn_connection_id)
            leg = self.legs.setdefault(key, _Leg(event.epoch, recorded.hub_id))
            if isinstance(event, ConnectionStarted):
                leg.start = recorded
            else:
                leg.end = recorded
            if len(self.legs) > EVENT_LIMIT:
                del self.legs[next(iter(self.legs))]
            self.open = any(leg.end is None for leg in self.legs.values())
        elif isinstance(event, ConnectionFinished):
            self.finished = event
        elif isinstance(event, ConnectionLost):
            self.lost = event
        elif isinstance(event, ConnectionRefused):
            self.refused = event

    def _keep(self, recorded: Recorded) -> None:
        if len(self.first) < EVENT_LIMIT:
            self.first.append(recorded)
        else:
            self.omitted += len(self.last) == EVENT_LIMIT
            self.last.append(recorded)

    # ---- told --------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """For programs: the summary, and the events with all their fields."""
        return {
            "id": self.name,
            "kind": "session" if self.uid is None else "connection",
            "summary": self.summary(),
            "sessions": [event_line(recorded) for recorded in self.starts.values()],
            "omitted": self.omitted,
            "events": [event_line(recorded) for recorded in (*self.first, *self.last)],
        }

    def render(self) -> Iterator[tuple[int | None, str, str]]:
        """For people: time (microseconds since 1970), hub and what happened; without time and hub, a remark."""
        begun = sorted(self.starts.values(), key=lambda one: -one.timestamp) if self.uid is not None else []
        for place, recorded in enumerate((*self.first, *self.last)):
            if self.omitted and place == len(self.first):
                yield None, "", f"… {self.omitted} events are left out here …"
            while begun and begun[-1].timestamp <= recorded.timestamp:
                start = begun.pop()
                yield start.timestamp, start.hub_id, sentence(start)
            yield recorded.timestamp, recorded.hub_id, sentence(recorded, self.name)

    def summary(self) -> str:
        """What it was, and what has become of it, in a sentence or two."""
        return self._session_summary() if self.uid is None else self._connection_summary()

    def _session_summary(self) -> str:
        events = [one.event for one in (*self.first, *self.last)]
        known: Event | None = self.starts[self.name].event if self.name in self.starts else None
        ended = next((one for one in reversed(events) if isinstance(one, SessionEnded)), None)
        known = known or ended
        who = ""
        if isinstance(known, SessionStarted | SessionEnded):
            who = f" of {known.spn_end_point}, {known.end_point_type} of {known.service_urn}"
        if ended is None:
            return f"Session {self.name}{who}: open at the end of the log."
        reason = f" ({ended.reason})" if ended.reason else ""
        return (
            f"Session {self.name}{who}: ended after {seconds_text(ended.elapsed_time)},"
            f" {ended.terminate_reason}{reason}; {ended.total_connection_count} connections named it."
        )

    def _connection_summary(self) -> str:
        legs = sorted(self.legs.values(), key=lambda leg: leg.epoch)
        if not legs:
            why = "" if self.refused is None else because(self.refused.code, self.refused.reason)
            return f"Connection {self.uid}: no provider was reached{why}."
        hubs = list(dict.fromkeys(leg.hub_id for leg in legs))
        known = next(one.event for leg in legs for one in (leg.start, leg.end) if one is not None)
        assert isinstance(known, ConnectionStarted | ConnectionEnded)
        text = f"Connection {self.uid} of {known.service_urn}: "
        text += f"{len(legs)} leg{'s' * (len(legs) > 1)} on {', '.join(hubs)}; "
        newest = legs[-1].end
        if newest is None:
            return text + "open at the end of the log."
        end = newest.event
        assert isinstance(end, ConnectionEnded)
        sent = end.start_sent_offset + end.total_sent_bytes
        receive = end.start_receive_offset + end.total_receive_bytes
        reason = because(end.code, end.reason)
        became = "suspended and not resumed in this log" if end.suspended else f"ended, {end.disconnect_reason}"
        if self.lost is not None and end.suspended:
            became, reason = "suspended, then given up", because(self.lost.code, self.lost.reason)
        if self.finished is not None:
            sent, receive = self.finished.sent_offset, self.finished.receive_offset
            became = f"{became.partition(' and')[0]}; its endpoints had ended it in order, as they reported later"
            reason = ""
        return (
            f"{text}{became}{reason}; {bytes_text(sent)} from consumer to provider, {bytes_text(receive)} back,"
            " each byte once."
        )

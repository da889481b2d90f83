"""The story of a conversation, or of a session, as a picture over all hubs. Pure.

Each hub has a lane, each leg a bar on its hub's lane; where the conversation stood still there is a gap between two
bars. Counterparts: :mod:`spnhub.events.analysis.explain`, which collects the events; :mod:`spnhub.console.html`, which
draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from spnhub.dataclass import dataclass
from spnhub.events.analysis.explain import Story
from spnhub.events.analysis.log_lines import failed
from spnhub.events.analysis.narrative import because, seconds_text, sentence
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionFinished,
    ConnectionLost,
    ConnectionPaused,
    ConnectionProgress,
    ConnectionRefused,
    ConnectionResumed,
    ConnectionStarted,
    EventsLost,
    JournalStalled,
    ProviderFailed,
    ProviderSilent,
    Recorded,
    ResumeRefused,
    SessionEnded,
    SessionStarted,
)

__all__ = ["DrawnLeg", "Line", "Pause", "Picture", "Sign", "picture_of"]


@dataclass(slots=True)
class DrawnLeg:
    """One leg, or the session itself. Times are microseconds since 1970, offsets and numbers bytes."""

    epoch: int
    hub_id: str
    start: int
    end: int | None
    """None: it is open at the end of the log."""
    consumer: str
    """Whose session it is on, as far as it is known: a subject."""
    provider: str
    start_sent: int = 0
    start_received: int = 0
    sent: int = 0
    received: int = 0
    how: str = "open"
    """How it ended, in a few words."""
    condition: str = "open"
    """``open``, ``ended``, ``suspended``, ``failed``."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Between two legs."""

    start: int
    end: int
    from_hub: str
    to_hub: str
    reason: str
    asked: str
    """Who asked to go on."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A moment that is marked."""

    time: int
    hub_id: str
    kind: str
    """``refused``, ``lost``, ``trouble``, or ``finished``."""
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence."""

    time: int | None
    gap: str
    hub_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it."""

    name: str
    kind: str
    """``connection`` or ``session``."""
    summary: str
    realms: frozenset[str]
    """Those that its events are about."""
    service_urn: str
    begun: int
    over: int
    hubs: tuple[str, ...]
    """The lanes, in the order of appearance."""
    legs: tuple[DrawnLeg, ...]
    pauses: tuple[Pause, ...]
    signs: tuple[Sign, ...]
    lines: tuple[Line, ...]


def picture_of(story: Story) -> Picture:
    """Draw a story that has been told all events."""
    events = [*story.starts.values(), *story.first, *story.last]
    events.sort(key=lambda one: one.timestamp)
    who = {name: _subject(one) for name, one in story.starts.items()}
    legs, signs, realms = _legs(story, who), list(_signs(events, story.name)), {one.event.realm for one in events}
    own = [one for one in events if not isinstance(one.event, SessionStarted)] or events
    service = next((urn for one in events if (urn := getattr(one.event, "service_urn", None))), "")
    hubs = dict.fromkeys([leg.hub_id for leg in legs] + [sign.hub_id for sign in signs])
    times = [one.timestamp for one in own] + [leg.start for leg in legs]
    return Picture(
        story.name,
        "session" if story.uid is None else "connection",
        story.summary(),
        frozenset(one for one in realms if one is not None),
        service,
        min(times, default=0),
        max(times, default=0),
        tuple(hubs),
        tuple(legs),
        tuple(_pauses(legs, events, who)),
        tuple(signs),
        tuple(_lines(story)),
    )


def _subject(recorded: Recorded) -> str:
    return recorded.event.spn_end_point if isinstance(recorded.event, SessionStarted | SessionEnded) else ""


def _legs(story: Story, who: dict[str, str]) -> list[DrawnLeg]:
    if story.uid is None:
        return _session(story, who)
    found: dict[tuple[str, int], DrawnLeg] = {}
    for recorded in (*story.first, *story.last):
        event, hub = recorded.event, recorded.hub_id
        if not isinstance(event, ConnectionStarted | ConnectionProgress | ConnectionEnded | ConnectionPaused):
            continue
        leg = found.get((hub, event.epoch))
        if leg is None:
            leg = found[hub, event.epoch] = DrawnLeg(
                event.epoch,
                hub,
                recorded.timestamp,
                None,
                who.get(event.consumer_side_spn_session_id) or event.consumer_side_spn_session_id,
                who.get(event.provider_side_spn_session_id) or event.provider_side_spn_session_id,
            )
        if isinstance(event, ConnectionPaused):
            continue
        leg.start_sent, leg.start_received = event.start_sent_offset, event.start_receive_offset
        if isinstance(event, ConnectionStarted):
            continue
        leg.sent, leg.received = event.total_sent_bytes, event.total_receive_bytes
        if isinstance(event, ConnectionEnded):
            leg.end = recorded.timestamp
            leg.how = f"{event.disconnect_reason}{because(event.code, event.reason)}"
            leg.condition = "suspended" if event.suspended else "failed" if failed(event) else "ended"
    return sorted(found.values(), key=lambda one: (one.epoch, one.start))


def _session(story: Story, who: dict[str, str]) -> list[DrawnLeg]:
    own = [*story.starts.values(), *story.first, *story.last]
    if not own:
        return []
    first, ended = min(own, key=lambda one: one.timestamp), None
    for recorded in own:
        if isinstance(recorded.event, SessionEnded) and recorded.event.spn_session_id == story.name:
            ended = recorded
    leg = DrawnLeg(0, first.hub_id, first.timestamp, None, who.get(story.name) or story.name, "")
    if ended is not None:
        event = ended.event
        assert isinstance(event, SessionEnded)
        leg.end, leg.how = ended.timestamp, f"{event.terminate_reason}{because(event.code, event.reason)}"
        leg.condition = "failed" if failed(event) else "ended"
    return [leg]


def _pauses(legs: Sequence[DrawnLeg], events: Iterable[Recorded], who: dict[str, str]) -> Iterator[Pause]:
    """Where one leg had ended and the next not begun."""
    paused: dict[int, ConnectionPaused] = {}
    resumed: dict[int, ConnectionResumed] = {}
    for recorded in events:
        if isinstance(recorded.event, ConnectionPaused):
            paused[recorded.event.epoch] = recorded.event
        elif isinstance(recorded.event, ConnectionResumed):
            resumed[recorded.event.epoch] = recorded.event
    for before, after in itertools.pairwise(legs):
        if before.end is None or after.epoch == before.epoch:
            continue
        why = paused.get(before.epoch)
        if why is None:
            reason = before.how
        else:
            reason = ("planned" if why.planned else "interrupted") + because(why.code, why.reason)
        again = resumed.get(after.epoch)
        asked = "" if again is None else who.get(again.consumer_side_spn_session_id, "") or after.consumer
        yield Pause(before.end, after.start, before.hub_id, after.hub_id, reason, asked)


def _signs(events: Iterable[Recorded], about: str) -> Iterator[Sign]:
    for recorded in events:
        match recorded.event:
            case ConnectionRefused() | ResumeRefused():
                kind = "refused"
            case ConnectionLost():
                kind = "lost"
            case ConnectionFinished():
                kind = "finished"
            case JournalStalled() | EventsLost() | ProviderSilent() | ProviderFailed():
                kind = "trouble"
            case _:
                continue
        yield Sign(recorded.timestamp, recorded.hub_id, kind, sentence(recorded, about))


def _lines(story: Story) -> Iterator[Line]:
    before: int | None = None
    for time, hub_id, text in story.render():
        gap = "" if time is None or before is None or time < before else f"+{seconds_text((time - before) / 1_000_000)}"
        before = before if time is None else time
        yield Line(time, gap, hub_id, text)

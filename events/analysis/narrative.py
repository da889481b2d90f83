"""Events as sentences for people.

Counterparts: :mod:`spnhub.events.analysis.explain`, :mod:`spnhub.events.analysis.log_lines`.
"""

from __future__ import annotations

from spnhub.events.analysis.log_lines import event_line, format_time
from spnhub.events.codes import code_name
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
    EventsTrimmed,
    JournalStalled,
    LimitReached,
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

__all__ = ["because", "bytes_text", "seconds_text", "sentence"]

_ENVELOPE = frozenset({"eventId", "eventType", "hubId", "journalId", "sequence", "timestamp", "realm", "networkUrn"})


def seconds_text(seconds: float) -> str:
    """A time span: ``0.012 s``, ``5.3 s``, ``2 min 5 s``, ``3 h 4 min``."""
    if seconds < 1:
        return f"{seconds:.3f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def bytes_text(number: int) -> str:
    """A number of bytes: ``1 byte``, ``12,345 bytes``."""
    return "1 byte" if number == 1 else f"{number:,} bytes"


def sentence(recorded: Recorded, about: str = "") -> str:
    """What happened.

    :param about: the session or conversation that the story is about, and that needn't be named again.
    """
    event = recorded.event
    match event:
        case SessionStarted():
            text = (
                f"session {event.spn_session_id} of {event.spn_end_point} began: {event.end_point_type} of"
                f" {event.service_urn}"
            )
            return text + (f", from {event.remote_address}" if event.remote_address else "")
        case SessionEnded():
            return (
                f"session {event.spn_session_id} of {event.spn_end_point} ended after"
                f" {seconds_text(event.elapsed_time)}: {event.terminate_reason}"
                f"{because(event.code, event.reason)}{_recovered(event.recovered)}"
            )
        case ConnectionStarted():
            return (
                f"{_leg(event.connection_uid, event.epoch, about)} opened to the provider: streams"
                f" {event.spn_connection_id}, {_sides(event)}"
                f"{_from(event.start_sent_offset, event.start_receive_offset)}"
            )
        case ConnectionProgress():
            return (
                f"{_leg(event.connection_uid, event.epoch, about)} has passed on {bytes_text(event.total_sent_bytes)}"
                f" and {bytes_text(event.total_receive_bytes)} back so far"
            )
        case ConnectionEnded():
            return (
                f"{_leg(event.connection_uid, event.epoch, about)} ended after {seconds_text(event.elapsed_time)}:"
                f" {event.disconnect_reason}{because(event.code, event.reason)}; it passed on"
                f" {bytes_text(event.total_sent_bytes)} and {bytes_text(event.total_receive_bytes)} back"
                f"{'; the connection may go on' if event.suspended else ''}"
                f"{'; the provider did not take it' if event.rejected else ''}{_recovered(event.recovered)}"
            )
        case ConnectionPaused():
            how = "paused as planned" if event.planned else "interrupted"
            return (
                f"{_leg(event.connection_uid, event.epoch, about)} {how} at {bytes_text(event.sent_offset)} and"
                f" {bytes_text(event.receive_offset)} back{because(event.code, event.reason)}"
            )
        case ConnectionResumed():
            return (
                f"{_leg(event.connection_uid, event.epoch, about)} goes on from {bytes_text(event.sent_offset)} and"
                f" {bytes_text(event.receive_offset)} back"
            )
        case ConnectionRefused():
            return f"{_leg(event.connection_uid, event.epoch, about)} was refused{because(event.code, event.reason)}"
        case ResumeRefused():
            return (
                f"{event.spn_end_point} wanted to go on as {_leg(event.connection_uid, event.epoch, about)} and was"
                f" refused{because(event.code, event.reason)}"
            )
        case ConnectionLost():
            return (
                f"{_leg(event.connection_uid, event.epoch, about)} was the last: given up by session"
                f" {event.spn_session_id}{because(event.code, event.reason)}"
            )
        case ConnectionFinished():
            return (
                f"{_leg(event.connection_uid, event.epoch, about)} isn't needed: both ends had ended in order, after"
                f" {bytes_text(event.sent_offset)} and {bytes_text(event.receive_offset)} back"
            )
        case WeightChanged():
            return (
                f"session {event.spn_session_id} changed its weight from {event.old_weight} to {event.new_weight}"
                f"{because(None, event.reason)}"
            )
        case ProviderSilent():
            return f"the provider of session {event.spn_session_id} doesn't answer: no new connections for it"
        case ProviderAnswered():
            return f"the provider of session {event.spn_session_id} has answered"
        case ProviderFailed():
            times = f"failed {event.failures} times in a row" if event.failures > 1 else "failed"
            return (
                f"the provider of session {event.spn_session_id} {times}{because(event.code, event.reason)}: others"
                f" come first until {format_time(event.passed_over_until)}"
            )
        case ProviderRecovered():
            return f"the provider of session {event.spn_session_id} takes connections again"
        case LimitReached():
            most = "" if event.bound is None else f" of {event.bound}"
            where = "" if event.service_urn is None else f" of {event.service_urn}"
            return f"the hub's limit{most} for {event.limit}{where} was reached, {event.count} times"
        case JournalStalled():
            return f"the hub's journal stalled for {seconds_text(event.stalled_seconds)}{because(None, event.reason)}"
        case EventsLost():
            return f"the hub's log misses {event.count} events from before{because(None, event.reason)}"
        case EventsTrimmed():
            whose = ", ".join(event.trimmed_realms) or "no realm"
            span = f"{event.first_sequence} to {event.last_sequence}"
            return f"the hub's journal is full: of sequences {span}, those of {whose} are no longer kept"
    facts = [f"{name} {value}" for name, value in event_line(recorded).items() if name not in _ENVELOPE]
    return f"{event.event_type}: {', '.join(facts)}"


def _leg(uid: str, epoch: int, about: str) -> str:
    return f"leg {epoch}" if uid == about else f"connection {uid}, leg {epoch},"


def _sides(event: ConnectionStarted) -> str:
    return f"sessions {event.consumer_side_spn_session_id} and {event.provider_side_spn_session_id}"


def _from(sent: int, receive: int) -> str:
    return f", from {bytes_text(sent)} and {bytes_text(receive)} back on" if sent or receive else ""


def because(code: int | None, reason: str) -> str:
    """A code's name and a reason in brackets; nothing where there is neither."""
    words = [*([code_name(code)] if code else []), *([reason] if reason else [])]
    return f" ({', '.join(words)})" if words else ""


def _recovered(recovered: bool) -> str:
    return "; recorded by the hub's next start, so time and bytes are lower bounds" if recovered else ""

"""The envelope says of a frame what the whole event says; what is no frame is told as such."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spnhub.events import model
from spnhub.events.journal.envelope import Envelope, read_envelope
from spnhub.events.model import EVENT_CLASSES, Event, Recorded
from spnhub.schemas.codec import SchemaError
from tests.schemas.samples import frames
from tests.schemas.test_codec import LONG, TEXT, TIME, instances


def envelope_of(recorded: Recorded) -> Envelope:
    """As the whole event has it."""
    event = recorded.event
    return Envelope(
        str(recorded.event_id),
        event.event_type,
        recorded.hub_id,
        recorded.journal_id,
        recorded.sequence,
        event.realm,
        getattr(event, "service_urn", None),
    )


@given(st.one_of([instances(cls) for cls in EVENT_CLASSES.values()]), TEXT, st.uuids(), LONG, TIME)
def test_it_says_what_the_event_says(event: Event, hub_id: str, journal_id: Any, sequence: int, time: int) -> None:
    """For any event of any class."""
    recorded = Recorded(hub_id, journal_id, sequence, time, event)
    assert read_envelope(model.encode(recorded)) == envelope_of(recorded)


@pytest.mark.parametrize("name", EVENT_CLASSES)
def test_published_bytes(name: str) -> None:
    """Those of the first versions too; cut at any byte it is the same envelope or a SchemaError."""
    frame = frames()[name]
    expected = envelope_of(model.decode(frame))
    assert read_envelope(frame) == expected
    whole = 0
    for size in range(len(frame)):
        try:
            assert read_envelope(frame[:size]) == expected
        except SchemaError:
            assert not whole
        else:
            whole += 1


def test_what_is_no_frame() -> None:
    """Another magic, an unknown schema, a journal's id that is none."""
    with pytest.raises(SchemaError, match="begins with 0, not 1"):
        read_envelope(b"\1\0\0\0\1")
    with pytest.raises(SchemaError, match="unknown event schema id 4711"):
        read_envelope(b"\0" + (4711).to_bytes(4, "big") + b"x")
    frame = frames()["HubAlive"]
    journal = str(model.decode(frame).journal_id).encode()
    with pytest.raises(SchemaError, match="is not a UUID"):
        read_envelope(frame.replace(journal, b"x" * len(journal)))

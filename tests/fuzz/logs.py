"""What stands in a topic or a journal, and what a schema registry says of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import struct
from collections.abc import AsyncIterator
from typing import Any, Final
from unittest import mock

import httpx2

from spnhub import bounded_json
from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app as spnlog
from spnhub.events import model
from spnhub.events.analysis.log_lines import event_line, lifecycle_line
from spnhub.events.analysis.metrics import LogMetrics
from spnhub.events.analysis.serialize import serialize
from spnhub.events.journal.envelope import read_envelope
from spnhub.events.journal.files import SegmentHeader, load_identity, pack_frame, write_segment_header
from spnhub.events.kafka.registry import RegistryUnavailable, fetch, register
from spnhub.events.state.hub_state import HubState
from spnhub.schemas import codec
from spnhub.schemas.codec import SchemaError
from tests.events.samples import JOURNAL_ID, day, published, record, write_journal
from tests.fuzz.files import folder
from tests.fuzz.harness import Harness

__all__ = ["LOGS"]

_LENGTH: Final = struct.Struct(">H")


def _frame(data: bytes) -> None:
    """One record: read whole and in part, folded, counted, told."""
    with contextlib.suppress(SchemaError):
        read_envelope(data)
    with contextlib.suppress(SchemaError):
        codec.decode_event_head(data, frozenset({"sequence", "realm"}))
    recorded = model.decode(data)
    _take_in(recorded)


def _take_in(recorded: model.Recorded) -> None:
    HubState().apply(recorded)
    LogMetrics().apply(recorded)
    lifecycle_line(recorded)
    event_line(recorded)
    json.dumps(serialize(recorded), default=str)


@functools.cache
def _frames() -> tuple[bytes, ...]:
    return tuple(model.encode(one) for one in published())


# ---- a whole log ---------------------------------------------------------------------------------------------------

_COMMANDS: Final = (
    ("verify", "--json"), ("verify",), ("metrics",), ("metrics", "--json"), ("state",), ("state", "--json"),
    ("replay",), ("replay", "--json"), ("incidents",), ("incidents", "--json"), ("explain",), ("state", "--until", "4"),
)  # fmt: skip


def _log(data: bytes) -> None:
    """Whole frames whose bytes are anything, in a journal; the first byte says what is done with it."""
    path = _empty_journal()
    identity = load_identity(path)
    for old in path.glob("*.segment"):
        old.unlink()
    segment = write_segment_header(path, SegmentHeader(identity, 1))
    with segment.open("ab") as file:
        place = 1
        while place + 2 <= len(data):
            (size,) = _LENGTH.unpack_from(data, place)
            file.write(
                pack_frame(data[place + 2 : place + 2 + size].replace(JOURNAL_ID.bytes, identity.journal_id.bytes))
            )
            place += 2 + size
    command, *options = _COMMANDS[(data[:1] or b"\0")[0] % len(_COMMANDS)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = run_command_line(spnlog, "spnlog", [command, str(path), *options])
    assert status in {0, 1, 2}
    assert "Traceback" not in said.getvalue(), said.getvalue()


@functools.cache
def _empty_journal() -> Any:
    path = folder() / "log"
    write_journal(path, [])
    return path


def _logs() -> list[bytes]:
    whole = [model.encode(one) for one in record(day())]
    body = b"".join(_LENGTH.pack(len(one)) + one for one in whole)
    rest = b"".join(_LENGTH.pack(len(one)) + one for one in _frames())
    return [bytes([number]) + each for number in range(len(_COMMANDS)) for each in (body, rest)]


# ---- schemas of others ---------------------------------------------------------------------------------------------


def _schema(data: bytes) -> None:
    """A schema in the first line, and in the second an object whose ``datum`` is what was written with it, in hex."""
    text, _, second = data.partition(b"\n")
    try:
        value = bounded_json.loads(second)
        datum = bytes.fromhex(value["datum"])
    except (ValueError, KeyError, TypeError):
        datum = second
    foreign = codec.ForeignSchemas()
    frame = codec.with_schema_id(bytes(5) + datum, 77_777)
    try:
        with contextlib.suppress(SchemaError):
            codec.learn_event_schema(77_777, bounded_json.loads(text))
            _take_in(model.decode(frame))
    except ValueError:
        pass
    finally:
        codec.forget_newer()
    foreign.learn(77_777, text.decode("utf-8", "replace"))
    _take_in(model.decode(frame, foreign))


def _schemas() -> list[bytes]:
    found = []
    for frame in _frames():
        text = codec.event_schema_text(codec.event_schema_id(frame))
        found.append(text.encode() + b"\n" + json.dumps({"datum": frame[5:].hex()}).encode())
    return found[::3]


_TYPES: Final = tuple(
    json.dumps(one).encode()
    for one in (
        "null",
        "string",
        "bytes",
        "long",
        "spn.event.X",
        [],
        ["null", "null"],
        {"type": "array", "items": "null"},
        {"type": "map", "values": "null"},
        {"type": "fixed", "name": "f", "size": 0},
        {"type": "fixed", "name": "g", "size": 10**12},
        {"type": "record", "name": "r", "fields": []},
        {"type": "array", "items": {"type": "record", "name": "r", "fields": []}},
        {"type": "record", "name": "r", "fields": [{"name": "r", "type": "r"}]},
        {"type": "enum", "name": "e", "symbols": []},
        {"type": "bytes", "logicalType": "decimal", "precision": 10**9},
    )
)


class _Pieces(httpx2.AsyncByteStream):
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data


def streamed(status: int, data: bytes, location: str) -> httpx2.Response:
    """An answer as it comes from a network."""
    return httpx2.Response(status, stream=_Pieces(data), headers={"Location": location})


def _answer(data: bytes) -> None:
    """What a registry answers, to those that write and to those that read: the first byte is the status."""
    status = (200, 200, 404, 500, 302, 204, 200, 200)[(data[:1] or b"\0")[0] % 8]

    def answer(_: httpx2.Request) -> httpx2.Response:
        return streamed(status, data[1:], "/elsewhere")

    transport = httpx2.MockTransport(answer)
    client = functools.partial(httpx2.AsyncClient, transport=transport)
    with mock.patch.object(httpx2, "AsyncClient", client):
        with contextlib.suppress(RegistryUnavailable):
            asyncio.run(register("http://registry.test"))
        with contextlib.suppress(RegistryUnavailable):
            asyncio.run(fetch("http://registry.test", 7))


def _answers() -> list[bytes]:
    bodies: list[Any] = [{"id": 7}, {"schema": "{}"}, {"error_code": 40403, "message": "no"}]
    return [bytes([head]) + json.dumps(one).encode() for head in (0, 2, 3) for one in bodies]


LOGS: Final = (
    Harness(
        "event", "a record of a topic or a journal: one event's frame", _frame, lambda: list(_frames()), (SchemaError,)
    ),
    Harness("log", "a log of such records, to the commands of spnlog", _log, _logs, slice=30),
    Harness(
        "schema",
        "a schema that a registry or a newer hub's journal has",
        _schema,
        _schemas,
        (SchemaError,),
        words=_TYPES,
    ),
    Harness("registry", "answers of a schema registry", _answer, _answers),
)

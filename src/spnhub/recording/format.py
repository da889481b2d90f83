"""What a recording looks like: JSON, an object a line, so that ``grep`` and ``jq`` read it and a torn end costs a line.

The first line is the :class:`Header`, the last one ``{"end": reason}`` when the recording was ended in order. Each line
between them is a step, one run of the actors::

    {"now": 12.5, "wall": 1764000000000000, "parts": [
        {"cause": [[2, 0], "ProviderAccepted", {}], "events": [], "commands": [["JoinStreams", {"connection": …}]]}]}

A part is an input (its receiver: null is the hub, a number a session, a pair a connection; its class; its fields) and
its results; cause ``timers`` are those that were due, ``start`` is the actors' own beginning. Events stand with the
sequence that the journal gave them; their time is the latest ``wall`` so far. Classes and fields are found by
reflection: a new input needs nothing here. A packet that is sent has its class beside its fields. Fields that aren't
compared (:class:`LoadInventory`'s plan) can be made again from the others and aren't written.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from functools import cache
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from spnhub import bounded_json
from spnhub.actors.contract.commands import Command, SendPacket
from spnhub.actors.contract.inputs import ConnectionInput, HubInput, Key, SessionInput
from spnhub.actors.contract.options import ActorOptions
from spnhub.dataclass import dataclass
from spnhub.recording.system import Address, Input, Part, Step
from spnhub.schemas import codec

__all__ = [
    "FORMAT",
    "SUFFIX",
    "VERSION",
    "FormatError",
    "Header",
    "PlainStep",
    "decode_command",
    "decode_input",
    "decode_step",
    "load_line",
    "pack_end",
    "pack_step",
    "plain_parts",
]

FORMAT: Final = "spnhub-recording"
VERSION: Final = 1
SUFFIX: Final = ".jsonl"
_MAX_SECONDS: Final = 1 << 40
"""Of a monotonic clock. Far beyond it the sum of a time and an interval is the time itself."""

INPUTS: Final[dict[str, type[object]]] = {
    cls.__name__: cls for cls in get_args(HubInput | SessionInput | ConnectionInput)
}
"""Input class by name."""

_EARLIER_INPUTS: Final = {
    "CloseRequested": "CloseRequest",
    "CloseAcknowledged": "CloseAck",
    "LimitBitten": "LimitExceeded",
    "PauseAcknowledged": "PauseAck",
    "SessionRenewing": "SessionRenewal",
    "WeightSet": "SetWeight",
}
"""What recordings of earlier versions call an input."""

_STRICT: Final = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class FormatError(ValueError):
    """A line that this version can't take; the text says what of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Where a recording comes from: the hub's process (D-3), its journal, and the bounds of its actors."""

    hub_id: str
    journal_id: str
    first_sequence: int
    """The first that the journal could give to an event of this run."""
    started: int
    """Microseconds since 1970."""
    software: str
    """Version of spnhub."""
    options: ActorOptions

    def pack(self) -> bytes:
        """Its line."""
        return to_json({"format": FORMAT, "version": VERSION} | _fields(self)) + b"\n"

    @classmethod
    def unpack(cls, line: bytes) -> Header:
        """Read its line. Options that the recording doesn't know have their defaults.

        :raises FormatError: it isn't one, or of a version to come.
        """
        record = load_line(line)
        if record.pop("format", None) != FORMAT:
            raise FormatError("this is no recording of a hub")
        version = record.pop("version", None)
        if version != VERSION:
            raise FormatError(f"format version {version!r} is not {VERSION}, which this spnhub reads")
        header: Header = _validate(cls.__name__, record, "header")
        try:
            uuid.UUID(header.journal_id)
        except ValueError:
            raise FormatError("header: field journal_id: it is no UUID") from None
        for one in dataclasses.fields(ActorOptions):
            if getattr(header.options, one.name) < 0:
                raise FormatError(f"header: field options.{one.name}: it is negative")
        return header


_Long = Annotated[int, Field(ge=0, lt=1 << 63)]


@dataclass(frozen=True, slots=True)
class PlainPart:
    """A part as its line has it."""

    cause: Literal["start", "timers"] | list[Any]
    events: tuple[tuple[_Long, str, dict[str, Any]], ...]
    """Sequence, class and fields."""
    commands: tuple[tuple[str, dict[str, Any]], ...]
    """Class and fields."""


@dataclass(frozen=True, slots=True)
class PlainStep:
    """A step as its line has it."""

    now: Annotated[float, Field(ge=0, le=_MAX_SECONDS)]
    wall: _Long
    parts: tuple[PlainPart, ...]


_CLASSES: Final = {cls.__name__: cls for cls in (Header, PlainStep)} | {**INPUTS, Header.__name__: Header}


def pack_step(step: Step) -> bytes:
    """A step's line."""
    return to_json({"now": step.now, "wall": step.wall_us, "parts": [_part(part) for part in step.parts]}) + b"\n"


def pack_end(reason: str) -> bytes:
    """The last line."""
    return to_json({"end": reason}) + b"\n"


def plain_parts(step: Step) -> list[dict[str, Any]]:
    """A step's parts as its line has them."""
    parts: list[dict[str, Any]] = json.loads(pack_step(step))["parts"]
    return parts


def load_line(line: bytes) -> dict[str, Any]:
    """What a line says.

    :raises FormatError: it is no JSON object within bounds.
    """
    try:
        value = bounded_json.loads(line)
    except ValueError as exc:
        raise FormatError(f"not JSON: {exc}") from None
    if not isinstance(value, dict):
        raise FormatError("not a JSON object")
    return value


def decode_step(record: dict[str, Any]) -> PlainStep:
    """A step of its line, whose inputs are not decoded yet.

    :raises FormatError: it isn't one.
    """
    step: PlainStep = _validate(PlainStep.__name__, record, "step")
    return step


def decode_input(value: Any) -> tuple[Address, Input]:
    """An input and its receiver.

    :raises FormatError: this version doesn't know it, or one of its fields.
    """
    address: Address
    match value:
        case [None | int() as found, str(name), dict(fields)] if not isinstance(found, bool):
            address = found
        case [[int(session), int(stream)], str(name), dict(fields)]:
            address = Key(session, stream)
        case _:
            raise FormatError(f"{json.dumps(value)[:100]} is no input")
    name = _EARLIER_INPUTS.get(name, name)
    if name not in INPUTS:
        raise FormatError(f"this version has no input {name}")
    message: Input = _validate(name, fields, f"input {name}")
    return address, message


def decode_command(name: str, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A command's class and fields as this version names them: each packet had a command of its own once.

    :raises FormatError: a command of its own has fields that it never had.
    """
    kind = name.removeprefix("Send")
    if kind == name or kind not in codec.PACKET_KINDS:
        return name, fields
    packet = {field: value for field, value in fields.items() if field != "session"}
    if kind == "ShutdownRequest":
        match packet.get("spread"):
            case int() | float() as spread:
                packet = {"resumable": True, "spread_milliseconds": round(min(spread, _MAX_SECONDS) * 1000)}
            case other:
                raise FormatError(f"command {name}: field spread: {json.dumps(other)[:100]} is no number")
    return "SendPacket", {"session": fields.get("session"), "packet": [kind, packet]}


def _part(part: Part) -> dict[str, Any]:
    cause: Any = part.cause
    if not isinstance(cause, str):
        address, message = cause
        cause = [address, type(message).__name__, _fields(message)]
    return {
        "cause": cause,
        "events": [[one.sequence, type(one.event).__name__, one.event] for one in part.events],
        "commands": [_command(command) for command in part.commands],
    }


def _command(command: Command) -> list[Any]:
    if isinstance(command, SendPacket):
        packet = command.packet
        return ["SendPacket", {"session": command.session, "packet": [type(packet).__name__, packet]}]
    return [type(command).__name__, command]


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in _names(type(value).__name__)}


@cache
def _names(name: str) -> tuple[str, ...]:
    """Fields of an input (or the header) that are written."""
    cls: Any = _CLASSES[name]
    return tuple(field.name for field in dataclasses.fields(cls) if field.compare)


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    # The configuration reaches plain dataclasses only from something around them.
    cls: Any = _CLASSES[name]
    return TypeAdapter(tuple[cls], config=_STRICT)


def _validate(name: str, fields: dict[str, Any], what: str) -> Any:
    try:
        return _adapter(name).validate_json(json.dumps([fields]))[0]
    except ValidationError as exc:
        raise FormatError("; ".join(f"{what}: {_fault(dict(error))}" for error in exc.errors())) from None


def _fault(error: dict[str, Any]) -> str:
    name = ".".join(map(str, error["loc"][1:]))
    match error["type"]:
        case "unexpected_keyword_argument":
            return f"this version has no field {name}"
        case "missing":
            return f"field {name} is missing"
        case _:
            return f"field {name}: {error['msg'][:1].lower()}{error['msg'][1:]}"

"""Packets of spn/1 to bytes and back, and an incremental reader for them. Written down in ``PROTOCOL.md``.

Sans-I/O. A connectionUid is 16 bytes on the wire and hex text everywhere else: it is converted here and nowhere else.
Counterparts: :mod:`spnhub.actors.contract.packets` (the classes), ``schemas/protocol/*.avsc`` and
:mod:`spnhub.schemas.codec`.
"""

from __future__ import annotations

import dataclasses
from binascii import unhexlify
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, get_type_hints

from spnhub.actors.contract import packets
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import LARGEST_VARINT, Ack, Longest, OpeningKind, Packet, Within, own_kinds
from spnhub.events.foreign_text import clipped
from spnhub.events.model import EndPointType
from spnhub.schemas import codec

__all__ = [
    "ALPN",
    "REQUIRED_KINDS",
    "PacketReader",
    "ProtocolError",
    "common_kinds",
    "encode",
    "kind_of",
    "missing_kinds",
]

ALPN: Final = "spn/1"


class ProtocolError(Exception):
    """The peer broke the rules of spn/1. ``code`` goes on the wire, the message says which rule."""

    def __init__(self, reason: str, code: Code = Code.PROTOCOL) -> None:
        super().__init__(reason)
        self.code = code


REQUIRED_KINDS: Final[Mapping[int, int]] = dict.fromkeys((*range(1, 15), 32, 33), 1)
"""Version by kind of the packets that every endpoint and hub of spn/1 reads. Frozen (D-37): whatever came later is
optional, and is sent to those only that announce it."""


def missing_kinds(announced: Mapping[int, int]) -> tuple[str, ...]:
    """Names of the required kinds (D-37) that a peer has not announced."""
    return tuple(
        name for name, kind in codec.PACKET_KINDS.items() if kind in REQUIRED_KINDS and announced.get(kind, 0) < 1
    )


def common_kinds(announced: Mapping[int, int]) -> dict[int, int]:
    """Highest version that both sides read, of each kind that may be sent to the peer that announced these."""
    return {kind: min(own, announced[kind]) for kind, own in own_kinds().items() if announced.get(kind, 0) >= 1}


_Convert = Callable[[Any], Any] | None


def _read_acks(entries: list[dict[str, Any]]) -> tuple[Ack, ...]:
    acks = []
    for entry in entries:
        ack = Ack(entry["connectionUid"].hex(), entry["epoch"], entry["receivedOffset"])
        if not 0 <= ack.received_offset <= LARGEST_VARINT:
            raise ProtocolError(f"receivedOffset {ack.received_offset} is not within 0 and {LARGEST_VARINT}")
        acks.append(ack)
    return tuple(acks)


_CONVERSIONS: Final[dict[str, tuple[_Convert, _Convert]]] = {
    "connection_uid": (unhexlify, bytes.hex),
    "end_point_type": (None, EndPointType),
    "kind": (None, OpeningKind),
    "acks": (
        lambda acks: [{"connectionUid": unhexlify(a[0]), "epoch": a[1], "receivedOffset": a[2]} for a in acks],
        _read_acks,
    ),
    "kinds": (
        lambda kinds: [{"kind": kind, "version": version} for kind, version in kinds.items()],
        lambda pairs: {pair["kind"]: pair["version"] for pair in pairs},
    ),
}
"""To the wire and back, by attribute; what isn't here is the same on both sides."""

_CLASSES: Final[dict[str, type[Packet]]] = {name: getattr(packets, name) for name in codec.PACKET_KINDS}


def _clip_of(hint: Any) -> _Convert:
    """What a text is cut with before it is sent: the reason that a program gives may be of any length."""
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Longest) and mark.clip:
            return partial(clipped, limit=mark.characters)
    return None


def _check_of(hint: Any, what: str) -> _Convert:
    """What makes sure that a value is what its field's type says (:class:`Within`, :class:`Longest`)."""
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Within):
            return _number_check(mark, what)
        if isinstance(mark, Longest):
            return _clip_of(hint) or _text_check(mark, what)
    return None


def _number_check(bounds: Within, what: str) -> Callable[[int], int]:
    least, most = bounds

    def check(value: int) -> int:
        if least <= value <= most:
            return value
        raise ProtocolError(f"{what} {value} is not within {least} and {most}")

    return check


def _text_check(bound: Longest, what: str) -> Callable[[str], str]:
    most = bound.characters

    def check(value: str) -> str:
        if len(value) > most:
            raise ProtocolError(f"{what} has {len(value)} characters; the bound is {most}")
        if not value.isprintable():
            raise ProtocolError(f"{what} holds what doesn't show")
        return value

    return check


def _fields_of(cls: type[Packet]) -> Iterator[tuple[str, str, _Convert, _Convert]]:
    hints = get_type_hints(cls, include_extras=True)
    for one in dataclasses.fields(cls):
        wire_name = codec.camel(one.name)
        to_wire, from_wire = _CONVERSIONS.get(one.name, (None, None))
        hint = hints[one.name]
        yield one.name, wire_name, to_wire or _clip_of(hint), from_wire or _check_of(hint, wire_name)


_FIELDS: Final[dict[str, tuple[tuple[str, str, _Convert, _Convert], ...]]] = {
    name: tuple(_fields_of(cls)) for name, cls in _CLASSES.items()
}
"""By class: attribute, name on the wire, and the two conversions of each field; the one from the wire checks it."""


def kind_of(packet: Packet) -> int:
    """The number of its kind."""
    return codec.PACKET_KINDS[type(packet).__name__]


def encode(packet: Packet, kinds: Mapping[int, int] = REQUIRED_KINDS) -> bytes:
    """The packet with its frame (D-15). An older version leaves out the fields that came later.

    :param kinds: version by kind, as both sides read it (:func:`common_kinds`); the packet's kind is among them.
    :raises spnhub.schemas.codec.SchemaError: too long.
    """
    name = type(packet).__name__
    record: dict[str, Any] = {}
    for attribute, wire_name, to_wire, _ in _FIELDS[name]:
        value = getattr(packet, attribute)
        record[wire_name] = value if to_wire is None else to_wire(value)
    return codec.encode_packet(name, record, kinds[codec.PACKET_KINDS[name]])


def _build(name: str, record: dict[str, Any]) -> Packet:
    values: dict[str, Any] = {}
    for attribute, wire_name, _, from_wire in _FIELDS[name]:
        if wire_name in record:  # not in an older version: the field's default says what it meant
            value = record[wire_name]
            values[attribute] = value if from_wire is None else from_wire(value)
    return _CLASSES[name](**values)


class PacketReader:
    """Packets out of the bytes of a stream, however they are cut.

    For a header on a data stream ask :attr:`wanted` for how many bytes may be read, so that none of the
    application's is taken. Holds at most one packet (:data:`spnhub.schemas.codec.PACKET_LIMIT`).
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.taken = 0
        """Packets that have come, those of unknown kinds included."""

    @property
    def wanted(self) -> int:
        """Bytes until the packet at hand is complete, as far as is known now; at least 1."""
        if len(self._buffer) < codec.PACKET_HEADER_SIZE:
            return codec.PACKET_HEADER_SIZE - len(self._buffer)
        _, _, length = codec.packet_header(self._buffer)
        return codec.PACKET_HEADER_SIZE + length - len(self._buffer)

    @property
    def empty(self) -> bool:
        """Whether no part of a packet is waiting for the rest."""
        return not self._buffer

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that ``data`` completes. Unknown kinds are skipped (D-15).

        :raises ProtocolError: a known kind that doesn't fit its schema, with a value that its field can't have, or in
            a version that wasn't announced.
        """
        buffer = self._buffer
        buffer += data
        complete: list[Packet] = []
        place = 0
        try:
            while len(buffer) - place >= codec.PACKET_HEADER_SIZE:
                kind, version, length = codec.packet_header(buffer, place)
                start = place + codec.PACKET_HEADER_SIZE
                if len(buffer) - start < length:
                    break
                place = start + length
                self.taken += 1
                if kind in codec.packet_versions():
                    complete.append(_build(*codec.decode_packet(kind, version, bytes(buffer[start:place]))))
        except codec.SchemaError as exc:
            raise ProtocolError(str(exc)) from exc
        finally:
            del buffer[:place]
        return complete

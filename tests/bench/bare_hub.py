"""A hub that does nothing but pass on: what is left when nobody decides, records, limits or logs.

``python -m tests.bench.bare_hub OPTIONS`` takes a hub's command line and serves the unchanged agents by the product's
engine and sockets. Packets go on as the bytes that came: none is decoded but a session's first and the uid of a
connection, and no actor, event, journal, rate, budget or timer of the hub exists. So no hub in this language, on this
engine and machine, can cost less, and what the product costs beyond it is what can be worked on. Not for use.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

from spnhub.actors.contract.packets import SessionAck, SessionRequest
from spnhub.events.model import EndPointType
from spnhub.schemas.codec import PACKET_HEADER_SIZE, PACKET_KINDS, packet_header
from spnhub.transport import engine as api
from spnhub.transport import protocol
from spnhub.transport.engines import make_engine
from spnhub.transport.system.loop import run
from spnhub.transport.udp import UdpEndpoint

_CONTROL: Final = 0
_UID: Final = slice(PACKET_HEADER_SIZE, PACKET_HEADER_SIZE + 16)
"""Where a packet about one connection names it: first, as 16 bytes."""
_OPENING_UID: Final = slice(PACKET_HEADER_SIZE + 1, PACKET_HEADER_SIZE + 17)
"""In an Opening after its kind."""
_ACK_UID: Final = slice(PACKET_HEADER_SIZE + 1, PACKET_HEADER_SIZE + 17)
"""In a DataAck after how many entries there are; the agents of a bench have one peer, so the first one's says it."""
_DATA_ACK: Final = PACKET_KINDS["DataAck"]
_PASSED_ON: Final = {PACKET_KINDS[name]: _UID for name in ("CloseRequest", "CloseAck")} | {_DATA_ACK: _ACK_UID}
_MOST: Final = 65_536


@dataclass(slots=True)
class _Session:
    number: int
    provides: bool | None = None
    """None: its request hasn't come."""
    control: bytearray = field(default_factory=bytearray)
    headers: dict[int, bytearray] = field(default_factory=dict)
    """Streams whose first packet is still arriving."""


class BareHub:
    """Joins the streams of consumers to the last provider that came."""

    def __init__(self) -> None:
        self.engine = make_engine(api.Limits(), "auto")
        self.endpoint = UdpEndpoint(self.engine, self._on_events)
        self._sessions: dict[int, _Session] = {}
        self._provider: int | None = None
        self._sides: dict[bytes, tuple[int, int]] = {}
        """Sessions of each connection: consumer's, provider's."""
        self._waiting: dict[tuple[int, int], tuple[int, int]] = {}
        """A provider's stream that has yet to accept, and the consumer's that it is for."""

    def _on_events(self, events: list[api.EngineEvent]) -> None:
        for event in events:
            match event:
                case api.Readable(number, stream):
                    self._read(self._sessions[number], stream)
                case api.Opened(number, stream):
                    if stream != _CONTROL:
                        self._sessions[number].headers[stream] = bytearray()
                    self._read(self._sessions[number], stream)
                case api.Connected():
                    self._sessions[event.connection_id] = _Session(event.connection_id)
                case api.Closed():
                    self._sessions.pop(event.connection_id, None)

    def _read(self, session: _Session, stream: int) -> None:
        if stream == _CONTROL:
            while (got := self.engine.read(session.number, stream, _MOST)) is not None and got[0]:
                session.control += got[0]
            self._read_control(session)
        elif (header := session.headers.get(stream)) is not None:
            wanted = PACKET_HEADER_SIZE
            while len(header) < wanted:
                got = self.engine.read(session.number, stream, wanted - len(header))
                if got is None or not got[0]:
                    return
                header += got[0]
                if len(header) == PACKET_HEADER_SIZE:
                    wanted += packet_header(header)[2]
            del session.headers[stream]
            self._pass_on(session, stream, bytes(header))

    def _pass_on(self, session: _Session, stream: int, packet: bytes) -> None:
        """The Opening to the provider, its Accept to the consumer; then the two streams are one."""
        place = session.number, stream
        consumer = self._waiting.pop(place, None)
        if consumer is not None:
            self.engine.write(*consumer, packet)
            self.engine.splice(*consumer, *place)
        elif self._provider is not None and (opened := self.engine.open_bidi(self._provider)) is not None:
            self._sides[packet[_OPENING_UID]] = session.number, self._provider
            self._waiting[self._provider, opened] = place
            self._sessions[self._provider].headers[opened] = bytearray()
            self.engine.write(self._provider, opened, packet)

    def _read_control(self, session: _Session) -> None:
        control = session.control
        while len(control) >= PACKET_HEADER_SIZE:
            kind, _, length = packet_header(control)
            end = PACKET_HEADER_SIZE + length
            if len(control) < end:
                return
            packet = bytes(control[:end])
            del control[:end]
            if session.provides is None:
                self._accept(session, packet)
            elif (uid := _PASSED_ON.get(kind)) is not None and (sides := self._sides.get(packet[uid])) is not None:
                consumer, provider = sides
                if kind == PACKET_KINDS["CloseAck"]:
                    del self._sides[packet[uid]]
                self.engine.write(consumer if session.provides else provider, _CONTROL, packet)

    def _accept(self, session: _Session, packet: bytes) -> None:
        (request,) = protocol.PacketReader().feed(packet)
        assert isinstance(request, SessionRequest)
        session.provides = request.end_point_type is EndPointType.PROVIDER
        if session.provides:
            self._provider = session.number
        answer = SessionAck(f"{session.number:016x}", "bare")
        self.engine.write(session.number, _CONTROL, protocol.encode(answer))


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inventory", required=True)
    parser.add_argument("--bind", required=True)
    arguments, _ = parser.parse_known_args()
    inventory = yaml.safe_load(Path(urlsplit(arguments.inventory).path).read_text(encoding="utf-8"))
    hub = BareHub()
    for realm in inventory["realms"]:
        for network in realm["hubs"]:
            await hub.endpoint.open_server_socket((arguments.bind, network["serverPort"]))
            chain, key = network["serverCert"].encode(), network["serverCertKey"].encode()
            identity = api.ServerIdentity(chain, key, realm["cacert"].encode(), (protocol.ALPN,))
            hub.engine.set_policy(api.ServerPolicy({network["fqdn"]: identity}))
    hub.endpoint.start()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    print(json.dumps({"event": "hub.ready"}), flush=True)
    await stopped.wait()
    await hub.endpoint.close()


if __name__ == "__main__":
    run(_main())

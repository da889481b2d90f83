"""A fault of ours in a turn ends the connection or session that it is about, in the log with INTERNAL; no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spnhub.actors.contract import commands
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import Accept, Ack, DataAck, Opening, OpeningKind, Packet
from spnhub.events.model import ConnectionEnded, SessionEnded
from spnhub.transport import engine as api
from spnhub.transport import protocol
from tests.transport.hub.bench import SECRET, UID, Bench, Leg

OTHER = bytes(range(16, 32)).hex()
FAULT = "a fault in the hub"


class Injected(Exception):
    """A fault of ours."""


class Faulty:
    """A hub that fails at one kind of event or command, once; and a connection that must not notice."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = Bench(on_fault=lambda where, fault: self.raised.append((where, type(fault))))
        self.raised: list[tuple[str, type[BaseException]]] = []
        self.provider = self.bench.provider()
        self.consumer = self.bench.consumer("other", "bystander")
        self.bystander = self.bench.leg(self.consumer, self.provider, OTHER)
        self._monkeypatch = monkeypatch

    def arm(self, kind: type[Any]) -> None:
        """The next of these raises."""
        server, armed = self.bench.server, [kind]

        def wrap(handle: Callable[[Any], None]) -> Callable[[Any], None]:
            def fail(cause: Any) -> None:
                if type(cause) in armed:
                    armed.clear()
                    raise Injected
                handle(cause)

            return fail

        for name in ("handle", "carry_out"):
            self._monkeypatch.setattr(server, name, wrap(getattr(server, name)))

    def untouched(self) -> None:
        """Bytes pass on the other connection."""
        leg = self.bystander
        leg.consumer.write(leg.cs, b"alive")
        self.bench.settle()
        assert leg.provider.streams[leg.ps].data.endswith(b"alive")


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    return Faulty(monkeypatch)


def test_an_event_of_a_stream_before_its_header_is_read(faulty: Faulty) -> None:
    """The stream is reset; nothing else was there."""
    bench, consumer = faulty.bench, faulty.bench.consumer()
    faulty.arm(api.Opened)
    stream_id = consumer.open(Opening(OpeningKind.OPEN, UID, SECRET))
    bench.settle()
    ended = bench.events(SessionEnded)
    # It isn't known yet that this stream is a connection's: its session ends, and another can come.
    assert [(one.end_point_type.value, one.code, one.reason) for one in ended] == [
        ("serviceConsumer", Code.INTERNAL, FAULT)
    ]
    assert stream_id >= 0
    assert faulty.raised == [("turn", Injected)]
    faulty.untouched()


def test_an_event_of_a_connection_that_waits_for_its_provider(faulty: Faulty) -> None:
    """It ends with INTERNAL; its session stays, and so does the provider's."""
    bench, consumer = faulty.bench, faulty.bench.consumer()
    known = set(faulty.provider.streams)
    stream_id = consumer.open(Opening(OpeningKind.OPEN, UID, SECRET))
    bench.settle()
    (ps,) = set(faulty.provider.streams) - known
    faulty.arm(api.Readable)
    faulty.provider.write(ps, protocol.encode(Accept(OpeningKind.OPEN)))
    bench.settle()
    (ended,) = bench.events(ConnectionEnded)
    assert (ended.code, ended.reason) == (Code.INTERNAL, FAULT)
    assert not bench.events(SessionEnded)
    assert stream_id >= 0
    assert faulty.raised == [("turn", Injected)]
    bench.leg(consumer, faulty.provider)
    faulty.untouched()


def _joined(faulty: Faulty) -> Leg:
    return faulty.bench.leg(faulty.bench.consumer(), faulty.provider)


def test_the_end_of_a_connection_that_can_not_be_told(faulty: Faulty) -> None:
    """The session that asked for it ends, and with it what the actors hold of the connection."""
    leg = _joined(faulty)
    faulty.arm(api.Spliced)
    leg.consumer.abort(leg.cs, Code.PEER_RESET)
    faulty.bench.settle(3.0)
    assert [one.code for one in faulty.bench.events(SessionEnded)] == [Code.INTERNAL]
    assert len(faulty.bench.events(ConnectionEnded)) == 1
    assert faulty.raised == [("turn", Injected)]
    faulty.untouched()


@pytest.mark.parametrize("kind", [commands.OpenProviderStream, commands.JoinStreams])
def test_a_command_of_a_connection(faulty: Faulty, kind: type[Any]) -> None:
    """The consumer's session ends; the provider's, which serves others, doesn't."""
    bench, consumer = faulty.bench, faulty.bench.consumer()
    faulty.arm(kind)
    known = set(faulty.provider.streams)
    consumer.open(Opening(OpeningKind.OPEN, UID, SECRET))
    bench.settle()
    for ps in set(faulty.provider.streams) - known:
        faulty.provider.write(ps, protocol.encode(Accept(OpeningKind.OPEN)))
    bench.settle(3.0)
    assert [(one.end_point_type.value, one.code) for one in bench.events(SessionEnded)] == [
        ("serviceConsumer", Code.INTERNAL)
    ]
    assert faulty.raised == [("turn", Injected)]
    faulty.untouched()


def test_the_end_of_a_session_that_can_not_be_told(faulty: Faulty) -> None:
    """The log has its end all the same, and its place is free."""
    bench, consumer = faulty.bench, faulty.bench.consumer()
    faulty.arm(api.Closed)
    consumer.close()
    bench.settle(1.0)
    (ended,) = bench.events(SessionEnded)
    assert (ended.code, ended.reason) == (Code.INTERNAL, FAULT)
    bench.consumer()
    faulty.untouched()


def test_actors_that_raise(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the turn had to say is committed all the same, and the next turn works."""
    bench = faulty.bench

    def fail(*_: object) -> None:
        raise Injected

    with monkeypatch.context() as patch:
        patch.setattr(bench.system, "run", fail)
        bench.node.flush()
        bench.settle()
    assert set(faulty.raised) == {("turn", Injected)}
    bench.consumer()
    faulty.untouched()


def test_acknowledgements_of_one_session_that_raise(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """That session ends; the others' acknowledgements of the same turn are sent."""
    bench, leg = faulty.bench, _joined(faulty)
    send, broken = bench.server.sessions.send, leg.consumer

    def fail(connection_id: int, packet: Packet) -> None:
        session = bench.server.sessions.get(connection_id)
        if isinstance(packet, DataAck) and session is not None and session.instance_id == broken.instance_id:
            raise Injected
        send(connection_id, packet)

    monkeypatch.setattr(bench.server.sessions, "send", fail)
    faulty.provider.send(DataAck((Ack(UID, 0, 5), Ack(OTHER, 0, 7))))
    bench.settle()
    assert faulty.bystander.consumer.take(DataAck) == DataAck((Ack(OTHER, 0, 7),))
    assert leg.consumer.closed is not None
    assert leg.consumer.closed.code == Code.INTERNAL
    assert faulty.raised == [("turn", Injected)]
    faulty.untouched()


def test_a_check_of_one_session_that_raises(faulty: Faulty) -> None:
    """The checks that are due at the same moment are done, and the session that it is about ends."""
    bench, session = faulty.bench, next(iter(faulty.bench.server.sessions))
    done: list[int] = []

    def fail() -> None:
        raise Injected

    bench.server.sessions.after_request_timeout(session, fail)
    bench.server.sessions.after_request_timeout(session, lambda: done.append(1))
    bench.node.flush()
    bench.settle(11.0)
    assert (faulty.raised, done) == ([("turn", Injected)], [1])
    assert [one.code for one in bench.events(SessionEnded)] == [Code.INTERNAL]

"""Journals as large as wanted, quickly and in bounded memory, through the journal that hubs write with.

``python -m tests.support.large_journal FOLDER [EVENTS]`` makes one and says how long it took.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.segments import SEGMENT_SIZE
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionRefused,
    ConnectionStarted,
    DisconnectReason,
    EndPointType,
    Event,
    HubStarted,
    InventoryLoaded,
    NetworkAdded,
    RealmAdded,
    SessionEnded,
    SessionStarted,
    TerminateReason,
)
from tests.console.worlds import a, defined, service

__all__ = ["Size", "write_large_journal"]

_TURN = 256
"""Events of one commit."""


@dataclass(frozen=True)
class Size:
    """How much is in it."""

    events: int
    """At least so many, snapshots included."""
    services: int = 1_000
    sessions: int = 10_000
    """Open at any time: a provider for each service, and consumers."""
    open: int = 2_000
    """Connections at any time."""
    apart: int = 1_000
    """Microseconds between two events."""


def write_large_journal(folder: Path, size: Size, *, start: int, segment_size: int = SEGMENT_SIZE) -> int:
    """Make a journal; how many events are in it, snapshots included.

    :param start: time of the first event, microseconds since 1970.
    """
    options = JournalOptions(sync_interval=None)
    with Journal.open(folder, "hub-1", options=options, segment_size=segment_size) as journal:
        for place, event in enumerate(_events(size)):
            journal.append(event, start + place * size.apart)
            if place % _TURN == 0:
                assert journal.flush(60)
                if journal.appended >= size.events:
                    break
        assert journal.flush(60)
        return journal.appended


def _events(size: Size) -> Iterator[Event]:
    """Without end: connections come and go, a session in a hundred events, a refusal in a thousand."""
    chance = random.Random(1)
    realms = [f"realm-{number}" for number in range(min(10, size.services))]
    names = [f"service-{number}" for number in range(size.services)]
    yield a(HubStarted)
    yield a(InventoryLoaded)
    for realm in realms:
        yield a(RealmAdded, realm=realm, network_urn=None)
        yield a(NetworkAdded, realm=realm, network_urn=f"urn:net:{realm}:main")
    for number, name in enumerate(names):
        yield defined(realms[number % len(realms)], name)[-1]
    serial = itertools.count()
    providers = [
        _session(next(serial), number, realms, names, EndPointType.PROVIDER) for number in range(size.services)
    ]
    yield from providers
    consumers: list[SessionStarted] = []
    for number in range(size.sessions - size.services):
        consumers.append(_session(next(serial), number % size.services, realms, names, EndPointType.CONSUMER))
        yield consumers[-1]
    open_legs: deque[ConnectionStarted] = deque()
    had: Counter[str] = Counter()
    busy: Counter[str] = Counter()
    for number in itertools.count():
        place = chance.randrange(len(consumers))
        consumer = consumers[place]
        if number % 100 == 99 and not busy[consumer.spn_session_id]:
            yield SessionEnded(
                realm=consumer.realm,
                network_urn=consumer.network_urn,
                spn_session_id=consumer.spn_session_id,
                spn_end_point=consumer.spn_end_point,
                end_point_type=consumer.end_point_type,
                service_urn=consumer.service_urn,
                total_connection_count=had.pop(consumer.spn_session_id, 0),
                elapsed_time=60.0,
                terminate_reason=TerminateReason.TERMINATED_BY_PEER,
                code=0,
            )
            del busy[consumer.spn_session_id]
            of = int(consumer.service_urn.rpartition("-")[2])
            consumers[place] = _session(next(serial), of, realms, names, EndPointType.CONSUMER)
            yield consumers[place]
            continue
        uid = f"{chance.getrandbits(128):032x}"
        if number % 1_000 == 500:
            yield ConnectionRefused(
                realm=consumer.realm,
                network_urn=consumer.network_urn,
                service_urn=consumer.service_urn,
                consumer_side_spn_session_id=consumer.spn_session_id,
                connection_uid=uid,
                code=4,
                reason="no provider",
            )
            continue
        provider = providers[int(consumer.service_urn.rpartition("-")[2])]
        leg = ConnectionStarted(
            realm=consumer.realm,
            network_urn=consumer.network_urn,
            service_urn=consumer.service_urn,
            consumer_side_spn_session_id=consumer.spn_session_id,
            provider_side_spn_session_id=provider.spn_session_id,
            spn_connection_id=f"{4 * number}-{4 * number + 1}",
            connection_uid=uid,
        )
        yield leg
        had[consumer.spn_session_id] += 1
        busy[consumer.spn_session_id] += 1
        open_legs.append(leg)
        if len(open_legs) <= size.open:
            continue
        leg = open_legs.popleft()
        busy[leg.consumer_side_spn_session_id] -= 1
        yield ConnectionEnded(
            realm=leg.realm,
            network_urn=leg.network_urn,
            service_urn=leg.service_urn,
            consumer_side_spn_session_id=leg.consumer_side_spn_session_id,
            provider_side_spn_session_id=leg.provider_side_spn_session_id,
            spn_connection_id=leg.spn_connection_id,
            connection_uid=leg.connection_uid,
            total_sent_bytes=1_000,
            total_receive_bytes=20_000,
            delta_sent_bytes=1_000,
            delta_receive_bytes=20_000,
            elapsed_time=4.0,
            disconnect_reason=DisconnectReason.CLOSED_BY_PEER,
        )


def _session(serial: int, number: int, realms: list[str], names: list[str], role: EndPointType) -> SessionStarted:
    realm = realms[number % len(realms)]
    return SessionStarted(
        realm=realm,
        network_urn=f"urn:net:{realm}:main",
        spn_session_id=f"{serial:08x}",
        spn_end_point=f"CN={role.value} {serial},O={realm}",
        end_point_type=role,
        service_urn=service(realm, names[number]),
        instance_id=f"instance-{serial}",
        protocol="spn/1",
        remote_address=f"192.0.2.{serial % 250}:{1024 + serial % 60_000}",
    )


def _main(arguments: list[str]) -> None:
    folder, size = Path(arguments[0]), Size(int(arguments[1]) if arguments[1:] else 10_000_000)
    begun = time.monotonic()
    written = write_large_journal(folder, size, start=time.time_ns() // 1000 - size.events * size.apart)
    held = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{written:,} events, {held / (1 << 20):,.0f} MiB, {time.monotonic() - begun:.1f} s")


if __name__ == "__main__":
    _main(sys.argv[1:])

"""Random histories of several hubs: sessions come and go, connections move from hub to hub, hubs die and come back."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from zlib import crc32

from spnhub.events.model import (
    ConnectionEnded,
    ConnectionFinished,
    ConnectionLost,
    ConnectionPaused,
    ConnectionProgress,
    ConnectionRefused,
    ConnectionResumed,
    ConnectionStarted,
    DisconnectReason,
    EndPointType,
    Event,
    HubStarted,
    InventoryLoaded,
    LegEvent,
    Recorded,
    ResumeRefused,
    ServiceStarted,
    ServiceStartFailed,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    TerminateReason,
    shared,
)
from tests.events.samples import NOON

__all__ = ["Conversation", "History", "in_partitions"]

REALM = "acme"


@dataclass(slots=True)
class Conversation:
    """What really arrived, which no hub knows."""

    uid: str
    service: str
    epoch: int = 0
    sent: int = 0
    receive: int = 0
    leg: ConnectionStarted | None = None
    hub: str = ""
    told: tuple[int, int] = (0, 0)
    """Of the leg, by its last progress."""
    finished: bool = False
    """Its endpoints had ended it in order when no hub was there."""


@dataclass(slots=True)
class _Hub:
    hub_id: str
    journal_id: uuid.UUID
    sequence: int = 0
    streams: int = 0
    sessions: dict[str, tuple[SessionStarted, int]] = field(default_factory=dict)


class History:
    """Makes events, one step after the other; ``events`` has them in order of time.

    :param hubs: how many hubs.
    """

    def __init__(self, chance: random.Random, *, hubs: int = 2, services: int = 2) -> None:
        self.events: list[Recorded] = []
        self.conversations: list[Conversation] = []
        self._chance = chance
        self._now = NOON
        self._services = [f"urn:spn:service:{number}" for number in range(services)]
        self._hubs = [_Hub(f"hub-{number}", uuid.UUID(int=number + 1, version=4)) for number in range(hubs)]
        self._suspended: list[Conversation] = []

    def run(self, steps: int) -> History:
        """Go on for some steps."""
        for _ in range(steps):
            self._now += self._chance.choice((1_000, 40_000, 2_000_000, 600_000_000))
            self._chance.choice(
                (
                    self._start_session,
                    self._start_session,
                    self._end_session,
                    self._open,
                    self._open,
                    self._open,
                    self._progress,
                    self._progress,
                    self._end,
                    self._end,
                    self._suspend,
                    self._suspend,
                    self._resume,
                    self._resume,
                    self._die,
                    self._other,
                )
            )()
        return self

    def _record(self, hub: _Hub, event: Event, moment: int | None = None) -> None:
        hub.sequence += 1
        timestamp = self._now if moment is None else moment
        self.events.append(Recorded(hub.hub_id, hub.journal_id, hub.sequence, timestamp, event))

    def _start_session(self) -> None:
        hub = self._chance.choice(self._hubs)
        name = f"{self._chance.getrandbits(64):016x}"
        event = SessionStarted(
            realm=REALM,
            network_urn=None,
            spn_session_id=name,
            spn_end_point=f"CN={name[:4]}",
            end_point_type=self._chance.choice(list(EndPointType)),
            service_urn=self._chance.choice(self._services),
        )
        hub.sessions[name] = (event, self._now)
        self._record(hub, event)

    def _end_session(self) -> None:
        hub = self._chance.choice(self._hubs)
        if not hub.sessions:
            return
        name = self._chance.choice(sorted(hub.sessions))
        for conversation in self._open_legs(hub, name):
            self._end_leg(hub, conversation, suspended=self._chance.random() < 0.5, planned=False)
        started, since = hub.sessions.pop(name)
        self._record(
            hub,
            SessionEnded(
                realm=REALM,
                network_urn=None,
                spn_session_id=name,
                spn_end_point=started.spn_end_point,
                end_point_type=started.end_point_type,
                service_urn=started.service_urn,
                total_connection_count=0,
                elapsed_time=(self._now - since) / 1e6,
                terminate_reason=self._chance.choice(list(TerminateReason)),
            ),
        )

    def _open_legs(self, hub: _Hub, session: str | None = None) -> list[Conversation]:
        return [
            one
            for one in self.conversations
            if one.leg is not None
            and one.hub == hub.hub_id
            and session in {None, one.leg.consumer_side_spn_session_id, one.leg.provider_side_spn_session_id}
        ]

    def _sides(self, hub: _Hub, service: str) -> tuple[str, str] | None:
        found = []
        for role in (EndPointType.CONSUMER, EndPointType.PROVIDER):
            fit = [
                name
                for name, (one, _) in sorted(hub.sessions.items())
                if (one.end_point_type, one.service_urn) == (role, service)
            ]
            if not fit:
                return None
            found.append(self._chance.choice(fit))
        return found[0], found[1]

    def _open(self) -> None:
        service = self._chance.choice(self._services)
        conversation = Conversation(f"{self._chance.getrandbits(128):032x}", service)
        if self._start_leg(conversation):
            self.conversations.append(conversation)

    def _start_leg(self, conversation: Conversation) -> bool:
        hub = self._chance.choice(self._hubs)
        sides = self._sides(hub, conversation.service)
        if sides is None:
            return False
        hub.streams += 4
        conversation.hub = hub.hub_id
        conversation.told = (0, 0)
        conversation.leg = ConnectionStarted(
            realm=REALM,
            network_urn=None,
            spn_connection_id=f"{hub.streams}-{hub.streams + 1}",
            consumer_side_spn_session_id=sides[0],
            provider_side_spn_session_id=sides[1],
            service_urn=conversation.service,
            connection_uid=conversation.uid,
            epoch=conversation.epoch,
            start_sent_offset=conversation.sent,
            start_receive_offset=conversation.receive,
        )
        self._record(hub, conversation.leg)
        return True

    def _end(self) -> None:
        hub = self._chance.choice(self._hubs)
        legs = self._open_legs(hub)
        if legs:
            self._end_leg(hub, self._chance.choice(legs), suspended=False, planned=False)

    def _progress(self) -> None:
        hub = self._chance.choice(self._hubs)
        legs = self._open_legs(hub)
        if not legs:
            return
        conversation = self._chance.choice(legs)
        delta, leg = self._carry(conversation), conversation.leg
        assert leg is not None
        conversation.told = (conversation.told[0] + delta[0], conversation.told[1] + delta[1])
        self._record(
            hub,
            ConnectionProgress(
                **shared(LegEvent, leg),
                start_sent_offset=leg.start_sent_offset,
                start_receive_offset=leg.start_receive_offset,
                total_sent_bytes=conversation.told[0],
                total_receive_bytes=conversation.told[1],
                delta_sent_bytes=delta[0],
                delta_receive_bytes=delta[1],
                elapsed_time=self._chance.random() * 10,
            ),
        )

    def _suspend(self) -> None:
        hub = self._chance.choice(self._hubs)
        legs = self._open_legs(hub)
        if legs:
            self._end_leg(hub, self._chance.choice(legs), suspended=True, planned=self._chance.random() < 0.5)

    def _end_leg(self, hub: _Hub, conversation: Conversation, *, suspended: bool, planned: bool) -> None:
        leg = conversation.leg
        assert leg is not None
        told = self._carry(conversation)
        if suspended and not planned:
            # Passed on, and not all of it arrived; it will be replayed.
            conversation.sent -= self._chance.randrange(conversation.sent - leg.start_sent_offset + 1)
            conversation.receive -= self._chance.randrange(conversation.receive - leg.start_receive_offset + 1)
        if suspended:
            self._record(
                hub,
                ConnectionPaused(
                    **shared(LegEvent, leg),
                    planned=planned,
                ),
            )
        self._tell_end(hub, conversation, told, suspended=suspended, planned=planned)

    def _carry(self, conversation: Conversation) -> tuple[int, int]:
        """Bytes of a leg, as a hub passes them on."""
        told = (self._chance.randrange(100_000), self._chance.randrange(100_000))
        conversation.sent += told[0]
        conversation.receive += told[1]
        return told

    def _tell_end(
        self,
        hub: _Hub,
        conversation: Conversation,
        delta: tuple[int, int],
        *,
        suspended: bool,
        planned: bool,
        recovered: bool = False,
        moment: int | None = None,
    ) -> None:
        leg = conversation.leg
        assert leg is not None
        reason = DisconnectReason.CLOSED if planned else self._chance.choice(list(DisconnectReason))
        self._record(
            hub,
            ConnectionEnded(
                **shared(LegEvent, leg),
                start_sent_offset=leg.start_sent_offset,
                start_receive_offset=leg.start_receive_offset,
                total_sent_bytes=conversation.told[0] + delta[0],
                total_receive_bytes=conversation.told[1] + delta[1],
                delta_sent_bytes=delta[0],
                delta_receive_bytes=delta[1],
                elapsed_time=self._chance.random() * 10,
                disconnect_reason=reason,
                suspended=suspended,
                recovered=recovered,
            ),
            moment,
        )
        conversation.leg = None
        if suspended:
            self._suspended.append(conversation)

    def _resume(self) -> None:
        if not self._suspended:
            return
        conversation = self._chance.choice(self._suspended)
        if (choice := self._chance.random()) < 0.3:
            (self._finish if choice < 0.1 else self._give_up)(conversation)
            return
        conversation.epoch += self._chance.choice((1, 1, 2))
        if self._start_leg(conversation):
            self._suspended.remove(conversation)
            leg = conversation.leg
            assert leg is not None
            hub = next(one for one in self._hubs if one.hub_id == conversation.hub)
            self._record(
                hub,
                ConnectionResumed(
                    **shared(LegEvent, leg),
                    sent_offset=leg.start_sent_offset,
                    receive_offset=leg.start_receive_offset,
                ),
            )

    def _finish(self, conversation: Conversation) -> None:
        """The endpoints have a session at a hub, and ask there twice: they haven't heard the first answer."""
        hub = self._chance.choice(self._hubs)
        if (sides := self._sides(hub, conversation.service)) is None:
            return
        self._suspended.remove(conversation)
        conversation.finished = True
        for _ in range(self._chance.choice((1, 1, 2))):
            conversation.epoch += self._chance.choice((1, 1, 2))
            event = ConnectionFinished(
                realm=REALM,
                network_urn=None,
                consumer_side_spn_session_id=sides[0],
                provider_side_spn_session_id=sides[1],
                service_urn=conversation.service,
                connection_uid=conversation.uid,
                epoch=conversation.epoch,
                sent_offset=conversation.sent,
                receive_offset=conversation.receive,
            )
            self._record(hub, event)

    def _give_up(self, conversation: Conversation) -> None:
        self._suspended.remove(conversation)
        self._record(
            self._chance.choice(self._hubs),
            ConnectionLost(
                realm=REALM,
                network_urn=None,
                spn_session_id="x",
                service_urn=conversation.service,
                connection_uid=conversation.uid,
                epoch=conversation.epoch,
                code=44,
            ),
        )

    def _die(self) -> None:
        """A hub is killed and starts again: the bytes of its open legs were told by nobody."""
        if self._chance.random() < 0.7:
            return
        hub = self._chance.choice(self._hubs)
        moment = self._now
        for conversation in self._open_legs(hub):
            self._carry(conversation)
            self._tell_end(hub, conversation, (0, 0), suspended=True, planned=False, recovered=True, moment=moment)
        for name, (started, since) in sorted(hub.sessions.items()):
            self._record(
                hub,
                SessionEnded(
                    realm=REALM,
                    network_urn=None,
                    spn_session_id=name,
                    spn_end_point=started.spn_end_point,
                    end_point_type=started.end_point_type,
                    service_urn=started.service_urn,
                    total_connection_count=0,
                    elapsed_time=(self._now - since) / 1e6,
                    terminate_reason=TerminateReason.ERROR,
                    recovered=True,
                ),
            )
        hub.sessions.clear()
        self._record(hub, InventoryLoaded(realm=None, network_urn=None, initial=True))
        self._record(hub, HubStarted(realm=None, network_urn=None, version="1", addresses=(), orderly=False))

    def _other(self) -> None:
        hub, service = self._chance.choice(self._hubs), self._chance.choice(self._services)
        uid = f"{self._chance.getrandbits(128):032x}"
        self._record(
            hub,
            self._chance.choice(
                (
                    SessionRefused(realm=None, network_urn=None, alert=42, count=self._chance.randrange(1, 9)),
                    SessionRefused(realm=REALM, network_urn=None, service_urn=service, code=16),
                    SessionRefused(realm=REALM, network_urn=None, service_urn=f"{service}{uid}", code=17),
                    InventoryLoaded(realm=None, network_urn=None, initial=False),
                    ConnectionRefused(
                        realm=REALM,
                        network_urn=None,
                        consumer_side_spn_session_id="x",
                        service_urn=service,
                        connection_uid=uid,
                        code=18,
                    ),
                    ResumeRefused(
                        realm=REALM,
                        network_urn=None,
                        spn_session_id="x",
                        spn_end_point="CN=x",
                        end_point_type=EndPointType.CONSUMER,
                        service_urn=service,
                        connection_uid=uid,
                        code=42,
                    ),
                    ServiceStarted(
                        realm=REALM, network_urn=None, service_urn=service, latency=self._chance.random() * 20
                    ),
                    ServiceStartFailed(realm=REALM, network_urn=None, service_urn=service, reason="x"),
                )
            ),
        )


def in_partitions(events: Iterable[Recorded], count: int) -> list[list[Recorded]]:
    """As the shipper distributes them: by service, realm or hub (D-12); a hub's start goes to all."""
    parts: list[list[Recorded]] = [[] for _ in range(count)]
    for recorded in events:
        event = recorded.event
        key = getattr(event, "service_urn", None) or event.realm or recorded.hub_id
        for part in parts if isinstance(event, HubStarted) else [parts[crc32(key.encode()) % count]]:
            part.append(recorded)
    return parts

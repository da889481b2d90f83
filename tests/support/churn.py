"""Many endpoints whose short connections come and go all the time, as a program whose one argument is :class:`Churn`.

It says ``churn.ready`` when each endpoint has its session, then makes connections until it has seen so many end in
order, says ``churn.done`` then, and leaves at SIGINT. What its endpoints were told is in its ledger by then
(:class:`Ledger`). Counterpart: :mod:`tests.support.churn_books` holds that against the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import random
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spnhub import (
    ConnectionRequest,
    ConsumerEndpoint,
    EndpointClosed,
    ProviderEndpoint,
    SpnError,
    create_consumer_endpoint,
    create_provider_endpoint,
)
from spnhub.transport.endpoint.api.config import Runtime
from spnhub.transport.endpoint.api.consumer import ConnectionChange, SessionChange
from spnhub.transport.endpoint.session.states import SessionState

__all__ = ["Churn", "Ledger"]

_PLAN = struct.Struct("!BHHB")
"""How many rounds, the sizes of the two messages of each, and who ends first: 0 the consumer, 1 the provider."""
_ABORTED = 0.03
"""Share of the connections that the consumer aborts in the end."""
_LONG = 0.05
"""Share of those that take their time, so that a kill always finds some open."""
_AT_A_TIME = 16
"""Endpoints that come together in the beginning."""
_PICKS = 8
"""Consumers that are looked at for one that has a session."""
_TELL = 0.2
"""Seconds between two lines that say how far it is."""
_RETURN = 30.0
"""Seconds that endpoints may take until they have a session again, before they leave."""
_PATIENCE = 300.0
"""Seconds that a connection may stand still before that is a failure."""


@dataclass(frozen=True, slots=True)
class Churn:
    """What the program is told. PEM as text."""

    host: str
    url: str
    services: tuple[str, ...]
    """URNs; endpoints are spread over them."""
    provider: tuple[str, str]
    """Certificate and key."""
    consumer: tuple[str, str]
    trust: str
    providers: int
    consumers: int
    connections: int
    """That must end in order."""
    at_once: int
    ledger: str
    """The file to write in the end."""
    seed: int

    def arguments(self) -> list[str]:
        """The command line behind the interpreter."""
        return [__file__, json.dumps(asdict(self))]


@dataclass(slots=True)
class Ledger:
    """What endpoints were told, and what they have moved. A leg is (connectionUid, epoch)."""

    sessions: list[str] = field(default_factory=list)
    """spnSessionId of each session that was acknowledged."""
    legs: list[tuple[str, int]] = field(default_factory=list)
    """As the consumers know them: established, or resumed."""
    served: list[tuple[str, int]] = field(default_factory=list)
    """As the providers know them: asked for, or resumed."""
    closed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Ended in order as the consumer sees it: bytes to the provider, bytes from it."""
    answered: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Ended in order as the provider sees it, likewise."""
    aborted: list[str] = field(default_factory=list)
    """By the consumer, on purpose."""
    lost: dict[str, str] = field(default_factory=dict)
    """Established ones that have failed at the consumer, and why."""
    refused: dict[str, int] = field(default_factory=dict)
    """Those that were never established, by reason."""

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Of a program that has ended."""
        ledger = cls(**json.loads(path.read_text()))
        ledger.legs = [(uid, epoch) for uid, epoch in ledger.legs]
        ledger.served = [(uid, epoch) for uid, epoch in ledger.served]
        ledger.closed = {uid: (sent, received) for uid, (sent, received) in ledger.closed.items()}
        ledger.answered = {uid: (sent, received) for uid, (sent, received) in ledger.answered.items()}
        return ledger


class _Program:
    def __init__(self, churn: Churn) -> None:
        self.churn = churn
        self.ledger = Ledger()
        self.refused: Counter[str] = Counter()
        self.random = random.Random(churn.seed)
        self.consumers: list[ConsumerEndpoint] = []
        self.providers: list[ProviderEndpoint] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.leaving = asyncio.Event()
        """No new connections are made."""
        self._session_changed = asyncio.Event()

    # ---- endpoints ---------------------------------------------------------------------------------------------

    async def come(self) -> None:
        """All endpoints, each with its first session."""
        churn = self.churn
        services = list(itertools.islice(itertools.cycle(churn.services), churn.providers + churn.consumers))

        async def resolve(_: str, port: int) -> list[tuple[str, int]]:
            return [(churn.host, port)]

        def options(legs: list[tuple[str, int]]) -> dict[str, Any]:
            return {
                "wait_for_hub": True,
                "on_session": self._on_session,
                "on_connection": lambda change: _on_connection(legs, change),
                "runtime": Runtime(resolve=resolve),
            }

        provides, uses = options(self.ledger.served), options(self.ledger.legs)
        for some in _batches(services[: churn.providers]):
            coming = (
                create_provider_endpoint(churn.url, one, *churn.provider, churn.trust, **provides) for one in some
            )
            self.providers += await asyncio.gather(*coming)
        for provider in self.providers:
            self._keep(self._listen(provider))
        for some in _batches(services[churn.providers :]):
            comes = (create_consumer_endpoint(churn.url, one, *churn.consumer, churn.trust, **uses) for one in some)
            self.consumers += await asyncio.gather(*comes)

    async def leave(self) -> None:
        """End all sessions in order.

        Those that are on their way back to the hub are waited for: the log would have a session that its endpoint had
        asked for, and was gone when the answer came, so nobody was told of it.
        """
        with contextlib.suppress(TimeoutError):  # there may be no hub any more
            async with asyncio.timeout(_RETURN):
                while any(one.state is not SessionState.ESTABLISHED for one in (*self.consumers, *self.providers)):
                    self._session_changed.clear()
                    await self._session_changed.wait()
        await asyncio.gather(*(endpoint.aclose() for endpoint in self.consumers))
        await asyncio.gather(*(endpoint.aclose() for endpoint in self.providers))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_PATIENCE)

    def _on_session(self, change: SessionChange) -> None:
        self._session_changed.set()
        if change.new is SessionState.ESTABLISHED:
            self.ledger.sessions.append(change.spn_session_id)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            print(json.dumps({"event": "churn.failed", "level": "error", "reason": repr(fault)}), flush=True)

    # ---- providers ---------------------------------------------------------------------------------------------

    async def _listen(self, provider: ProviderEndpoint) -> None:
        while True:
            try:
                request = await provider.listen()
            except EndpointClosed:
                return
            self.ledger.served.append((request.connection_uid, 0))
            self._keep(self._answer(request))

    async def _answer(self, request: ConnectionRequest) -> None:
        try:
            reader, writer = await request.accept()
        except SpnError:
            return
        received = sent = 0
        try:
            async with asyncio.timeout(_PATIENCE):
                rounds, there, back, first = _PLAN.unpack(await reader.readexactly(_PLAN.size))
                received += _PLAN.size
                for _ in range(rounds):
                    received += len(await reader.readexactly(there))
                    writer.write(bytes(back))
                    sent += back
                if first:
                    writer.write_eof()
                assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()
        except (SpnError, OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        else:
            self.ledger.answered[request.connection_uid] = (received, sent)

    # ---- consumers ---------------------------------------------------------------------------------------------

    async def churn_on(self) -> None:
        """Make connections until enough have ended in order."""
        await asyncio.gather(*(self._work() for _ in range(self.churn.at_once)))

    async def _work(self) -> None:
        while len(self.ledger.closed) < self.churn.connections and not self.leaving.is_set():
            try:
                reader, writer = await self._consumer().connect()
            except SpnError as error:
                self.refused[f"{type(error).__name__}: {error}"] += 1
                await asyncio.sleep(0.1)
                continue
            uid = writer.get_extra_info("connection_uid")
            self.ledger.legs.append((uid, 0))
            try:
                async with asyncio.timeout(_PATIENCE):
                    counts = await self._talk(reader, writer)
            except (SpnError, OSError, asyncio.IncompleteReadError) as error:
                self.ledger.lost[uid] = f"{type(error).__name__}: {error}"
                writer.transport.abort()
                continue
            if counts is None:
                self.ledger.aborted.append(uid)
            else:
                self.ledger.closed[uid] = counts

    def _consumer(self) -> ConsumerEndpoint:
        """One that has a session, if there soon is one: the others are on their way back to the hub."""
        found = self.random.choice(self.consumers)
        for _ in range(_PICKS):
            if found.state is SessionState.ESTABLISHED:
                break
            found = self.random.choice(self.consumers)
        return found

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, int] | None:
        """One connection from its first byte to its end; None: aborted on purpose."""
        chance = self.random
        pause = chance.uniform(0.2, 1.0) if chance.random() < _LONG else 0.0
        rounds = chance.randrange(2, 6) if pause else 1
        there, back, first = chance.randrange(1, 300), chance.randrange(1, 300), chance.randrange(2)
        writer.write(_PLAN.pack(rounds, there, back, first))
        for _ in range(rounds):
            writer.write(bytes(there))
            assert await reader.readexactly(back) == bytes(back)
            if pause:
                await asyncio.sleep(pause)
        if chance.random() < _ABORTED:
            writer.transport.abort()
            return None
        if not first:
            writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        return _PLAN.size + rounds * there, rounds * back

    # ---- what it tells -----------------------------------------------------------------------------------------

    async def tell(self) -> None:
        """How many connections have ended in order, now and then."""
        while True:
            print(json.dumps({"event": "churn.progress", "closed": len(self.ledger.closed)}), flush=True)
            await asyncio.sleep(_TELL)

    def write(self) -> None:
        """The ledger, to its file."""
        self.ledger.refused = dict(self.refused)
        Path(self.churn.ledger).write_text(json.dumps(asdict(self.ledger)))


def _batches(services: list[str]) -> Iterator[list[str]]:
    """A few at a time: what a herd does to a hub is another test's."""
    for start in range(0, len(services), _AT_A_TIME):
        yield services[start : start + _AT_A_TIME]


def _on_connection(legs: list[tuple[str, int]], change: ConnectionChange) -> None:
    if change.kind == "resumed":
        legs.append((change.connection_uid, change.epoch))


async def _main(churn: Churn) -> None:
    logging.getLogger("quic").setLevel(logging.CRITICAL)
    program = _Program(churn)
    leave = program.leaving
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, leave.set)
    began = time.monotonic()
    await program.come()
    print(json.dumps({"event": "churn.ready", "seconds": time.monotonic() - began}), flush=True)
    telling = asyncio.ensure_future(program.tell())
    began = time.monotonic()
    await program.churn_on()
    telling.cancel()
    closed = len(program.ledger.closed)
    print(json.dumps({"event": "churn.done", "closed": closed, "seconds": time.monotonic() - began}), flush=True)
    await leave.wait()
    await program.leave()
    program.write()


if __name__ == "__main__":
    asyncio.run(_main(Churn(**json.loads(sys.argv[1]))))

"""One random schedule in which agents of sc01 and endpoints of spn/1 talk with each other over one hub.

Everything comes from the seed. A schedule that fails prints what it did, and ``python -m tests.simulation SEED mixed``
does it again.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Final, TypeVar

from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionStarted,
    EndPointType,
    Event,
    SessionStarted,
)
from spnhub.transport.endpoint.connection.connection import Connection
from tests.simulation.endpoint import Program, SimulatedEndpoint
from tests.simulation.hub import SimulatedHub
from tests.simulation.old_endpoint import ALPNS, OldEndpoint, OldStream
from tests.simulation.schedule import ENGINE_LIMITS, ENGINES, identity, policy
from tests.support.fake_network import FakeNetwork, VirtualClock

__all__ = ["MixedSimulation"]

_ADDRESS: Final = ("192.0.2.1", 4433)
_TROUBLE: Final = 20.0
_SETTLE: Final = 200.0

E = TypeVar("E", bound=Event)
_Endpoint = SimulatedEndpoint | OldEndpoint


class MixedSimulation:
    """See the module. :meth:`run` raises AssertionError if anything is wrong."""

    def __init__(self, seed: int, engine: str = "fake") -> None:
        self.seed = seed
        self.trace: list[str] = []
        self.pairs: dict[str, int] = {}
        """Conversations of each kind, those that have ended in order with every byte."""
        self._random = source = random.Random(seed)
        self.clock = VirtualClock()
        self.network = FakeNetwork(
            self.clock,
            latency=source.choice((0.001, 0.01, 0.05)),
            jitter=source.choice((0.0, 0.01)),
            loss=source.choice((0.0, 0.0, 0.05)),
            reorder=source.random() < 0.3,
            seed=seed,
            repeats=engine == "fake",
        )
        self._make = ENGINES[engine]()
        certificate = replace(identity(), alpn=("spn/1", *ALPNS.values()))
        self.hub = SimulatedHub(self.network, "hub", _ADDRESS, certificate, lambda: self._make(None, b"\1" * 32))
        self.hub.start()
        self.programs: list[Program] = []
        self._sides: dict[Program, _Endpoint] = {}
        self._spoiled: set[Program] = set()
        """Those that have ended with an error, or were taken away with their endpoint."""
        self._peace = False
        self._old_provider, self._new_provider = source.choice(((True, False), (True, True), (False, True)))
        self.endpoints: list[_Endpoint] = []
        if self._old_provider:
            self._begin(EndPointType.PROVIDER, old=True)
        if self._new_provider:
            self._begin(EndPointType.PROVIDER, old=False)
        self.consumers: list[_Endpoint] = [
            self._begin(EndPointType.CONSUMER, old=True),
            self._begin(EndPointType.CONSUMER, old=False),
        ]

    def _begin(self, role: EndPointType, *, old: bool) -> _Endpoint:
        name = f"{'old' if old else 'new'} {role.name.lower()} {len(self.endpoints)}"
        subject = "provider" if role is EndPointType.PROVIDER else "consumer"
        made = self._make(ENGINE_LIMITS, None)
        endpoint: _Endpoint
        if old:
            credentials = replace(policy(subject), alpn=(ALPNS[role],))
            endpoint = OldEndpoint(self.network, made, role, name, credentials, _ADDRESS, self._on_stream)
        else:
            endpoint = SimulatedEndpoint(
                self.network,
                made,
                role,
                name,
                policy(subject),
                self._random,
                (_ADDRESS,),
                on_accepted=partial(self._on_accepted, name),
            )
        self.endpoints.append(endpoint)
        return endpoint

    # ---- what happens ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The schedule, then peace, then the books."""
        try:
            self.clock.run_for(1.0)
            times = sorted(self._random.uniform(0, _TROUBLE) for _ in range(self._random.randint(8, 32)))
            for _ in range(4):
                self._open()
            for before, after in pairwise([0.0, *times]):
                self.clock.run_for(after - before)
                self._act()
            self._make_peace()
            self.clock.run_until(self._all_over, _SETTLE)
            self.clock.run_for(0.001)
            self._check_programs()
            self._stop()
            self._check_log()
        except (AssertionError, TimeoutError) as exc:
            told = "\n".join(self.trace)
            raise AssertionError(f"seed {self.seed}: {exc}\n{told}\n{self._describe()}") from exc

    def _say(self, text: str) -> None:
        self.trace.append(f"{self.clock.now():8.3f} {text}")

    def _act(self) -> None:
        self._random.choices(
            (self._open, self._write, self._finish, self._abort, self._stall, self._end, self._leave, self._freeze),
            (5, 14, 4, 2, 3, 2, 1, 1),
        )[0]()

    def _open(self) -> None:
        consumer = self._random.choice(self.consumers)
        program = self._add(f"consumer program {len(self.programs)} at {consumer.name}", consumer)
        self._say(f"{program.name} begins")
        # What an old provider gets begins with the consumer's first byte.
        program.write(self._random.choice((1, 10, 5000)))
        consumer.connect(program)

    def _add(self, name: str, endpoint: _Endpoint) -> Program:
        program = Program(name)
        self.programs.append(program)
        self._sides[program] = endpoint
        if self._peace:
            program.finish()
        return program

    def _on_stream(self, endpoint: OldEndpoint, stream: OldStream) -> Program:
        program = self._add(f"provider program {len(self.programs)} at {endpoint.name}", endpoint)
        program.write(self._random.choice((0, 10, 5000)))
        return program

    def _on_accepted(self, name: str, connection: Connection) -> Program:
        endpoint = next(one for one in self.endpoints if one.name == name)
        program = self._add(f"provider program {len(self.programs)} at {endpoint.name}", endpoint)
        program.write(self._random.choice((0, 10, 5000)))
        return program

    def _living(self) -> Program | None:
        living = [one for one in self.programs if not one.over and one not in self._spoiled]
        return self._random.choice(living) if living else None

    def _write(self) -> None:
        if program := self._living():
            size = self._random.choice((1, 1000, 30_000, 400_000))
            self._say(f"{program.name} writes {size}")
            program.write(size)

    def _finish(self) -> None:
        if program := self._living():
            self._say(f"{program.name} finishes")
            program.finish()

    def _abort(self) -> None:
        program = self._living()
        if program is not None and program.stream is not None:
            self._say(f"{program.name} aborts")
            self._spoiled.add(program)
            program.abort() if self._random.random() < 0.5 else program.fail()

    def _stall(self) -> None:
        if program := self._living():
            self._say(f"{program.name} {'goes on' if program.stalled else 'stalls'}")
            program.set_stalled(not program.stalled)

    def _end(self) -> None:
        """An endpoint is killed, or ends in order; another one comes."""
        endpoint = self._random.choice([one for one in self.endpoints if one.alive])
        how = self._random.choice(("is killed", "closes"))
        self._say(f"{endpoint.name} {how}")
        for program, side in self._sides.items():
            if side is endpoint:
                self._spoiled.add(program)
        if how == "closes" and isinstance(endpoint, OldEndpoint):
            endpoint.close()
            endpoint.alive = False
        else:
            endpoint.crash()
        role = EndPointType.PROVIDER if endpoint not in self.consumers else EndPointType.CONSUMER
        again = self._begin(role, old=isinstance(endpoint, OldEndpoint))
        if role is EndPointType.CONSUMER:
            self.consumers[self.consumers.index(endpoint)] = again

    def _leave(self) -> None:
        """An old provider wants no new connections; another comes."""
        for endpoint in self.endpoints:
            if isinstance(endpoint, OldEndpoint) and endpoint.alive and "provider" in endpoint.name:
                self._say(f"{endpoint.name} leaves")
                endpoint.say(b"notify_shutdown")
                self._begin(EndPointType.PROVIDER, old=True)
                return

    def _freeze(self) -> None:
        """A process is stopped for some seconds, as a debugger does."""
        endpoint = self._random.choice([one for one in self.endpoints if one.alive])
        self._say(f"{endpoint.name} stands still")
        endpoint.node.freeze()
        self.clock.call_at(self.clock.now() + self._random.uniform(0.5, 8.0), lambda: self._thaw(endpoint))

    @staticmethod
    def _thaw(endpoint: _Endpoint) -> None:
        if endpoint.alive:
            endpoint.node.thaw()

    def _make_peace(self) -> None:
        self._say("peace")
        self._peace = True
        self.network.loss = 0.0
        self.clock.run_for(10.0)
        for program in list(self.programs):
            program.set_stalled(False)
            program.finish()

    def _all_over(self) -> bool:
        return all(one.over or not self._sides[one].alive for one in self.programs)

    # ---- the books ---------------------------------------------------------------------------------------------

    def _events(self, kind: type[E]) -> list[E]:
        return [one.event for one in self.hub.journal.records if isinstance(one.event, kind)]

    def _conversations(self) -> list[tuple[str, Program, Program]]:
        """The programs that the log joins, each with the connectionUid."""
        old: dict[tuple[str, str], Program] = {}
        for side in self.endpoints:
            if isinstance(side, OldEndpoint):
                old.update({(side.session_id, str(one.stream_id)): program for program, one in side.begun.items()})
        new: dict[tuple[str, bool], Program] = {}
        for program in self.programs:
            if program.stream is not None and not isinstance(self._sides[program], OldEndpoint):
                new[program.stream.connection_uid, program.stream.consumer] = program
        found = []
        for event in self._events(ConnectionStarted):
            consumer_stream, _, provider_stream = event.spn_connection_id.partition("-")
            uid = event.connection_uid
            here = old.get((event.consumer_side_spn_session_id, consumer_stream)) or new.get((uid, True))
            there = old.get((event.provider_side_spn_session_id, provider_stream)) or new.get((uid, False))
            if here is not None and there is not None and event.epoch == 0:
                found.append((uid, here, there))
        return found

    def _check_programs(self) -> None:
        self._complete = set()
        for uid, here, there in self._conversations():
            for one, other in ((here, there), (there, here)):
                assert one.read <= other.written, f"{one.name} has read more than was written"
                if one.fin_read:
                    assert other.fin_sent and one.read == other.written, f"{one.name} has read a FIN that is none"
            if here in self._spoiled or there in self._spoiled:
                for one in (here, there):
                    if one not in self._spoiled and one.ending == "closed":
                        assert one.fin_read and one.fin_sent
                continue
            kind = " and ".join("old" if isinstance(self._sides[one], OldEndpoint) else "new" for one in (here, there))
            ends = (here.ending, there.ending)
            assert ends == ("closed", "closed"), f"{here.name} and {there.name} end {ends}, and nobody has aborted them"
            assert (here.read, there.read) == (there.written, here.written), f"{here.name} lacks bytes"
            self.pairs[kind] = self.pairs.get(kind, 0) + 1
            self._complete.add((uid, here.written, there.written))

    def _stop(self) -> None:
        resumable = self._random.random() < 0.5
        self._say(f"the hub stops{', resumable' if resumable else ''}")
        self.hub.stop(resumable=resumable)
        self.clock.run_until(lambda: not self.hub.running, 60.0)

    def _check_log(self) -> None:
        state = self.hub.journal.state
        assert not state.sessions, f"open sessions in the log: {list(state.sessions)}"
        assert not state.connections, f"open connections in the log: {list(state.connections)}"
        starts, ends = self._events(ConnectionStarted), self._events(ConnectionEnded)
        assert len(starts) == len(ends)
        old = {one.spn_session_id for one in self._events(SessionStarted) if one.protocol == "sc01"}
        totals: dict[str, tuple[int, int]] = {}
        for event in ends:
            totals.setdefault(event.connection_uid, (event.total_sent_bytes, event.total_receive_bytes))
            if {event.consumer_side_spn_session_id, event.provider_side_spn_session_id} & old:
                assert not event.suspended and event.epoch == 0
        paused = self._events(ConnectionPaused)
        assert not [one for one in paused if {one.consumer_side_spn_session_id, one.provider_side_spn_session_id} & old]
        alone = {one.connection_uid for one in ends if one.epoch} | {one.connection_uid for one in ends if one.rejected}
        for uid, sent, received in self._complete:
            if uid not in alone:
                assert totals[uid] == (sent, received), (
                    f"{uid} has moved {sent}, {received}; the log says {totals[uid]}"
                )

    def _describe(self) -> str:
        lines = [
            f"{one.name}: {one.ending} read {one.read} written {one.written} of {one.asked} fin {one.fin_sent}"
            f" {one.fin_read} refused {one.refused} spoiled {one in self._spoiled}"
            for one in self.programs
        ]
        lines += [f"{type(one.event).__name__} {one.event}" for one in self.hub.journal.records[-25:]]
        return "\n".join(lines)

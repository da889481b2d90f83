"""One random schedule: endpoints talk over two hubs while everything that can go wrong does; then the books are held.

Everything comes from the seed: what is done, when, and to whom. A schedule that fails prints what it did, and
``python -m tests.simulation SEED`` does it again.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.events.model import ConnectionEnded, ConnectionFinished, ConnectionStarted, EndPointType
from spnhub.pki import Authority
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.options import ENDPOINT_LIMITS
from spnhub.transport.engine import ClientPolicy, Engine, Limits, ServerIdentity
from spnhub.transport.protocol import ALPN
from tests.simulation.endpoint import Program, SimulatedEndpoint
from tests.simulation.hub import FQDN, SimulatedHub
from tests.support.fake_engine import FakeEngine, FakeWire
from tests.support.fake_network import FakeNetwork, FakeNode, VirtualClock

__all__ = ["ENGINES", "ENGINE_LIMITS", "Simulation", "identity", "policy"]

_ADDRESSES: Final = (("192.0.2.1", 4433), ("192.0.2.2", 4433))
_TROUBLE: Final = 20.0
"""Virtual seconds in which things go wrong. Far less than the resume timeout, so that nothing may be lost by it."""
_SETTLE: Final = 300.0
"""Virtual seconds in which all must have ended afterwards."""

Offsets = tuple[int, int]
"""Bytes consumer to provider, and provider to consumer."""

ENGINE_LIMITS: Final = ENDPOINT_LIMITS


@cache
def _authority() -> Authority:
    return Authority.create()


@cache
def policy(name: str, generation: int = 0) -> ClientPolicy:
    """One of the certificates of a subject."""
    credentials = _authority().client(name)
    return ClientPolicy(FQDN, (ALPN,), credentials.certificate, credentials.key, _authority().certificate)


@cache
def identity() -> ServerIdentity:
    server = _authority().server(FQDN)
    return ServerIdentity(server.certificate, server.key, _authority().certificate, (ALPN,))


def _fake() -> Callable[[Limits | None, bytes | None], Engine]:
    wire = FakeWire()
    return lambda limits, key: FakeEngine(wire, limits, key)


def _native() -> Callable[[Limits | None, bytes | None], Engine]:
    from spnhub.transport.native_engine.engine import NativeEngine

    seeds = itertools.count()
    return lambda limits, key: NativeEngine(limits, reset_key=key, seed=next(seeds).to_bytes(32))


ENGINES: Final[dict[str, Callable[[], Callable[[Limits | None, bytes | None], Engine]]]] = {
    "fake": _fake,
    "aioquic": lambda: lambda limits, key: AioquicEngine(limits, reset_key=key),
    "native": _native,
}


class Conversation:
    """Two programs and what the schedule did to them."""

    def __init__(self, name: str) -> None:
        self.consumer = Program(f"{name} consumer")
        self.provider: Program | None = None

    @property
    def programs(self) -> list[Program]:
        return [one for one in (self.consumer, self.provider) if one is not None]


class Simulation:
    """See the module. :meth:`run` raises AssertionError if anything is wrong."""

    def __init__(self, seed: int, engine: str = "fake") -> None:
        self.seed = seed
        self.trace: list[str] = []
        self.states: set[tuple[object, ...]] = set()
        """Distinct states of everything that were seen after an action."""
        self.unheard = 0
        """Conversations of which the provider has everything, and never heard that the consumer has, too."""
        self.reported_later = 0
        """Conversations that had ended in order, as the log has heard later."""
        self.unreported = 0
        """Those of which it never heard."""
        self.failed = 0
        """Programs that failed, and whose every byte was read before that was heard of."""
        self.failed_alone = 0
        """Those whose other side took nothing for too long, or had its own end."""
        self.fins_lost = 0
        """Failures that were heard of without the FIN that was before them."""
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
        make = ENGINES[engine]()
        self.hubs = [
            SimulatedHub(
                self.network,
                f"hub-{n}",
                address,
                identity(),
                lambda n=n: make(None, bytes([n]) * 32),  # type: ignore[misc]
            )
            for n, address in enumerate(_ADDRESSES, 1)
        ]
        self.hubs[0].start()
        if source.random() < 0.7:
            self.hubs[1].start()
        self._by_uid: dict[str, Program] = {}
        self.conversations: list[Conversation] = []
        self._orphans: list[Program] = []

        self._make = make
        self.provider = self._endpoint(EndPointType.PROVIDER, "provider", "provider")
        self.consumers = [self._endpoint(EndPointType.CONSUMER, f"consumer-{n}", "consumer") for n in (1, 2)]
        self.endpoints = [self.provider, *self.consumers]
        self._actions = source.randint(8, 32)
        self._peace = False

    def _endpoint(self, role: EndPointType, name: str, subject: str) -> SimulatedEndpoint:
        return SimulatedEndpoint(
            self.network,
            self._make(ENGINE_LIMITS, None),
            role,
            name,
            policy(subject),
            self._random,
            _ADDRESSES,
            on_accepted=self._accepted,
        )

    def again(self, killed: SimulatedEndpoint) -> SimulatedEndpoint:
        """Another process in place of one that was killed, with the same instance id."""
        if killed is self.provider:
            self.provider = again = self._endpoint(EndPointType.PROVIDER, killed.name, "provider")
        else:
            again = self._endpoint(EndPointType.CONSUMER, killed.name, "consumer")
            self.consumers[self.consumers.index(killed)] = again
        self.endpoints = [self.provider, *self.consumers]
        return again

    @property
    def programs(self) -> list[Program]:
        """Those that the provider has accepted."""
        return list(self._by_uid.values())

    # ---- what happens ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The schedule, then peace, then the books."""
        try:
            # A beginning in peace, for the conversations to have something to lose.
            self.clock.run_for(1.0)
            times = sorted(self._random.uniform(0, _TROUBLE) for _ in range(self._actions))
            for _ in range(3):
                self._open()
            for before, after in pairwise([0.0, *times]):
                self.clock.run_for(after - before)
                self._act()
                self._observe()
            self._make_peace()
            self.clock.run_until(self._all_over, _SETTLE)
            # The last may have ended just now, and its program not have heard.
            self.clock.run_for(0.001)
            self._check_programs()
            self._stop_all()
            self._check_logs()
        except (AssertionError, TimeoutError) as exc:
            told = "\n".join(self.trace)
            raise AssertionError(f"seed {self.seed}: {exc}\n{told}\n{self._describe()}") from exc

    def _say(self, text: str) -> None:
        self.trace.append(f"{self.clock.now():8.3f} {text}")

    def _act(self) -> None:
        act = self._random.choices(
            (
                self._open,
                self._write,
                self._finish,
                self._abort,
                self._fail,
                self._stall,
                self._begin_hub,
                self._end_hub,
                self._crash_hub,
                self._freeze_hub,
                self._freeze_provider,
                self._cut,
                self._change_addresses,
                self._renew,
            ),
            (4, 12, 3, 1, 3, 2, 4, 2, 2, 1, 1, 4, 1, 3),
        )[0]
        act()

    def _open(self) -> None:
        conversation = Conversation(f"conversation {len(self.conversations)}")
        self.conversations.append(conversation)
        consumer = self._random.choice(self.consumers)
        self._say(f"{consumer.name} opens {conversation.consumer.name}")
        conversation.consumer.write(self._random.choice((0, 10, 5000)))
        consumer.connect(conversation.consumer)

    def _accepted(self, connection: Connection) -> Program:
        program = Program(f"provider of {connection.connection_uid[:6]}")
        self._by_uid[connection.connection_uid] = program
        program.write(self._random.choice((0, 10, 5000)))
        if self._peace:
            program.finish()
        return program

    def _pair_up(self) -> None:
        for conversation in self.conversations:
            stream = conversation.consumer.stream
            if conversation.provider is None and stream is not None:
                conversation.provider = self._by_uid.get(stream.connection_uid)

    def _program(self) -> Program | None:
        self._pair_up()
        living = [one for talk in self.conversations for one in talk.programs if not one.over]
        return self._random.choice(living) if living else None

    def _write(self) -> None:
        program = self._program()
        if program is not None:
            size = self._random.choice((1, 100, 20_000, 300_000))
            self._say(f"{program.name} writes {size}")
            program.write(size)

    def _finish(self) -> None:
        program = self._program()
        if program is not None:
            self._say(f"{program.name} finishes")
            program.finish()

    def _abort(self) -> None:
        program = self._program()
        if program is not None:
            self._say(f"{program.name} aborts")
            program.abort()

    def _fail(self) -> None:
        program = self._program()
        if program is not None:
            self._say(f"{program.name} fails")
            program.fail()

    def _stall(self) -> None:
        program = self._program()
        if program is not None:
            self._say(f"{program.name} {'reads on' if program.stalled else 'stalls'}")
            program.set_stalled(not program.stalled)

    def _begin_hub(self) -> None:
        hub = self._random.choice(self.hubs)
        if not hub.running:
            self._say(f"{hub.name} starts")
            hub.start()

    def _end_hub(self) -> None:
        hub = self._random.choice(self.hubs)
        if hub.running and not hub.frozen:
            self._say(f"{hub.name} gets SIGTERM")
            hub.stop(resumable=True)

    def _crash_hub(self) -> None:
        hub = self._random.choice(self.hubs)
        if hub.running:
            host_lives = self._random.random() < 0.5
            self._say(f"{hub.name} crashes{'' if host_lives else ' with its host'}")
            hub.crash(host_lives=host_lives)

    def _freeze_hub(self) -> None:
        hub = self._random.choice(self.hubs)
        if hub.running:
            self._say(f"{hub.name} {'thaws' if hub.frozen else 'freezes'}")
            (hub.thaw if hub.frozen else hub.freeze)()

    def _freeze_provider(self) -> None:
        node, seconds = self.provider.node, self._random.choice((2.0, 8.0))
        self._say(f"{self.provider.name} freezes for {seconds} s")
        node.freeze()
        self.clock.call_at(self.clock.now() + seconds, node.thaw)

    def _nodes(self) -> list[FakeNode]:
        return [hub.node for hub in self.hubs if hub.runs]

    def _cut(self) -> None:
        hub, endpoint = self._random.choice(self._nodes()), self._random.choice(self.endpoints)
        one_way, seconds = self._random.random() < 0.3, self._random.choice((0.3, 2.0, 8.0))
        ends = [endpoint.node, hub]
        self._random.shuffle(ends)
        self._say(f"cut between {endpoint.name} and {hub.engine!r:.20} {'one way ' if one_way else ''}for {seconds} s")
        self.network.cut(*ends, one_way=one_way, seconds=seconds)

    def _change_addresses(self) -> None:
        endpoint = self._random.choice(self.endpoints)
        addresses = self._random.choice((_ADDRESSES, _ADDRESSES[:1], _ADDRESSES[1:]))
        self._say(f"{endpoint.name} is told of {[host for host, _ in addresses]}")
        endpoint.core.set_addresses(addresses, self.clock.now())
        endpoint.node.flush()

    def _renew(self) -> None:
        endpoint = self._random.choice(self.endpoints)
        generation = self._random.randrange(3)
        self._say(f"{endpoint.name} has certificate {generation}")
        endpoint.renew(policy(endpoint.name.partition("-")[0], generation))

    def _make_peace(self) -> None:
        self._say("peace")
        self._peace = True
        self.network.heal_all()
        self.network.loss = 0.0
        for hub in self.hubs:
            if hub.frozen:
                hub.thaw()
        self.provider.node.thaw()
        # A hub that is on its way out may take its time.
        self.clock.run_for(1.0)
        for hub in self.hubs:
            if not hub.running:
                hub.start()
        for endpoint in self.endpoints:
            endpoint.core.set_addresses(_ADDRESSES, self.clock.now())
            endpoint.node.flush()
        self._pair_up()
        for program in [*self._by_uid.values(), *(talk.consumer for talk in self.conversations)]:
            program.set_stalled(False)
            program.finish()

    # ---- the books ---------------------------------------------------------------------------------------------

    def _observe(self) -> None:
        self._pair_up()
        self.states.add(
            (
                tuple((hub.running, hub.frozen) for hub in self.hubs),
                tuple(
                    tuple(sorted(target.state.value for target in endpoint.core.targets()))
                    for endpoint in self.endpoints
                ),
                tuple(
                    sorted(
                        tuple(one.stream.state.value if one.stream else "" for one in talk.programs)
                        for talk in self.conversations
                    )
                ),
            )
        )

    def _all_over(self) -> bool:
        self._pair_up()
        return all(one.over for talk in self.conversations for one in talk.programs) and all(
            not endpoint.core.connections for endpoint in self.endpoints
        )

    def _check_programs(self) -> None:
        self._pair_up()
        paired = set()
        for talk in self.conversations:
            here, there = talk.consumer, talk.provider
            if here.stream is None:
                # It never began, so nobody has seen a byte of it.
                assert here.refused is not None, here.name
                continue
            assert there is not None, f"{here.name} is connected to nobody"
            paired.add(there)
            for one, other in ((here, there), (there, here)):
                assert one.over, f"{one.name} has not ended"
                assert one.read <= other.written, f"{one.name} has read more than was written"
            if here.aborted_here or there.aborted_here:
                continue
            if here.failed_here or there.failed_here:
                self._check_failed(here, there)
                continue
            ends = (here.ending, there.ending)
            if here.ending == "closed" and there.fin_sent and there.fin_read and there.stream is not None:
                # The consumer's last word was lost with the provider's leg, and it has heard nothing of that: the
                # provider can't tell this from a consumer that is gone (the two generals' problem).
                self.unheard += there.ending != "closed"
            else:
                assert ends == ("closed", "closed"), f"{here.name} ends {ends}, and nobody has aborted it"
            assert (here.read, there.read) == (there.written, here.written), f"{here.name} lacks bytes"
        for uid, program in self._by_uid.items():
            # Accepted, but its consumer has never heard of it and has begun anew: an error, and nothing was read.
            if program not in paired:
                assert program.ending not in (None, "closed"), f"{uid} has ended as if it had been one"
                assert program.read == 0, f"{program.name} read something of nobody"

    def _check_failed(self, here: Program, there: Program) -> None:
        """Everything that was written before a failure was read before the error was heard of (D-34)."""
        for one, other in ((here, there), (there, here)):
            if not one.failed_here:
                continue
            assert one.ending is not None
            deaf = other.has_stalled and other.read < one.written
            if deaf or other.failed_here or one.ending != f"{Code.PEER_RESET}: ended here with an error":
                self.failed_alone += 1
                continue
            self.failed += 1
            assert other.read == one.written, f"{other.name} lacks bytes before an error"
            self.fins_lost += other.fin_read < one.fin_sent
            in_order = other.fin_sent and other.fin_read
            assert in_order or other.ending != "closed", f"{other.name} has ended in order, and {one.name} has not"

    def _stop_all(self) -> None:
        for endpoint in self.endpoints:
            endpoint.core.close()
            endpoint.node.flush()
        self.clock.run_for(5.0)
        for hub in self.hubs:
            hub.stop(resumable=False)
        self.clock.run_until(lambda: not any(hub.running for hub in self.hubs), 60.0)

    def _check_logs(self) -> None:
        epochs: dict[str, list[int]] = {}
        newest: dict[str, ConnectionEnded] = {}
        finished: dict[str, Offsets] = {}
        for hub in self.hubs:
            state = hub.journal.state
            assert not state.sessions, f"{hub.name} has open sessions in its log: {list(state.sessions)}"
            assert not state.connections, f"{hub.name} has open connections in its log: {list(state.connections)}"
            events = [recorded.event for recorded in hub.journal.records]
            starts = [event for event in events if isinstance(event, ConnectionStarted)]
            ends = [event for event in events if isinstance(event, ConnectionEnded)]
            assert len(starts) == len(ends)
            for end in ends:
                if end.rejected:  # another provider was asked in the same epoch
                    continue
                epochs.setdefault(end.connection_uid, []).append(end.epoch)
                newest[end.connection_uid] = max(newest.get(end.connection_uid, end), end, key=lambda one: one.epoch)
            for event in events:
                if isinstance(event, ConnectionFinished):
                    told = event.sent_offset, event.receive_offset
                    assert finished.setdefault(event.connection_uid, told) == told
        for uid, seen in epochs.items():
            assert len(set(seen)) == len(seen), f"{uid} has two legs of one epoch: {seen}"
        self._check_bytes(newest, finished)

    def _check_bytes(self, newest: dict[str, ConnectionEnded], finished: dict[str, Offsets]) -> None:
        """What has ended in order is logged with all its bytes, and each of them once (D-10)."""
        for talk in self.conversations:
            here, there = talk.consumer, talk.provider
            if here.stream is None or there is None or (here.ending, there.ending) != ("closed", "closed"):
                continue
            uid, moved = here.stream.connection_uid, (here.written, there.written)
            if uid in finished:
                assert finished[uid] == moved, f"{here.name} has moved {moved}, and was told to have {finished[uid]}"
                self.reported_later += 1
                continue
            end = newest[uid]
            told = (end.start_sent_offset + end.total_sent_bytes, end.start_receive_offset + end.total_receive_bytes)
            if end.suspended or end.recovered:
                self.unreported += 1
                assert told[0] <= moved[0] and told[1] <= moved[1]
            else:
                assert told == moved, f"{here.name} has moved {moved}, and the log says {told}: {end}"

    def _describe(self) -> str:
        lines = []
        for talk in self.conversations:
            for one in talk.programs:
                stream = one.stream
                leg = f"{stream.state.value} epoch {stream.epoch}" if stream is not None else "no stream"
                lines.append(
                    f"  {one.name}: {leg}, wrote {one.written} of {one.asked}, read {one.read}, fin asked "
                    f"{one.fin_asked} sent {one.fin_sent} read {one.fin_read}, ending {one.ending}, "
                    f"refused {one.refused}, aborted here {one.aborted_here}"
                )
        for endpoint in self.endpoints:
            targets = [(target.remote[0], target.state.value, target.connections) for target in endpoint.core.targets()]
            lines.append(f"  {endpoint.name}: {targets}, {endpoint.core.connections} connections, {endpoint.failure}")
        lines += [f"  {hub.name}: running {hub.running}" for hub in self.hubs]
        return "\n".join(lines)

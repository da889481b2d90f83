"""Random histories, sensible and not: the state is the fold of the log at every step, and everything ends once.

Inputs come at any moment, whether they fit or not, reloads and cluster managers' answers and failures of single actors
among them. :class:`Bench` compares
state, fold and actors after each step.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.connection.state import LegPhase
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import (
    AcceptSession,
    CloseSession,
    Command,
    ForgetConnection,
    OpenProviderStream,
    RefuseConnection,
    RefuseSession,
    ReportHubStopped,
    StartService,
    StopService,
)
from spnhub.actors.contract.definitions import Availability, RealmDefinition
from spnhub.actors.contract.inputs import (
    ConsumerAborted,
    HandshakeRefusal,
    Key,
    LoadInventory,
    ProviderAccepted,
    ProviderBusy,
    ProviderRejected,
    ProviderStreamOpened,
    RejectInventory,
    ResumeAnswered,
    ResumeOpened,
    ResumeRequested,
    ScheduleDue,
    ServiceExited,
    SessionAnswered,
    SessionClosed,
    SessionInvalidated,
    SessionUnresponsive,
    SpliceEnded,
    StartFailed,
    StartSucceeded,
    StopFailed,
    StopHub,
    StopSucceeded,
)
from spnhub.actors.contract.packets import CloseAck, CloseRequest, PauseAck, ResumeAck, SessionRenewal, SetWeight
from spnhub.actors.system import ActorOptions
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionRefused,
    ConnectionResumed,
    ConnectionStarted,
    EndPointType,
    Event,
    ResumeRefused,
    SessionEnded,
    SessionStarted,
)
from tests.actors.harness import (
    CONSUMER,
    OTHER_SERVICE,
    PROVIDER,
    SERVICE,
    Bench,
    leg_of,
    open_request,
    realm,
    request,
    sent,
    service,
    uid,
)

Target = int | Key | None


class Poison:
    """A message that no handler survives: pykka's own dispatch asks for its class."""

    @property  # type: ignore[misc] # that's the point
    def __class__(self) -> type:
        raise RuntimeError("injected")


class History:
    """Chooses the next input from what a number says, among the sessions and connections of the bench."""

    def __init__(self, options: ActorOptions, *, poison: bool) -> None:
        self.bench = Bench(options)
        self.poison = poison
        self.next_session = 1
        self.next_stream = 0
        self.pending = 0
        self.epoch = 0
        self.resumes: list[tuple[str, int]] = []
        """Those that consumers have asked for, by uid and epoch."""
        self.events: list[Event] = []
        self.commands: list[Command] = []
        self.script: list[tuple[str, Any, Any]] = []
        """What was done, to do it again."""

    def do(self, number: int) -> None:
        """One step."""
        rng = random.Random(number)
        kind = rng.choice(
            ["session"] * 2
            + ["stream"] * 3
            + ["resume"] * 2
            + ["of session"] * 4
            + ["of connection"] * 6
            + ["time", "hub", "service"]
        )
        sessions, keys = self.bench.system.residents()
        match kind:
            case "session":
                self.tell(None, self.request(rng))
            case "stream" if sessions:
                consumers = [session for session in sorted(sessions) if self.role(session) is CONSUMER]
                self.open(rng.choice(consumers if consumers and rng.random() < 0.97 else sorted(sessions)), rng)
            case "resume" if sessions:
                consumers = [session for session in sorted(sessions) if self.role(session) is CONSUMER]
                if consumers:
                    self.resume(rng.choice(consumers), rng)
                if rng.random() < 0.7:
                    self.go_on(rng)
            case "of session" if sessions:
                self.tell(rng.choice(sorted(sessions)), self.of_session(rng, sorted(keys)))
            case "of connection" if keys:
                key = rng.choice(sorted(keys))
                self.tell(key, self.of_connection(key, rng))
            case "time":
                self.step(rng.choice([0.0, 0.1, 1.0, 2.0, 5.0, 15.0]))
            case "hub" if rng.random() < 0.4:
                self.tell(None, self.inventory(rng))
            case "service":
                self.tell(None, self.of_service(rng))
            case "hub":
                alert = rng.choice([40, 116, None])
                self.tell(None, HandshakeRefusal(None, None, None, f"192.0.2.{number % 5}:1", alert, "no", None))
            case _:
                self.tell(Key(999, 0), ProviderAccepted())

    def inventory(self, rng: random.Random) -> Any:
        if rng.random() < 0.1:
            return RejectInventory(("realm acme: no",))
        realms: tuple[RealmDefinition, ...] = ()
        if rng.random() < 0.9:
            services = [
                service(
                    urn,
                    provider=rng.choice(["server", "server", "other"]),
                    consumers=frozenset(rng.choice([["client"], ["client"], ["guest"]])),
                    singleton=rng.random() < 0.2,
                    availability=self.availability(rng),
                )
                for urn in (SERVICE, OTHER_SERVICE)
                if rng.random() < 0.9
            ]
            expired_at = self.bench.wall_us + 20_000_000 if rng.random() < 0.1 else None
            limit = rng.choice([None, None, 3])
            realms = (realm(*services, expired_at=expired_at, max_sessions=limit),)
        return LoadInventory(realms)

    def availability(self, rng: random.Random) -> Availability | None:
        manager = rng.choice(["docker:", "docker:", "k8s:x"])
        return rng.choice(
            [
                None,
                Availability(manager, "web", start_on_load=True),
                Availability(manager, "web", start_on_consumer=True, idle_timeout=3.0),
                Availability(manager, "web", start_on_payload=True, idle_timeout=rng.choice([None, 1.0])),
            ]
        )

    def of_service(self, rng: random.Random) -> Any:
        urn = rng.choice([SERVICE, OTHER_SERVICE])
        return rng.choice(
            [
                StartSucceeded(urn),
                StartSucceeded(urn),
                StopSucceeded(urn),
                StopSucceeded(urn),
                StartFailed(urn, "no", retryable=rng.random() < 0.7),
                StopFailed(urn, "no"),
                ServiceExited(urn, "gone"),
                ScheduleDue(urn, start=rng.random() < 0.6),
            ]
        )

    def request(self, rng: random.Random) -> Any:
        self.next_session += 1
        role = rng.choice([PROVIDER, CONSUMER])
        return request(
            self.next_session,
            role,
            service_urn=rng.choice([SERVICE, SERVICE, OTHER_SERVICE]),
            instance_id=rng.choice(["", "", "", "a", "b", "c"]),
            weight=rng.choice([0, 1, 100, 100, 200]),
            brings_connections=rng.random() < 0.2,
        )

    def role(self, session: int) -> EndPointType:
        return self.bench.fold.sessions[f"s{session}"].end_point_type

    def open(self, session: int, rng: random.Random) -> None:
        self.next_stream += 4
        alive = self.bench.system.environment.directory.sessions[
            session
        ].ref.is_alive()  # else it is closed soon, streams and all
        self.pending += alive and self.role(session) is CONSUMER
        reused = self.next_stream if rng.random() < 0.9 else 4
        self.tell(session, open_request(self.next_stream, connection_uid=uid(reused), epoch=int(rng.random() < 0.05)))

    def resume(self, session: int, rng: random.Random) -> None:
        """A consumer wants to go on, with any connection there ever was, held by whom it may."""
        self.epoch += 1
        asked = ResumeRequested(
            key=Key(session, -self.epoch),
            connection_uid=uid(rng.randrange(0, self.next_stream + 4, 4)),
            epoch=self.epoch,
            received_offset=rng.randrange(99),
            finished=rng.random() < 0.2,
            code=rng.choice([0, 0, 0, 0, 34, 41, 44]),
            peer="CN=server",
            instance_id=rng.choice(self.instances() or ["a"]),
        )
        if self.bench.system.environment.directory.sessions[session].ref.is_alive() and not asked.code:
            self.resumes.append((asked.connection_uid, asked.epoch))
        self.tell(session, asked)

    def go_on(self, rng: random.Random) -> None:
        """What endpoints in their right mind do next."""
        directory = self.bench.system.environment.directory
        for key, entry in sorted(directory.connections.items()):
            if key not in directory.connections:  # what was just done has ended it
                continue
            leg = leg_of(entry)
            connection_uid, epoch = entry.name
            if leg.phase is LegPhase.INVITING and entry.provider in directory.sessions:
                self.tell(entry.provider, ResumeAnswered(connection_uid, epoch, 5, False, 0, "CN=client", True))
            elif leg.phase is LegPhase.RESUMING:
                self.tell(key, ResumeOpened(4 * epoch, 4 * rng.randrange(1, 999)))
            elif leg.phase is LegPhase.PAUSING:
                for session in (key.session, entry.provider):
                    if session in directory.sessions:
                        self.tell(session, PauseAck(connection_uid, epoch, rng.randrange(99)))

    def of_session(self, rng: random.Random, keys: list[Key]) -> Any:
        stream = rng.choice(keys).stream if keys else 0
        choices: list[Any] = [CloseRequest(uid(stream), 0, 1, 2, rng.random() < 0.7)] * 5
        choices += [CloseAck(uid(stream), 0)] * 5
        choices += [PauseAck(uid(stream), 0, rng.randrange(99))] * 2
        legs = [(uid(stream), 1), *self.named()]
        connection_uid, epoch = rng.choice(legs)
        peer = "CN=client" if rng.random() < 0.9 else "CN=other"
        code = rng.choice([0, 0, 0, 0, 0, 34, 37, 41, 43])
        answer = ResumeAnswered(connection_uid, epoch, rng.randrange(99), False, code, peer, rng.random() < 0.9)
        choices += [answer] * 5
        choices += [SessionRenewal()]
        choices += [SessionUnresponsive(), SessionAnswered(), SetWeight(rng.choice([0, 0, 1, 100, 300]))]
        if rng.random() < 0.1:
            choices += [SessionInvalidated("expired", expired=rng.random() < 0.5)]
        if rng.random() < 0.3:
            choices += [SessionClosed(rng.random() < 0.5, rng.choice([0, 0, 2, 35]), "gone")]
        return rng.choice([*choices, Poison()] if self.poison else choices)

    def instances(self) -> list[str]:
        """Of the providers there are."""
        sessions = self.bench.fold.sessions.values()
        return [session.instance_id for session in sessions if session.end_point_type is PROVIDER]

    def named(self) -> list[tuple[str, int]]:
        """The open legs that resume, by uid and epoch."""
        return [entry.name for entry in self.bench.system.environment.directory.connections.values() if entry.name[1]]

    def of_connection(self, key: Key, rng: random.Random) -> Any:
        phase = leg_of(self.bench.system.environment.directory.connections[key]).phase
        carried = rng.randrange(99), rng.randrange(99)
        fins = SpliceEnded(*carried, finished=True, lost=False, code=0)
        reset = SpliceEnded(*carried, finished=False, lost=rng.random() < 0.5, code=34)
        opened = ProviderStreamOpened(rng.randrange(1, 4000, 4))
        both = ResumeOpened(rng.randrange(8, 4000, 4), rng.randrange(8, 4000, 4))
        fitting = {
            LegPhase.RESUMING: both,
            LegPhase.OPENING: opened,
            LegPhase.CONNECTING: ProviderAccepted(),
            LegPhase.ENDING: reset,
        }
        if rng.random() < 0.7:
            return fitting.get(phase, fins)
        rejected = ProviderRejected(rng.choice([0, 32, 4000]), "no")
        left = SpliceEnded(
            *carried, finished=False, lost=False, code=rng.choice([39, 40]), by_consumer=rng.random() < 0.5
        )
        choices: list[Any] = [opened, ProviderAccepted(), rejected, ConsumerAborted(rng.choice([0, 34])), fins, reset]
        choices += [both, left, rejected, ProviderBusy(rng.randrange(1, self.next_session + 1))]
        return rng.choice([*choices, Poison()] if self.poison else choices)

    def tell(self, target: Target, message: Any) -> None:
        self.script.append(("tell", target, message))
        tell(self.bench, target, message)
        self.step()

    def step(self, seconds: float = 0.0) -> None:
        if seconds:
            self.script.append(("time", seconds, None))
        events, commands = self.bench.step(seconds)
        self.events += events
        self.commands += commands

    def stop(self, *, resumable: bool, numbers: list[int]) -> None:
        """A stop; while it is resumable more comes in, in the end the transport says nothing any more."""
        if resumable:
            self.tell(None, StopHub(resumable=True))
            for number in numbers:
                self.do(number)
        self.tell(None, StopHub())
        options = self.bench.options
        for _ in range(8):
            self.step(max(options.abort_timeout, options.close_timeout))
        assert not self.bench.system.environment.work_queue


def tell(bench: Bench, target: Target, message: Any) -> None:
    """An input to wherever it goes."""
    if target is None:
        bench.system.tell_hub(message)
    elif isinstance(target, Key):
        bench.system.tell_connection(target, message)
    else:
        bench.system.tell_session(target, message)


def run(numbers: list[int], *, poison: bool) -> History:
    """A whole history, up to the stop: half of them end with a resumable shutdown."""
    options = ActorOptions(session_connections=5, waiting_openings=3, slice_size=3, slice_pause=0.05)
    history = History(options, poison=poison)
    resumable = sum(numbers) % 2 == 1
    split = len(numbers) * 4 // 5 if resumable else len(numbers)
    for number in numbers[:split]:
        history.do(number)
    history.stop(resumable=resumable, numbers=numbers[split:])
    return history


def names(event: Event) -> Any:
    """Which session or leg it is about."""
    if isinstance(event, SessionStarted | SessionEnded):
        return event.spn_session_id
    assert isinstance(event, ConnectionStarted | ConnectionEnded | ConnectionResumed)
    return event.spn_connection_id, event.consumer_side_spn_session_id, event.provider_side_spn_session_id


def check(history: History) -> None:
    """Every start has one end, every opening one trace, every session and connection one last command."""
    history.bench.assert_empty()
    events, commands = history.events, history.commands
    for start, end in ((SessionStarted, SessionEnded), (ConnectionStarted, ConnectionEnded)):
        starts = Counter(names(event) for event in events if isinstance(event, start))
        assert starts == Counter(names(event) for event in events if isinstance(event, end))
    check_openings(history)
    check_resumes(history)
    opened = {c.connection for c in commands if isinstance(c, OpenProviderStream)}
    let_go = Counter(c.connection for c in commands if isinstance(c, ForgetConnection | RefuseConnection))
    assert max(let_go.values(), default=0) <= 1
    assert opened <= set(let_go)
    closed = Counter(c.session for c in commands if isinstance(c, CloseSession))
    accepted = Counter(c.session for c in commands if isinstance(c, AcceptSession))
    assert closed <= accepted
    assert commands.count(ReportHubStopped()) == 1
    late = commands[commands.index(ReportHubStopped()) + 1 :]
    assert all(isinstance(command, RefuseSession) for command in late)
    check_cluster_commands(commands)
    for event in events:
        if isinstance(event, ConnectionEnded | SessionEnded):
            assert event.elapsed_time >= 0


def check_openings(history: History) -> None:
    """Every opening leaves one trace; one that went from provider to provider, a leg at each, and all but the last say
    that they were rejected."""
    events = history.events
    resumed = {names(event) for event in events if isinstance(event, ConnectionResumed)}
    legs: dict[Any, list[ConnectionEnded]] = {}
    for event in events:
        if isinstance(event, ConnectionEnded) and names(event) not in resumed:
            stream = event.spn_connection_id.partition("-")[0]
            legs.setdefault((event.consumer_side_spn_session_id, stream), []).append(event)
    for attempts in legs.values():
        assert all(leg.rejected and not leg.suspended for leg in attempts[:-1])
        assert len({leg.provider_side_spn_session_id for leg in attempts}) == len(attempts)
    again = sum(leg.rejected for attempts in legs.values() for leg in attempts)
    refused = sum(isinstance(event, ConnectionRefused) for event in events)
    # A refusal is the trace of an opening with no leg; or it says what became of one behind its last provider.
    assert len(legs) + refused - again <= history.pending <= len(legs) + refused


def check_resumes(history: History) -> None:
    """Every request leaves one trace, epochs increase, and a suspended end follows its pause."""
    events = history.events
    resumed = [(e.connection_uid, e.epoch) for e in events if isinstance(e, ConnectionResumed)]
    refused = [
        (e.connection_uid, e.epoch)
        for e in events
        if isinstance(e, ResumeRefused) and e.reason != "no such invitation is open"  # that one is an answer's
    ]
    asked = Counter(history.resumes)
    traces = Counter(resumed + refused)
    absent = {
        (ack.connection_uid, ack.epoch) for _, ack in sent(history.commands, ResumeAck) if ack.code == Code.NOT_HERE
    }
    for name in asked:  # repeated ones whose provider isn't here leave no trace
        assert traces[name] == 1 or (traces[name] == 0 and name in absent)
    latest: dict[str, int] = {}
    for connection_uid, epoch in resumed:
        assert epoch > latest.get(connection_uid, 0)
        latest[connection_uid] = epoch
    for place, event in enumerate(events):
        if isinstance(event, ConnectionEnded):
            before = events[place - 1]
            paused = isinstance(before, ConnectionPaused) and before.spn_connection_id == event.spn_connection_id
            assert paused == event.suspended
            if isinstance(before, ConnectionPaused) and paused:
                assert before.sent_offset == event.start_sent_offset + event.total_sent_bytes
                assert before.receive_offset == event.start_receive_offset + event.total_receive_bytes
        elif isinstance(event, ConnectionPaused):
            assert isinstance(events[place + 1], ConnectionEnded)


def check_cluster_commands(commands: list[Command]) -> None:
    """What is stopped was started by us or is somebody's provider; each names what it is about."""
    for command in commands:
        if isinstance(command, StartService | StopService):
            assert command.service_urn in {SERVICE, OTHER_SERVICE}
            assert command.availability.service_id == "web"


NUMBERS = st.lists(st.integers(0, 2**32), max_size=120)


@pytest.mark.parametrize("poison", [False, True], ids=["sound", "with failures"])
@given(numbers=NUMBERS)
@settings(max_examples=60, deadline=None)
def test_any_history_ends(numbers: list[int], *, poison: bool) -> None:
    """Short histories, shrunk when one fails."""
    check(run(numbers, poison=poison))


@pytest.mark.parametrize("seed", range(4))
def test_long_history_ends(seed: int) -> None:
    """Long ones, with and without failures."""
    rng = random.Random(seed)
    check(run([rng.randrange(2**32) for _ in range(2500)], poison=bool(seed % 2)))


@pytest.mark.parametrize("seed", range(3))
def test_batches_make_no_difference(seed: int) -> None:
    """The same inputs at the same times, told one by one or together: the same events and commands."""
    rng = random.Random(seed)
    history = run([rng.randrange(2**32) for _ in range(800)], poison=False)
    again = Bench(history.bench.options)
    events: list[Event] = []
    commands: list[Command] = []
    for what, first, second in [*history.script, ("time", 0.0, None)]:
        if what == "tell":
            tell(again, first, second)
            continue
        for result in (again.step(), again.step(first)):
            events += result[0]
            commands += result[1]
    assert events == history.events
    assert commands == history.commands

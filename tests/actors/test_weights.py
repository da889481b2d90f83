"""Weights set by providers (R-5.3), and the rolling update with weight 0 (R-5.4, D-22)."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import (
    AbortConnection,
    CloseSession,
    ForgetConnection,
    OpenProviderStream,
    RefuseConnection,
    SendPacket,
)
from spnhub.actors.contract.inputs import Key, SessionInvalidated, StopHub
from spnhub.actors.contract.packets import AllConnectionsClosed, SetWeight
from spnhub.events.model import WeightChanged
from tests.actors.harness import (
    CONSUMER,
    FAILED,
    NETWORK,
    PROVIDER,
    REALM,
    SERVICE,
    Bench,
    cut,
    open_request,
    request,
    session_ended,
    uid,
)


@pytest.fixture
def bench() -> Bench:
    """A provider's session 1 and a consumer's session 2."""
    bench = Bench()
    bench.provider(1)
    bench.consumer(2)
    return bench


def changed(old: int, new: int, session: int = 1) -> WeightChanged:
    return WeightChanged(
        realm=REALM,
        network_urn=NETWORK,
        spn_session_id=f"s{session}",
        service_urn=SERVICE,
        old_weight=old,
        new_weight=new,
    )


def test_weight_set(bench: Bench) -> None:
    """It is told and folded, and the choice follows; the same weight again is no event."""
    bench.provider(3)
    assert bench.session(1, SetWeight(300)) == ([changed(100, 300)], [])
    assert bench.session(1, SetWeight(300)) == ([], [])
    assert bench.fold.sessions["s1"].weight == 300
    chosen = [bench.session(2, open_request(4 * n))[1][0] for n in range(8)]
    assert Counter(c.provider for c in chosen if isinstance(c, OpenProviderStream)) == {1: 6, 3: 2}


def test_rolling_update(bench: Bench) -> None:
    """With 0 new connections go elsewhere; the last end of its own is told once."""
    first, second = bench.joined(2, 0, 1), bench.joined(2, 4, 5)
    bench.provider(3)
    assert bench.session(1, SetWeight(0)) == ([changed(100, 0)], [])
    assert bench.session(2, open_request(8))[1] == [OpenProviderStream(Key(2, 8), 3, "CN=client")]
    assert bench.connection(first, cut())[1] == [ForgetConnection(first)]
    assert bench.connection(second, cut())[1] == [ForgetConnection(second), SendPacket(1, AllConnectionsClosed())]
    bench.hub(StopHub())


def test_nothing_to_wait_for(bench: Bench) -> None:
    """Without connections the answer comes at once, also when it is asked again."""
    assert bench.session(1, SetWeight(0)) == ([changed(100, 0)], [SendPacket(1, AllConnectionsClosed())])
    assert bench.session(1, SetWeight(0)) == ([], [SendPacket(1, AllConnectionsClosed())])
    reason = f"{SERVICE} has no provider now"
    assert bench.session(2, open_request())[1] == [RefuseConnection(Key(2, 0), Code.NO_PROVIDER, reason)]


def test_back_again(bench: Bench) -> None:
    """A weight above 0 brings it back; then an empty session says nothing."""
    key = bench.joined()
    bench.session(1, SetWeight(0))
    assert bench.session(1, SetWeight(5)) == ([changed(0, 5)], [])
    assert bench.connection(key, cut())[1] == [ForgetConnection(key)]
    assert bench.session(2, open_request(4))[1] == [OpenProviderStream(Key(2, 4), 1, "CN=client")]


def test_weight_0_from_the_start(bench: Bench) -> None:
    """It gets none, and isn't told of what it never had."""
    asked = request(3, PROVIDER, weight=0)
    assert SendPacket(3, AllConnectionsClosed()) not in bench.hub(asked)[1]
    assert bench.session(2, open_request())[1] == [OpenProviderStream(Key(2, 0), 1, "CN=client")]


@pytest.mark.parametrize(
    ("session", "role", "weight", "reason"),
    [(2, CONSUMER, 5, "a consumer has no weight"), (1, PROVIDER, -1, "a weight is at least 0")],
)
def test_weights_that_make_no_sense(bench: Bench, session: int, role: object, weight: int, reason: str) -> None:
    """They end the session that sent them."""
    assert bench.session(session, SetWeight(weight)) == (
        [session_ended(session, PROVIDER if role is PROVIDER else CONSUMER, FAILED, Code.PROTOCOL, reason)],
        [CloseSession(session, Code.PROTOCOL, reason)],
    )


def test_session_that_is_ending(bench: Bench) -> None:
    """Its weight doesn't matter any more."""
    key = bench.joined()
    assert bench.session(1, SessionInvalidated("x"))[1] == [AbortConnection(key, Code.WITHDRAWN)]
    assert bench.session(1, SetWeight(0)) == ([], [])


def test_shares_of_many() -> None:
    """Weights 100, 200 and 0, and changes in mid-run: each choice is the rule's, the counts are the shares."""
    bench = Bench()
    weights = {1: 100, 3: 200, 4: 0}
    for session, weight in weights.items():
        bench.provider(session, weight=weight)
    consumers = range(10, 13)
    for session in consumers:
        bench.consumer(session)
    legs = dict.fromkeys(weights, 0)
    for number in range(900):
        if number == 450:
            assert legs == {1: 150, 3: 300, 4: 0}
            weights |= {3: 0, 4: 100}
            bench.session(3, SetWeight(0))
            bench.session(4, SetWeight(100))
        expected = min(
            (session for session, weight in weights.items() if weight),
            key=lambda one: (Fraction(legs[one] + 1, weights[one]), -weights[one], one),
        )
        message = open_request(4 * number, connection_uid=uid(number))
        _, commands = bench.session(consumers[number % 3], message)
        assert isinstance(commands[0], OpenProviderStream)
        assert commands[0].provider == expected
        legs[expected] += 1
    assert legs == {1: 300, 3: 300, 4: 300}

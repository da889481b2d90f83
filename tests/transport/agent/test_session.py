"""The keeper: sessions one after the other, and when it gives up."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from spnhub.actors.codes import Code
from spnhub.transport.agent.session import SessionKeeper
from spnhub.transport.errors import HubUnreachable, SessionLost, SessionRefused, SpnError
from tests.transport.agent.fakes import FakeEndpoint


class Script:
    """What the calls of ``create`` meet, one after the other."""

    def __init__(self, *outcomes: FakeEndpoint | SpnError | ValueError) -> None:
        self._outcomes = list(outcomes)

    async def __call__(self) -> FakeEndpoint:
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, FakeEndpoint):
            return outcome
        raise outcome


NOT_ALLOWED = SessionRefused(Code.NOT_ALLOWED, "CN=x may not provide urn:y", retryable=False)


async def test_story() -> None:
    """No hub, no provider, a session, its loss, the next session, and in the end a refusal for good."""
    first, second = FakeEndpoint("01"), FakeEndpoint("02")
    keeper = SessionKeeper(
        Script(
            HubUnreachable("no answer"),
            SessionRefused(Code.NO_PROVIDER, "none", retryable=True),
            first,
            second,
            NOT_ALLOWED,
        ),
        first_pause=0.001,
        longest_pause=0.004,
    )
    with capture_logs() as lines:
        running = asyncio.ensure_future(keeper.run())
        assert await keeper.wait() is first
        first.ended.set_result(SessionLost("the hub went away"))
        assert await keeper.wait(other_than=first) is second
        assert (keeper.current, first.closed, second.closed) == (second, True, False)
        second.ended.set_result(None)
        with pytest.raises(SessionRefused, match="NOT_ALLOWED"):
            await running
    assert (keeper.current, second.closed) == (None, True)
    assert lines == [
        {"event": "session.failed", "log_level": "warning", "reason": "no answer", "retryWithin": 0.001},
        {
            "event": "session.failed",
            "log_level": "warning",
            "reason": "session refused, NO_PROVIDER: none",
            "retryWithin": 0.001,
        },
        {"event": "session.established", "log_level": "info", "spnSessionId": "01"},
        {"event": "session.lost", "log_level": "warning", "spnSessionId": "01", "reason": "the hub went away"},
        {"event": "session.established", "log_level": "info", "spnSessionId": "02"},
        {"event": "session.lost", "log_level": "warning", "spnSessionId": "02", "reason": "an orderly end"},
    ]


async def test_end_for_good() -> None:
    """A session that ends for a reason which no retry changes is the keeper's end."""
    endpoint = FakeEndpoint()
    running = asyncio.ensure_future(SessionKeeper(Script(endpoint)).run())
    endpoint.ended.set_result(NOT_ALLOWED)
    with pytest.raises(SessionRefused):
        await running


async def test_unusable_arguments() -> None:
    """Are not retried."""
    with pytest.raises(ValueError, match="no name"):
        await SessionKeeper(Script(ValueError("no name"))).run()


async def test_cancelled() -> None:
    """The endpoint is closed."""
    endpoint = FakeEndpoint()
    keeper = SessionKeeper(Script(endpoint))
    running = asyncio.ensure_future(keeper.run())
    await keeper.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert endpoint.closed


async def test_last_session() -> None:
    """Told not to renew: the session that is up is the last, and its loss the end."""
    endpoint = FakeEndpoint()
    keeper = SessionKeeper(Script(endpoint))
    running = asyncio.ensure_future(keeper.run())
    await keeper.wait()
    keeper.stop_renewing()
    await asyncio.sleep(0)
    assert not running.done()
    endpoint.ended.set_result(SessionLost("the hub went away"))
    await running
    assert (keeper.current, endpoint.closed) == (None, True)


async def test_no_session_any_more() -> None:
    """Told not to renew while there is none, it ends at once, whatever it was waiting for; a cancel stays a cancel."""
    keeper = SessionKeeper(Script(HubUnreachable("no answer")), first_pause=60)
    running = asyncio.ensure_future(keeper.run())
    await asyncio.sleep(0.01)
    keeper.stop_renewing()
    await running
    await keeper.run()
    keeper = SessionKeeper(Script(HubUnreachable("no answer")), first_pause=60)
    running = asyncio.ensure_future(keeper.run())
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

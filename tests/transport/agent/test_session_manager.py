"""The session manager: one endpoint, whether it has a session, what the log says of it, and when it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from spnhub.actors.contract.codes import Code
from spnhub.transport.agent.session_manager import SessionManager
from spnhub.transport.endpoint.core.listener import ConnectionChange
from spnhub.transport.endpoint.session.credentials import CredentialsChange
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.endpoint.session.states import SESSION_TABLE, SessionState
from spnhub.transport.errors import HandshakeRejected, HubUnreachable, SessionLost, SessionRejected, SpnError
from tests.transport.agent.fakes import FakeEndpoint

S = SessionState
ONE, TWO = ("10.0.0.1", 443), ("2001:db8::1", 443)
NOT_ALLOWED = SessionRejected(Code.NOT_ALLOWED, "CN=x may not provide urn:y", retryable=False)


class Bench:
    """A manager whose endpoint comes, and changes, when the test says so."""

    def __init__(self) -> None:
        self.made: asyncio.Future[FakeEndpoint] = asyncio.get_running_loop().create_future()
        self.manager = SessionManager(self._create)
        self.running = asyncio.ensure_future(self.manager.run())
        self.on_session: Callable[[SessionChange], None]
        self.on_connection: Callable[[ConnectionChange], None]

    async def _create(
        self, on_session: Callable[[SessionChange], None], on_connection: Callable[[ConnectionChange], None]
    ) -> FakeEndpoint:
        self.on_session, self.on_connection = on_session, on_connection
        return await self.made

    def session(
        self, old: SessionState, new: SessionState, error: SpnError | None = None, address: tuple[str, int] = ONE
    ) -> None:
        self.on_session(SessionChange(address, old, new, "01", "h1", error))

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@pytest.fixture
async def bench() -> Bench:
    """Its endpoint is being made."""
    bench = Bench()
    await asyncio.sleep(0)
    return bench


async def test_established(bench: Bench) -> None:
    """As soon as it is made and one of its sessions is up, until the last is not."""
    endpoint = FakeEndpoint()
    waiting = asyncio.ensure_future(bench.manager.wait_established())
    bench.session(S.SESSION_CONNECTING, S.ESTABLISHED)
    await asyncio.sleep(0.01)
    assert (waiting.done(), bench.manager.established, bench.manager.current) == (False, False, None)
    await bench.manager.wait_lost()
    bench.made.set_result(endpoint)
    assert await waiting is endpoint
    assert (bench.manager.established, bench.manager.current) == (True, endpoint)
    bench.session(S.SESSION_CONNECTING, S.ESTABLISHED, address=TWO)
    lost = asyncio.ensure_future(bench.manager.wait_lost())
    bench.session(S.ESTABLISHED, S.WAITING, SessionLost("gone"))
    await asyncio.sleep(0.01)
    assert (lost.done(), bench.manager.established) == (False, True)
    bench.session(S.ESTABLISHED, S.CLOSING, address=TWO)
    await lost
    assert (bench.manager.established, bench.manager.current) == (False, endpoint)
    waiting = asyncio.ensure_future(bench.manager.wait_established())
    bench.session(S.SESSION_CONNECTING, S.ESTABLISHED)
    assert await waiting is endpoint
    await bench.end()
    assert endpoint.closed


IDS = {"spnSessionId": "01", "hubId": "h1"}
WHERE = {"address": "10.0.0.1:443"}


@pytest.mark.parametrize(
    ("old", "new", "error", "line"),
    [
        (S.IP_FOUND, S.SESSION_CONNECTING, None, None),
        (S.WAITING, S.SESSION_CONNECTING, None, None),
        (S.SESSION_CONNECTING, S.ESTABLISHED, None, ("session.established", "info", WHERE | IDS)),
        (
            S.SESSION_CONNECTING,
            S.WAITING,
            HubUnreachable("no answer"),
            ("session.failed", "warning", WHERE | {"reason": "no answer"}),
        ),
        (
            S.SESSION_CONNECTING,
            S.FAILED,
            NOT_ALLOWED,
            ("session.failed", "warning", WHERE | {"reason": str(NOT_ALLOWED)}),
        ),
        (S.WAITING, S.FAILED, None, None),
        (S.SESSION_CONNECTING, S.CLOSED, None, None),
        (S.ESTABLISHED, S.WAITING, SessionLost("gone"), ("session.lost", "warning", WHERE | IDS | {"reason": "gone"})),
        (S.ESTABLISHED, S.FAILED, SessionLost("gone"), ("session.lost", "warning", WHERE | IDS | {"reason": "gone"})),
        (S.ESTABLISHED, S.CLOSING, None, ("session.closing", "info", WHERE | IDS)),
        (S.CLOSING, S.CLOSED, None, ("session.closed", "info", WHERE | IDS)),
        (S.CLOSING, S.CLOSED, SessionLost("gone"), ("session.lost", "warning", WHERE | IDS | {"reason": "gone"})),
    ],
)
async def test_session_lines(
    bench: Bench,
    old: SessionState,
    new: SessionState,
    error: SpnError | None,
    line: tuple[str, str, Mapping[str, Any]] | None,
) -> None:
    """One line at most for each change, with the address, and with the session's ids once it had them."""
    assert any(one[0] is old and arrow.to is new for one, arrow in SESSION_TABLE.items())
    with capture_logs() as lines:
        bench.session(old, new, error)
    expected = [] if line is None else [{"event": line[0], "log_level": line[1], **line[2]}]
    assert lines == expected
    await bench.end()


async def test_a_renewed_session_leaves_no_gap(bench: Bench) -> None:
    """The old one ends when the new one is there, at the same address: clients aren't held meanwhile."""
    bench.made.set_result(FakeEndpoint())
    bench.session(S.SESSION_CONNECTING, S.ESTABLISHED)
    await bench.manager.wait_established()
    bench.on_session(SessionChange(ONE, S.SESSION_CONNECTING, S.ESTABLISHED, "02", "h1", None))
    lost = asyncio.ensure_future(bench.manager.wait_lost())
    bench.session(S.ESTABLISHED, S.CLOSING)
    bench.session(S.CLOSING, S.CLOSED)
    await asyncio.sleep(0.01)
    assert (lost.done(), bench.manager.established) == (False, True)
    bench.on_session(SessionChange(ONE, S.ESTABLISHED, S.WAITING, "02", "h1", SessionLost("gone")))
    await lost
    await bench.end()


async def test_time_is_told_when_it_changes(bench: Bench) -> None:
    """Whose certificate, its dates and the clock: once, and again when it is another, or after something else."""

    def rejected(end: str, clock: str) -> HandshakeRejected:
        reason = f"client certificate has expired at {end}; the hub's clock says {clock}"
        return HandshakeRejected(45, reason, by_hub=True, about_time=True)

    news = [
        (rejected("noon", "1"), True),
        (rejected("noon", "2"), False),
        (rejected("midnight", "3"), True),
        (rejected("midnight", "4"), False),
        (HubUnreachable("no answer"), True),
        (HubUnreachable("no answer"), False),
        (rejected("midnight", "5"), True),
        (HandshakeRejected(45, "hub certificate has expired at …", by_hub=False, about_time=True), True),
        (HandshakeRejected(48, "unknown", by_hub=True), True),
        (HandshakeRejected(48, "unknown", by_hub=True), False),
    ]
    for error, told in news:
        with capture_logs() as lines:
            bench.session(S.SESSION_CONNECTING, S.WAITING, error)
            bench.session(S.WAITING, S.SESSION_CONNECTING)
        assert [line["reason"] for line in lines] == [str(error)] * told
    await bench.end()


async def test_certificate_lines(bench: Bench) -> None:
    """What becomes of the files; and they are read anew when that is asked for, as soon as there is an endpoint."""
    await bench.manager.renew()
    with capture_logs() as lines:
        for kind in ("renewed", "usable", "unusable", "expiring"):
            bench.manager.on_credentials(CredentialsChange(kind, "what"))
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("certificate.renewed", "info"),
        ("certificate.usable", "info"),
        ("certificate.unusable", "warning"),
        ("certificate.expiring", "warning"),
    ]
    endpoint = FakeEndpoint()
    bench.manager.made(endpoint)
    await bench.manager.renew()
    assert endpoint.renewals == 1
    await bench.end()


async def test_connection_lines(bench: Bench) -> None:
    """What the log says of a connection that changes its hub."""
    with capture_logs() as lines:
        bench.on_connection(ConnectionChange("0" * 32, 0, "paused", 0.0, "the hub is gone"))
        bench.on_connection(ConnectionChange("0" * 32, 1, "resumed", 0.12345, ""))
        bench.on_connection(ConnectionChange("0" * 32, 1, "lost", 60.0, "no hub"))
    uid = {"log_level": "info", "connectionUid": "0" * 32}
    assert lines == [
        {"event": "connection.paused", "epoch": 0, "seconds": 0.0, "reason": "the hub is gone", **uid},
        {"event": "connection.resumed", "epoch": 1, "seconds": 0.123, **uid},
        {"event": "connection.lost", "epoch": 1, "seconds": 60.0, "reason": "no hub", **uid},
    ]
    await bench.end()


async def test_address_comes_back(bench: Bench) -> None:
    """The old session's end says nothing of the new one at the same address."""
    bench.made.set_result(FakeEndpoint())
    await bench.manager.wait_lost()
    bench.session(S.SESSION_CONNECTING, S.ESTABLISHED)
    bench.session(S.ESTABLISHED, S.CLOSING)
    assert not bench.manager.established
    bench.session(S.SESSION_CONNECTING, S.ESTABLISHED)
    bench.session(S.CLOSING, S.CLOSED)
    await bench.manager.wait_established()
    await bench.end()


async def test_refused_for_good(bench: Bench) -> None:
    """Before there was a session."""
    bench.made.set_exception(NOT_ALLOWED)
    with pytest.raises(SessionRejected, match="NOT_ALLOWED"):
        await bench.running


async def test_unusable_arguments(bench: Bench) -> None:
    """Are not retried."""
    bench.made.set_exception(ValueError("no name"))
    with pytest.raises(ValueError, match="no name"):
        await bench.running


async def test_end_for_good(bench: Bench) -> None:
    """An endpoint that has failed for good is the manager's end; it is closed."""
    endpoint = FakeEndpoint()
    bench.made.set_result(endpoint)
    endpoint.over.set_exception(NOT_ALLOWED)
    with pytest.raises(SessionRejected):
        await bench.running
    assert endpoint.closed


async def test_cancelled_while_it_is_made(bench: Bench) -> None:
    """Nothing is left behind."""
    await bench.end()
    assert (bench.made.cancelled(), bench.manager.current) == (True, None)

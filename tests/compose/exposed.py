"""What Prometheus gets of a hub and of ``spnlog serve`` after a history that touches every number."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime
from typing import Any

import httpx2

from spnhub.analytics.totals import Place, Total
from spnhub.events.analysis.metrics import LogMetrics as Folded
from spnhub.events.kafka.settings import ShipperStatus
from spnhub.events.model import (
    ConnectionLost,
    ConnectionPaused,
    ConnectionResumed,
    DisconnectReason,
    EndPointType,
    Event,
    ResumeRefused,
)
from spnhub.exposition import text
from spnhub.ops.expiry import CertificateEnd
from spnhub.ops.metrics import HubMetrics
from spnhub.ops.server import Ops
from spnhub.ops.state import Progress
from tests.events.samples import (
    EACH,
    LATER,
    NETWORK,
    SERVICE,
    connection_ended,
    connection_finished,
    connection_progress,
    connection_started,
    record,
    session_refused,
    session_started,
)

__all__ = ["exposed", "history", "resumption"]

_UID = "ef" * 16


def resumption(uid: str = _UID, *, arrived: tuple[int, int] = (60, 1000)) -> list[Event]:
    """A connection that lost its hub's path after 100 bytes one way and 2,000 the other, of which less arrived."""
    leg: dict[str, Any] = {
        "realm": "acme",
        "network_urn": NETWORK,
        "spn_connection_id": "4-1",
        "consumer_side_spn_session_id": "c1",
        "provider_side_spn_session_id": "p1",
        "service_urn": SERVICE,
        "connection_uid": uid,
    }
    return [
        connection_started(uid),
        ConnectionPaused(**leg, epoch=0, sent_offset=100, receive_offset=2000, planned=False),
        connection_ended(uid, reason=DisconnectReason.ERROR, suspended=True),
        connection_started(uid, epoch=1, start=arrived),
        ConnectionResumed(**leg, epoch=1, sent_offset=arrived[0], receive_offset=arrived[1]),
        connection_progress(uid, epoch=1, start=arrived),
        connection_ended(uid, epoch=1, start=arrived, told=(60, 1500)),
    ]


def history() -> list[Event]:
    """Something of everything that is counted; in the end a session of each kind and a connection are open."""
    said: dict[str, Any] = {"realm": "acme", "network_urn": NETWORK, "service_urn": SERVICE, "spn_session_id": "c1"}
    return [
        *EACH,
        *LATER,
        dataclasses.replace(session_refused(), service_urn=SERVICE, realm="acme", alert=None, code=16),
        session_started("p1", EndPointType.PROVIDER),
        session_started("c1"),
        *resumption(),
        # What arrived was more than the end of a leg had told.
        *resumption("0e" * 16, arrived=(160, 3000)),
        ConnectionLost(
            **said, connection_uid=_UID, epoch=1, sent_offset=0, receive_offset=0, code=36, reason="in time"
        ),
        ResumeRefused(
            **said,
            spn_end_point="CN=c1",
            end_point_type=EndPointType.CONSUMER,
            connection_uid=_UID,
            epoch=2,
            code=33,
            reason="unknown",
        ),
        connection_started("1b" * 16, ident="8-1"),
        connection_ended("1b" * 16, ident="8-1", reason=DisconnectReason.ERROR, suspended=True),
        # The end was in order, and more had arrived one way, less the other.
        connection_finished("1b" * 16, epoch=3, at=(140, 1900)),
        connection_started("0f" * 16, ident="8-5"),
    ]


def exposed() -> list[str]:
    """Both texts."""
    recorded = record(history())
    metrics, folded = HubMetrics(), Folded()
    for one in recorded:
        metrics.count(one.event)
        folded.apply(one)

    def progress() -> Progress:
        shipper = ShipperStatus(state="shipped")
        return Progress(len(recorded), len(recorded), shipper, size=5 << 20, limit=4 << 30)

    def nothing() -> None:
        raise AssertionError("the state isn't asked for")

    end = CertificateEnd("hub", "acme", NETWORK, "CN=hub.example", datetime(2100, 1, 1, tzinfo=UTC))
    faults = {"turn": 1}
    ops = Ops(
        lambda: True,
        nothing,  # type: ignore[arg-type] # never called
        progress,
        metrics,
        lambda: 0,
        lambda: faults,
        lambda: (end,),
    )
    place = Place("0", ready=True, position=1, lag=0, delay=0.0, redelivered=0, unreadable=0)
    return [_get(ops), text(Total([folded], [place]).metrics()).decode()]


def _get(ops: Ops) -> str:
    async def run() -> str:
        transport = httpx2.ASGITransport(ops.application())
        async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as client:
            answer = await client.get("/metrics")
            answer.raise_for_status()
            return answer.text

    return asyncio.run(run())

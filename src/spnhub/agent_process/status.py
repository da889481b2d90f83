"""What the agents of a process are doing, as JSON and as numbers.

Counterpart: :mod:`spnhub.agent_process.ops` answers with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from spnhub.agent_process.host import Slot
from spnhub.agent_process.running import RunningProvider
from spnhub.agent_settings import ConsumerSettings
from spnhub.dataclass import dataclass
from spnhub.exposition import filled
from spnhub.transport.agent.bridges import Traffic
from spnhub.transport.pem import date_text
from spnhub.transport.system.ip import host_port
from spnhub.version import VERSION

__all__ = ["AgentStatus", "look", "numbers", "to_json"]

_PREFIX: Final = "spnagent_"
_LABELS: Final = ("agent", "role", "service_urn")
_NONE: Final = Traffic(0, {}, 0, 0)


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One agent, now."""

    name: str
    role: str
    service_urn: str
    hub_url: str
    where: dict[str, object]
    """Where it meets its programs."""
    fault: str | None
    """Why traffic can't pass; None: it can."""
    failed: bool
    """It isn't running, and is tried again."""
    sessions: tuple[dict[str, str], ...]
    connections: int
    traffic: Traffic
    weight: int | None
    """As set; of a provider."""
    healthy: bool | None
    """What the checks of its server say; None: there are none."""
    subject: str
    end: datetime | None
    """Of the certificate that it presents."""

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the families' labels."""
        return self.name, self.role, self.service_urn


def look(slot: Slot) -> AgentStatus:
    """How the agent in it does. Costs time for each open connection."""
    settings, running = slot.settings, slot.current
    role = "consumer" if isinstance(settings, ConsumerSettings) else "provider"
    endpoint = None if running is None else running.endpoint
    checks = isinstance(running, RunningProvider) and running.settings.health is not None
    return AgentStatus(
        name=slot.name or role,
        role=role,
        service_urn=settings.service_urn,
        hub_url=settings.hub_url,
        where={} if running is None else running.where,
        fault=slot.fault,
        failed=running is None,
        sessions=()
        if running is None
        else tuple(
            {"address": host_port(*address), "spnSessionId": uid, "hubId": hub}
            for (address, uid), hub in running.manager.sessions.items()
        ),
        connections=0 if running is None else running.agent.connections,
        traffic=_NONE if running is None else running.agent.traffic(),
        weight=running.settings.weight if isinstance(running, RunningProvider) else None,
        healthy=running.agent.healthy if isinstance(running, RunningProvider) and checks else None,
        subject="" if endpoint is None else endpoint.certificate_subject,
        end=None if endpoint is None else endpoint.certificate_end,
    )


def to_json(agents: Iterable[AgentStatus]) -> dict[str, Any]:
    """For ``/status``."""
    return {"version": VERSION, "agents": [_object(one) for one in agents]}


def _object(one: AgentStatus) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": one.name,
        "role": one.role,
        "serviceUrn": one.service_urn,
        "hubUrl": one.hub_url,
        **one.where,
        "state": "failed" if one.failed else "ready" if one.fault is None else "waiting",
        "reason": one.fault,
        "sessions": list(one.sessions),
        "connections": one.connections,
        "connectionsOpened": one.traffic.opened,
        "connectionsRefused": dict(one.traffic.refused),
        "bytesToHub": one.traffic.to_hub,
        "bytesFromHub": one.traffic.from_hub,
    }
    if one.weight is not None:
        found["weight"] = one.weight
    if one.healthy is not None:
        found["healthy"] = one.healthy
    if one.end is not None:
        found["certificate"] = {
            "subject": one.subject,
            "notAfter": date_text(one.end),
            "days": round(_days(one.end), 3),
        }
    return found


def _days(end: datetime) -> float:
    return (end - datetime.now(UTC)) / timedelta(days=1)


def numbers(agents: Iterable[AgentStatus], dropped: int) -> Iterable[Metric]:
    """For ``/metrics``.

    :param dropped: log lines that whoever reads them was too slow for.
    """
    found = list(agents)
    gauges: dict[str, tuple[str, dict[tuple[str, ...], float]]] = {
        "ready": ("Whether traffic can pass.", {one.labels: float(one.fault is None) for one in found}),
        "sessions": ("Sessions that are up.", {one.labels: len(one.sessions) for one in found}),
        "connections": ("Open connections.", {one.labels: one.connections for one in found}),
        "weight": (
            "The share of new connections that a provider is set to.",
            {one.labels: one.weight for one in found if one.weight is not None},
        ),
        "backend_healthy": (
            "Whether the server of a provider passes its checks.",
            {one.labels: float(one.healthy) for one in found if one.healthy is not None},
        ),
        "certificate_expiry_days": (
            "Days until the certificate of an agent expires.",
            {one.labels: round(_days(one.end), 3) for one in found if one.end is not None},
        ),
    }
    for name, (help_text, values) in gauges.items():
        yield filled(GaugeMetricFamily(_PREFIX + name, help_text, labels=_LABELS), values)
    yield filled(
        CounterMetricFamily(_PREFIX + "connections_opened", "Connections so far.", labels=_LABELS),
        {one.labels: one.traffic.opened for one in found},
    )
    yield filled(
        CounterMetricFamily(
            _PREFIX + "connections_refused", "Connections that were refused, by why.", labels=(*_LABELS, "code_name")
        ),
        {(*one.labels, code): count for one in found for code, count in one.traffic.refused.items()},
    )
    yield filled(
        CounterMetricFamily(_PREFIX + "bytes", "Bytes that were carried.", labels=(*_LABELS, "direction")),
        {
            (*one.labels, direction): number
            for one in found
            for direction, number in (("to_hub", one.traffic.to_hub), ("from_hub", one.traffic.from_hub))
        },
    )
    yield CounterMetricFamily(
        _PREFIX + "output_dropped_lines", "Log lines that standard output didn't take in time.", value=dropped
    )

"""``spnagent check``: what is wrong with the agents of a file, before they run or while they do.

Of each: its certificate's days, a session with its hub (of a provider with weight 0, so that it is given nothing), and
its server. Nothing listens. Counterparts: :mod:`spnhub.cli.host_file` reads the file, ``spnhub check`` is the hub's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from spnhub.actors.contract.protocols import SC01
from spnhub.agent_settings import OPTION_NAMES, AgentSettings, ConsumerSettings, ProviderSettings
from spnhub.dataclass import dataclass
from spnhub.streams import ReaderLeft, say, say_json
from spnhub.transport.agent.health import HealthCheck, HealthWatch
from spnhub.transport.agent.tcp import Connector
from spnhub.transport.endpoint.api.config import Runtime
from spnhub.transport.endpoint.api.consumer import create_consumer_endpoint, create_provider_endpoint
from spnhub.transport.endpoint.api.endpoint import Endpoint
from spnhub.transport.errors import SpnError
from spnhub.transport.pem import date_text

__all__ = ["CHECK_DAYS", "Found", "run"]

CHECK_DAYS: Final = 30
"""From so many days before on an expiry is a warning."""
SESSION_TIME: Final = 10.0
"""Seconds for a session."""
REFUSAL_TIME: Final = 1.0
"""Seconds that a hub of sc01 has to refuse it."""
AT_ONCE: Final = 16
"""Agents that are looked at at one time."""
_DAY: Final = timedelta(days=1)


@dataclass(slots=True)
class Found:
    """Of one agent."""

    name: str
    service_urn: str
    session: str = ""
    """With which hub there was one."""
    subject: str = ""
    end: datetime | None = None
    server: str = ""
    """Which one answers."""
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def days(self) -> float | None:
        """Until its certificate expires."""
        return None if self.end is None else (self.end - datetime.now(UTC)) / _DAY

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        found: dict[str, Any] = {"name": self.name, "serviceUrn": self.service_urn, "faults": list(self.faults)}
        found |= {"warnings": list(self.warnings), "session": self.session or None, "server": self.server or None}
        if self.end is not None and (days := self.days()) is not None:
            found["certificate"] = {
                "subject": self.subject,
                "notAfter": date_text(self.end),
                "days": round(days, 3),
            }
        return found


async def run(agents: Mapping[str, AgentSettings], *, as_json: bool, fail_days: int | None) -> int:
    """Check them; the exit status: 1 with faults."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def look(name: str, settings: AgentSettings) -> Found:
        async with gate:
            return await _look(name, settings, fail_days)

    found = await asyncio.gather(*(look(name, settings) for name, settings in agents.items()))
    # The verdict is the status, however much of the text is read.
    with contextlib.suppress(ReaderLeft):
        if as_json:
            say_json({"agents": [one.to_json() for one in found]})
        else:
            _print(found)
    return 1 if any(one.faults for one in found) else 0


def _print(found: Iterable[Found]) -> None:
    for one in found:
        days = one.days()
        facts = [
            f"session with {one.session}" if one.session else "",
            f"certificate {one.subject} expires in {days:.1f} days" if days is not None else "",
            f"{one.server} answers" if one.server else "",
        ]
        say(f"{one.name}: {'; '.join(fact for fact in facts if fact) or 'nothing was reached'}")
        for warning in one.warnings:
            say(f"warning: {one.name}: {warning}", error=True)
        for fault in one.faults:
            say(f"{one.name}: {fault}", error=True)


async def _look(name: str, settings: AgentSettings, fail_days: int | None) -> Found:
    found = Found(name, settings.service_urn)
    faults = [fault for fault in (await _meet(settings, found), await _reach(settings, found)) if fault]
    days = found.days()
    if days is not None and found.end is not None and days <= max(CHECK_DAYS, fail_days or 0):
        what = f"expires in {days:.1f} days" if days >= 0 else f"expired {-days:.1f} days ago"
        text = f"certificate {found.subject} {what}, at {date_text(found.end)}"
        if fail_days is not None and days <= fail_days:
            faults.append(text)
        else:
            found.warnings = (text,)
    found.faults = tuple(faults)
    return found


async def _meet(settings: AgentSettings, found: Found) -> str | None:
    """Have a session; what is in the way of one."""

    def made(endpoint: Endpoint) -> None:
        found.subject, found.end = endpoint.certificate_subject, endpoint.certificate_end

    # Another instance: one that runs with the id of the settings isn't to be driven out.
    options = dataclasses.replace(settings.endpoint, instance_id=None, wait_for_hub=False)
    given = settings.arguments() | {"options": options, "runtime": Runtime(made=made, names=OPTION_NAMES)}
    try:
        async with asyncio.timeout(SESSION_TIME):
            endpoint: Endpoint
            if isinstance(settings, ConsumerSettings):
                endpoint = await create_consumer_endpoint(**given)
            else:
                endpoint = await create_provider_endpoint(**given, weight=0)
        if settings.endpoint.protocol == SC01:
            # Such a hub says no after the session is there, and never yes.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFUSAL_TIME):
                    await endpoint.wait_closed()
    except TimeoutError:
        return f"no session with {settings.hub_url} within {SESSION_TIME:g} s"
    except (SpnError, ValueError) as exc:
        return f"no session with {settings.hub_url}: {exc}"
    addresses = ", ".join(f"{host} port {port}" for host, port in endpoint.sessions)
    found.session = f"{endpoint.hub_id or 'a hub'} ({addresses})"
    await endpoint.close()
    return None


async def _reach(settings: AgentSettings, found: Found) -> str | None:
    """Check the server of a provider, as it is checked while it runs, or by connecting."""
    if not isinstance(settings, ProviderSettings):
        return None
    connector = Connector()

    async def nothing() -> None:
        """One check has no row."""

    try:
        check = settings.health or HealthCheck(timeout=settings.limits.connect)
        fault = await HealthWatch(check, settings.forward_address, connector, nothing).check()
    finally:
        connector.close()
    if fault is None:
        found.server = str(settings.forward_address)
        return None
    return f"server {settings.forward_address}: {fault}"

"""The agents inside a program: a TCP server behind a service, or a service behind an address of TCP or unix(7).

Counterpart: :mod:`spnhub.agent_process.running`, which the commands have of them, too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from spnhub.agent_process.running import RunningAgent, RunningConsumer, RunningProvider
from spnhub.agent_settings import ConsumerSettings, ProviderSettings
from spnhub.library.environment import endpoint_settings
from spnhub.transport.endpoint.session.credentials import Pem
from spnhub.transport.errors import ConfigurationError
from spnhub.transport.system.socket_address import SocketAddress, parse_listening, parse_server

__all__ = ["forward", "listen"]


async def forward(
    address: str,
    *,
    service: str | None = None,
    hub_url: str | None = None,
    certificate: Pem | None = None,
    certificate_key: Pem | None = None,
    trust: Pem | None = None,
    **options: Any,
) -> None:
    """Provide a service with a TCP server, as ``spnagent provider`` does, until cancelled.

    ::

        asyncio.run(spnhub.forward("127.0.0.1:8000", service="urn:chip-in:service:acme:tokyo:hello"))

    :param address: ``HOST:PORT`` or ``unix:/PATH``.
    :param options: of the command, ``weight=50``, ``health_check="tcp"``.

    For the rest see :func:`spnhub.serve`.
    """
    given = {"service_urn": service, "hub_url": hub_url, "certificate": certificate, "trust": trust}
    given |= {"certificate_key": certificate_key, "forward_address": _parsed(parse_server, address), **options}
    running = RunningProvider(endpoint_settings(ProviderSettings, given, os.environ))
    await _live(running)


@asynccontextmanager
async def listen(
    address: str = "127.0.0.1:0",
    *,
    service: str | None = None,
    hub_url: str | None = None,
    certificate: Pem | None = None,
    certificate_key: Pem | None = None,
    trust: Pem | None = None,
    **options: Any,
) -> AsyncIterator[list[SocketAddress]]:
    """Use a service by an address of this host, as ``spnagent consumer`` does: for clients that make their own sockets.

    ::

        async with spnhub.listen(service="urn:chip-in:service:acme:tokyo:db") as [address]:
            database = await asyncpg.connect(host=address.host, port=address.port)

    :param address: ``HOST:PORT``, port 0: a free one; or ``unix:/PATH``.
    :param options: of the command, ``idle_timeout=10.0``.

    For the rest see :func:`spnhub.serve`.
    """
    given = {"service_urn": service, "hub_url": hub_url, "certificate": certificate, "trust": trust}
    given |= {"certificate_key": certificate_key, "bind_address": _parsed(parse_listening, address), **options}
    running = RunningConsumer(endpoint_settings(ConsumerSettings, given, os.environ))
    living = asyncio.ensure_future(running.run())
    try:
        yield running.agent.addresses
    finally:
        running.stop()
        await living


async def _live(running: RunningAgent) -> None:
    living = asyncio.ensure_future(running.run())
    try:
        await asyncio.shield(living)
    finally:
        running.stop()
        await living


def _parsed(parse: Any, address: str) -> Any:
    try:
        return parse(address)
    except ValueError as exc:
        raise ConfigurationError(f"address: {exc}") from exc

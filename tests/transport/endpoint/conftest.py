"""Endpoints and a scripted hub on a network in memory, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from spnhub.transport.endpoint.api.config import Driver, Runtime
from spnhub.transport.endpoint.api.consumer import (
    ConsumerEndpoint,
    ProviderEndpoint,
    create_consumer_endpoint,
    create_provider_endpoint,
)
from spnhub.transport.endpoint.core.listener import ConnectionChange
from spnhub.transport.endpoint.options import EndpointOptions
from spnhub.transport.endpoint.session.credentials import CredentialNames, Credentials
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.engine import ClientPolicy, Engine, EngineEvent, Limits, ServerIdentity, ServerPolicy
from spnhub.transport.errors import ConfigurationError
from tests.support.fake_engine import FakeEngine, FakeWire, fake_ca, fake_certificate
from tests.support.fake_network import FakeNetwork, FakeNode, LoopClock
from tests.support.virtual_loop import VirtualLoop
from tests.transport.endpoint.hub_script import HUB, ScriptedHub

URL = "https://hub.test:443"
URN = "urn:chip-in:service:realm:hub:echo"
CONSUMER = fake_certificate("CN=consumer", "clients")
PROVIDER = fake_certificate("CN=provider", "clients")
KEY = b"key"
TRUST = fake_ca("servers")
SECOND = ("192.0.2.2", 443)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Virtual time for the tests of this folder, save those with real sockets."""
    if item.get_closest_marker("system"):
        return {"real": asyncio.new_event_loop}
    return {"virtual": VirtualLoop}


def fake_judge(
    certificate: bytes, key: bytes, trust: bytes | None, server_name: str, alpn: tuple[str, ...], names: CredentialNames
) -> Credentials:
    """Certificates of the fake engine; ``b"unusable"`` can't be used."""
    if certificate == b"unusable":
        raise ConfigurationError(f"{names.certificate} can't be used")
    _, _, subject = certificate.partition(b"|")
    return Credentials(ClientPolicy(server_name, alpn, certificate, key, trust), subject.decode())


class World:
    """A network with one hub; makes endpoints."""

    def __init__(self) -> None:
        self.wire = FakeWire()
        self.network = FakeNetwork(LoopClock(), latency=0.005)
        self.hub = self.new_hub()
        self.hubs = {HUB: self.hub}
        """The newest at each address."""
        self.nodes: list[FakeNode] = []
        self.addresses: list[tuple[str, int]] = [HUB]
        self.endpoints: list[ConsumerEndpoint | ProviderEndpoint] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.resume_timeout = 60.0
        self.on_session: Callable[[SessionChange], None] | None = None
        self.on_connection: Callable[[ConnectionChange], None] | None = None
        self._random = random.Random(1)

    def new_hub(self, address: tuple[str, int] = HUB) -> ScriptedHub:
        """A hub at ``address`` (in place of one that has crashed)."""
        engine = FakeEngine(self.wire, Limits())
        identity = ServerIdentity(fake_certificate("CN=hub.test", "servers"), KEY, fake_ca("clients"), ("spn/1",))
        engine.set_policy(ServerPolicy({"hub.test": identity}))
        return ScriptedHub(self.network, engine, address)

    def add_hub(self, address: tuple[str, int] = SECOND) -> ScriptedHub:
        """A hub at ``address``, which endpoints will find; also in place of one that has crashed."""
        hub = self.hubs[address] = self.new_hub(address)
        hub.hub_id = f"hub-{address[0]}"
        if address not in self.addresses:
            self.addresses.append(address)
        return hub

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """Every name is the hubs'."""
        return list(self.addresses)

    @property
    def runtime(self) -> Runtime:
        """What endpoints of this world run on."""

        def build(options: EndpointOptions, on_events: Callable[[list[EngineEvent]], None]) -> tuple[Engine, Driver]:
            engine = FakeEngine(self.wire, options.limits)
            node = FakeNode(self.network, engine, on_events)
            self.nodes.append(node)
            return engine, node

        async def resolve(host: str, port: int) -> list[tuple[str, int]]:
            # Looked up each time: a test may replace it.
            return await self.resolve(host, port)

        return Runtime(build, resolve, self._random.random, fake_judge)

    async def consumer(
        self,
        *,
        certificate: bytes = CONSUMER,
        url: str = URL,
        retries: int | None = None,
        wait_for_hub: bool = False,
        instance_id: str | None = None,
    ) -> ConsumerEndpoint:
        """A consumer with its session."""
        endpoint = await create_consumer_endpoint(
            url,
            URN,
            certificate,
            KEY,
            TRUST,
            retries=retries,
            wait_for_hub=wait_for_hub,
            instance_id=instance_id,
            resume_timeout=self.resume_timeout,
            on_session=self.on_session,
            on_connection=self.on_connection,
            runtime=self.runtime,
        )
        self.endpoints.append(endpoint)
        return endpoint

    async def provider(self, *, weight: int = 100, retries: int | None = None) -> ProviderEndpoint:
        """A provider with its session."""
        endpoint = await create_provider_endpoint(
            URL,
            URN,
            PROVIDER,
            KEY,
            TRUST,
            weight=weight,
            retries=retries,
            resume_timeout=self.resume_timeout,
            on_session=self.on_session,
            on_connection=self.on_connection,
            runtime=self.runtime,
        )
        self.endpoints.append(endpoint)
        return endpoint


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A hub, and whatever the test adds; all closed at the end."""
    made = World()
    yield made
    for writer in made.writers:
        writer.transport.abort()
    for endpoint in made.endpoints:
        await endpoint.close()

"""A whole small world of real processes: development CA, inventory, hubs, agents; and at its end, the books.

Everything is what a user would run (:mod:`tests.support.command`); TCP programs are those of :mod:`tests.support.tcp`.
A test ends with :meth:`World.end`, which stops all in order and holds the journal against what was printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import socket
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import yaml

from spnhub import ConsumerEndpoint, ProviderEndpoint, create_consumer_endpoint, create_provider_endpoint
from spnhub.events.analysis.log_lines import event_line, lifecycle_line
from spnhub.events.analysis.merge import merge
from spnhub.events.analysis.source import open_source
from spnhub.events.analysis.verify import verify
from spnhub.events.model import Recorded
from spnhub.pki import Authority, IssuedCredentials
from spnhub.transport.endpoint.api.config import Runtime
from tests.support.command import BIN, Command, Line
from tests.support.namespaces import Files, Host
from tests.support.tcp import TcpPeer, TcpServer

__all__ = ["LIFECYCLE", "Consumer", "Document", "Place", "World", "free_udp_port", "lifecycle", "service_document"]

Document = dict[str, Any]
"""An object of the inventory."""

LIFECYCLE = ("startSpnSession", "endSpnSession", "startSpnConnection", "endSpnConnection")

_REALM, _NETWORK = "acme", "main"
_FQDN = "localhost"
_EPHEMERAL = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
"""From here on the kernel gives ports to sockets that don't ask for one."""
_STRUCTLOG = {"event", "level", "logger"}
"""What structlog adds to a lifecycle line; its timestamp is the event's own."""


def free_udp_port(host: str) -> int:
    """A UDP port that is free now, and that no client's socket gets while a hub that has it is started again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(100):
        with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.bind((host, random.randrange(10_000, _EPHEMERAL)))
            return int(sock.getsockname()[1])
    raise OSError(f"no port below {_EPHEMERAL} is free at {host}")


def lifecycle(lines: Sequence[Line]) -> list[Line]:
    """The lifecycle lines among printed ones, without structlog's own fields."""
    return [
        {name: value for name, value in line.items() if name not in _STRUCTLOG}
        for line in lines
        if line.get("eventType") in LIFECYCLE
    ]


def service_document(name: str, **fields: Any) -> Document:
    """A service that the subjects ``provider`` and ``consumer`` may play their role for; ``fields`` are the API's."""
    return {"name": name, "title": name, "provider": "provider", "consumers": ["consumer"], **fields}


class Place(NamedTuple):
    """Where an agent runs."""

    address: str
    """An address that it can listen on."""
    within: Sequence[str]
    """What runs a command there."""


class Consumer:
    """A consumer agent and the TCP address that it listens on."""

    def __init__(self, command: Command, address: tuple[str, int]) -> None:
        self.command = command
        self.address = address


class World:
    """An async context manager. Subjects ``provider`` and ``consumer`` may play their role for every service.

    :param folder: an empty folder of the test's own.
    :param services: names of the services of the one network.
    :param engine: what hubs, agents and endpoints run on (:data:`spnhub.transport.engines.ENGINES`).
    :param programs: the folder that hubs and agents are taken from, if they aren't this install's.
    :param fork: False: what a process takes of time and memory is measured, so it is started as anybody starts it.
    """

    def __init__(
        self,
        folder: Path,
        services: Sequence[str] = ("web",),
        engine: str = "auto",
        programs: Path = BIN,
        *,
        fork: bool = True,
    ) -> None:
        self._fork = fork
        self.folder = folder
        self.programs = programs
        self.engine = engine
        self.services = tuple(services)
        self.journal = folder / "journal"
        self.host = str(socket.getaddrinfo(_FQDN, 0, type=socket.SOCK_DGRAM)[0][4][0])
        """What the hub's name resolves to here: agents use the first address."""
        self.port = free_udp_port(self.host)
        self.realms: list[Document] = []
        """The inventory. A test changes it, then writes it or reloads the hub with it."""
        self.authority = Authority.create()
        self.strangers = Authority.create("another CA")
        self.processes: list[Command] = []
        self.hub: Command
        """The latest hub process."""
        self.hubs: list[Command] = []
        self._hub_ids: dict[Command, str] = {}
        self._agents: list[Command] = []
        self._number = itertools.count(1)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        (self.folder / "ca.pem").write_bytes(self.authority.certificate)
        self.add_realm(_REALM, _FQDN, self.authority)["hubs"][0]["services"] += map(service_document, self.services)
        self.write_inventory()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if value is not None:
                print("\n".join(process.transcript() for process in self.processes))
        finally:
            await self._stack.aclose()

    def journal_of(self, hub_id: str) -> Path:
        """The journal's folder of a hub."""
        return self.journal if hub_id == "hub-1" else self.folder / f"journal-{hub_id}"

    # ---- certificates and inventory ----------------------------------------------------------------------------

    @property
    def inventory_file(self) -> Path:
        """The inventory as a document."""
        return self.folder / "inventory.yaml"

    @property
    def url(self) -> str:
        """What agents of the first realm are told of the hub."""
        return f"https://{_FQDN}:{self.port}"

    def urn(self, service: str = "web", realm: str = _REALM) -> str:
        """The service's URN."""
        return f"urn:chip-in:service:{realm}:{_NETWORK}:{service}"

    def add_realm(self, name: str, fqdn: str, authority: Authority) -> Document:
        """Another realm with one network, without services, on the world's port; what was added."""
        server = authority.server(fqdn)
        network = {
            "name": _NETWORK,
            "title": _NETWORK,
            "fqdn": fqdn,
            "serverCert": server.certificate.decode(),
            "serverCertKey": server.key.decode(),
            "serverPort": self.port,
            "services": [],
        }
        realm = {
            "name": name,
            "title": name,
            "cacert": authority.certificate.decode(),
            "disabled": False,
            "deviceIDSigningKey": "not used yet",
            "deviceIDVerificationKey": "not used yet",
            "hubs": [network],
        }
        self.realms.append(realm)
        return realm

    def network(self, realm: int = 0) -> Document:
        """The network of a realm, by the realm's position."""
        network: Document = self.realms[realm]["hubs"][0]
        return network

    def service(self, name: str = "web", realm: int = 0) -> Document:
        """A service of it."""
        services: list[Document] = self.network(realm)["services"]
        return next(service for service in services if service["name"] == name)

    def write_inventory(self) -> None:
        """Write :attr:`realms` to the file that hubs are started with."""
        self.inventory_file.write_text(yaml.safe_dump({"realms": self.realms}))

    async def reload(self, text: str | None = None) -> Line:
        """Write the inventory and have the hub apply it; the line that says how many differences there are.

        :param text: the inventory, for those to whom its making would take too long at this moment.
        """
        before = len(self.hub.said("reload.applied"))
        if text is None:
            self.write_inventory()
        else:
            self.inventory_file.write_text(text)
        self.hub.send_signal(signal.SIGUSR1)
        return await self.hub.line("reload.applied", nth=before + 1)

    async def reload_refused(self) -> list[str]:
        """Have the hub read the inventory file as it is, which must be refused; the faults as the hub names them."""
        named, refused = len(self.hub.said("reload.fault")), len(self.hub.said("reload.rejected"))
        self.hub.send_signal(signal.SIGUSR1)
        await self.hub.line("reload.rejected", nth=refused + 1)
        return [line["fault"] for line in self.hub.said("reload.fault")[named:]]

    async def serve_inventory(self) -> str:
        """Serve the inventory over HTTP with ``spnhub inventory``; its URL."""
        server = await self._start(
            "inventory", "spnhub", "inventory", str(self.inventory_file), "--listen", "127.0.0.1:0"
        )
        return str((await server.line("inventory.ready"))["url"])

    # ---- processes ---------------------------------------------------------------------------------------------

    async def _start(
        self, name: str, program: str, *arguments: str, env: Mapping[str, str] | None = None, within: Sequence[str] = ()
    ) -> Command:
        path = str(self.programs / program)
        command = await Command.start(name, path, *arguments, env=env, within=within, fork=self._fork)
        self._stack.push_async_callback(command.close)
        self.processes.append(command)
        return command

    async def start_hub(
        self,
        *options: str,
        inventory: str | None = None,
        host: str | None = None,
        hub_id: str = "hub-1",
        program: Sequence[str] = ("spnhub",),
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> Command:
        """Start a hub on the world's port; returns when it takes packets. Each ``hub_id`` has its own journal.

        :param program: the hub's command line, if it isn't the product's.
        :param within: what runs it, if it isn't run as it is.
        """
        self.hub = await self._start(
            f"hub {len(self.hubs) + 1}",
            *program,
            "--inventory",
            inventory or self.inventory_file.as_uri(),
            "--bind",
            host or self.host,
            "--hub-id",
            hub_id,
            "--journal",
            str(self.journal_of(hub_id)),
            *options,
            env={"SPNHUB_ENGINE": self.engine, **(env or {})},
            within=within,
        )
        self.hubs.append(self.hub)
        self._hub_ids[self.hub] = hub_id
        await self.hub.line("hub.ready")
        return self.hub

    async def _start_agent(
        self,
        role: str,
        address: str,
        service: str,
        credentials: IssuedCredentials | None,
        env: Mapping[str, str] | None,
        host: Host | Files | Place | None,
    ) -> Command:
        name = f"{role} agent {next(self._number)}"
        mine = credentials or self.authority.client(role)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(mine.certificate)
        key.write_bytes(mine.key)
        command = await self._start(
            name,
            "spnagent",
            role,
            env={
                "SPN_HUB_URL": self.url,
                "SPN_SERVICE_URN": self.urn(service),
                "SPN_CERTIFICATE": str(certificate),
                "SPN_CERTIFICATE_KEY": str(key),
                "SPN_TRUST": str(self.folder / "ca.pem"),
                "SPN_ENGINE": self.engine,
                "FORWARD_ADDRESS" if role == "provider" else "BIND_ADDRESS": address,
                **(env or {}),
            },
            within=host.within if host else (),
        )
        self._agents.append(command)
        return command

    async def start_provider(
        self,
        forward: tuple[str, int],
        *,
        service: str = "web",
        credentials: IssuedCredentials | None = None,
        wait: bool = True,
        env: Mapping[str, str] | None = None,
        host: Host | Files | Place | None = None,
    ) -> Command:
        """Start a provider agent for a TCP server; ``wait`` for its session. ``host``: where it runs, if not here."""
        command = await self._start_agent("provider", f"{forward[0]}:{forward[1]}", service, credentials, env, host)
        if wait:
            await command.line("session.established")
        return command

    async def start_consumer(
        self,
        *,
        service: str = "web",
        credentials: IssuedCredentials | None = None,
        wait: bool = True,
        env: Mapping[str, str] | None = None,
        host: Host | Place | None = None,
    ) -> Consumer:
        """Start a consumer agent on a free port; ``wait`` for its session. ``host``: where it runs, if not here."""
        bind = host.address if host else "127.0.0.1"
        command = await self._start_agent("consumer", f"{bind}:0", service, credentials, env, host)

        def listening() -> list[Line]:
            # Earlier versions said so when they were ready.
            return [line for line in command.lines if "addresses" in line]

        await command.until(lambda: bool(listening()), "addresses")
        if wait:
            await command.line("session.established")
        ip, _, port = str(listening()[0]["addresses"][0]).rpartition(":")
        return Consumer(command, (ip, int(port)))

    async def start(
        self,
        forward: tuple[str, int],
        *hub_options: str,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = ("spnhub",),
    ) -> tuple[Command, Command, Consumer]:
        """The usual three: hub, provider agent, consumer agent, with their sessions. ``env`` is the agents'.

        :param program: see :meth:`start_hub`.
        """
        hub = await self.start_hub(*hub_options, program=program)
        # Together: a command takes a second of CPU to start. A consumer that is first tries again at once.
        provider, consumer = await asyncio.gather(self.start_provider(forward, env=env), self.start_consumer(env=env))
        return hub, provider, consumer

    async def start_program(self, name: str, *arguments: str) -> Command:
        """Start this interpreter with a program of the tests; one that runs at the end gets SIGINT."""
        command = await self._start(name, sys.executable, *arguments)
        self._agents.append(command)
        return command

    async def start_command(self, name: str, *arguments: str) -> Command:
        """Start one of our commands that is neither hub nor agent."""
        return await self._start(name, *arguments)

    # ---- endpoints in this process, closed at the end ----------------------------------------------------------

    def _arguments(
        self, role: str, service: str, fqdn: str, realm: str, credentials: IssuedCredentials | None, trust: bytes | None
    ) -> tuple[str, str, bytes, bytes, bytes]:
        mine = credentials or self.authority.client(role)
        url, urn = f"https://{fqdn}:{self.port}", self.urn(service, realm)
        return url, urn, mine.certificate, mine.key, trust or self.authority.certificate

    async def _resolve(self, _: str, port: int) -> list[tuple[str, int]]:
        """Every name is the hub's."""
        return [(self.host, port)]

    async def consumer_endpoint(
        self,
        *,
        service: str = "web",
        fqdn: str = _FQDN,
        realm: str = _REALM,
        credentials: IssuedCredentials | None = None,
        trust: bytes | None = None,
        **options: Any,
    ) -> ConsumerEndpoint:
        """A consumer by the library, with its session; ``options`` are those of the library's function."""
        arguments = self._arguments("consumer", service, fqdn, realm, credentials, trust)
        runtime = Runtime(resolve=self._resolve)
        endpoint = await create_consumer_endpoint(*arguments, runtime=runtime, **{"engine": self.engine, **options})
        self._stack.push_async_callback(endpoint.close)
        return endpoint

    async def provider_endpoint(
        self,
        *,
        service: str = "web",
        fqdn: str = _FQDN,
        realm: str = _REALM,
        credentials: IssuedCredentials | None = None,
        trust: bytes | None = None,
        **options: Any,
    ) -> ProviderEndpoint:
        """A provider by the library, likewise."""
        arguments = self._arguments("provider", service, fqdn, realm, credentials, trust)
        runtime = Runtime(resolve=self._resolve)
        endpoint = await create_provider_endpoint(*arguments, runtime=runtime, **{"engine": self.engine, **options})
        self._stack.push_async_callback(endpoint.close)
        return endpoint

    # ---- TCP programs, closed at the end -----------------------------------------------------------------------

    def enter_host(self, host: Host) -> Host:
        """Have another host, to the end of the world."""
        return self._stack.enter_context(host)

    def serve(self, host: str = "127.0.0.1") -> TcpServer:
        """A TCP server whose connections the test takes."""
        return self._stack.enter_context(TcpServer(host))

    async def connect(self, consumer: Consumer, receive_buffer: int = 0) -> TcpPeer:
        """A TCP client of the service."""
        return self.keep(await TcpPeer.connect(consumer.address, receive_buffer))

    async def accept(self, server: TcpServer) -> TcpPeer:
        """The server's end of the next connection."""
        return self.keep(await server.accept())

    def keep(self, peer: TcpPeer) -> TcpPeer:
        """Close it with the world."""
        self._stack.callback(peer.close)
        return peer

    async def join(self, consumer: Consumer, server: TcpServer, receive_buffer: int = 0) -> tuple[TcpPeer, TcpPeer]:
        """A connection through hub and agents: the client's end and the server's."""
        accepting = asyncio.ensure_future(self.accept(server))
        try:
            client = await self.connect(consumer, receive_buffer)
            return client, await accepting
        finally:
            accepting.cancel()

    # ---- the books ---------------------------------------------------------------------------------------------

    async def events(self, *sources: str) -> list[Line]:
        """All events of the first hub's journal (or of the given sources), as ``spnlog replay --all`` shows them."""
        return [event_line(recorded) for recorded in await self._read(sources)]

    async def replayed(self, *sources: str) -> list[Line]:
        """The lifecycle lines, as ``spnlog replay`` shows them."""
        lines = [lifecycle_line(recorded) for recorded in await self._read(sources)]
        return [line for line in lines if line is not None]

    async def _read(self, sources: Sequence[str]) -> list[Recorded]:
        # In this process: a command takes a second to start. test_transfer runs the commands themselves.
        async with AsyncExitStack() as stack:
            entered = [await stack.enter_async_context(open_source(name)) for name in sources or [str(self.journal)]]
            return [recorded async for _, recorded in merge(entered)]

    def printed(self, hub_id: str = "hub-1") -> list[Line]:
        """The lifecycle lines that a hub's processes printed."""
        return [line for hub in self._run_by(hub_id) for line in lifecycle(hub.lines)]

    def _run_by(self, hub_id: str) -> list[Command]:
        return [hub for hub in self.hubs if self._hub_ids[hub] == hub_id]

    async def verify(self, *sources: str) -> Line:
        """The verdict of ``spnlog verify --json``, which must be clean."""
        async with AsyncExitStack() as stack:
            entered = [await stack.enter_async_context(open_source(name)) for name in sources or [str(self.journal)]]
            result = await verify(entered)
        assert result.faults == ()
        return result.to_json()

    async def end(self, *, hub_errors: Sequence[str] = (), lacking: Collection[str] = ()) -> list[Line]:
        """Stop agents, then hubs, all with status 0; check the books; all lifecycle lines as replayed, merged.

        Checked: ``spnlog verify`` is clean and nothing is open; the replayed lines are the printed ones; every start
        has its one end; no process logged an error (but those of the hub named in ``hub_errors``) or wrote to standard
        error. An earlier version's hub prints lines that are ``lacking`` some fields.
        """
        statuses = await asyncio.gather(*(agent.stop() for agent in self._agents if agent.running))
        statuses += await asyncio.gather(*(hub.stop() for hub in self.hubs if hub.running))
        assert set(statuses) <= {0}
        hub_ids = list(dict.fromkeys(self._hub_ids.values()))
        journals = [str(self.journal_of(hub_id)) for hub_id in hub_ids]
        verdict = await self.verify(*journals)
        for log in verdict["logs"]:
            assert (log["openSessions"], log["openConnections"]) == ([], []), log
        for hub_id, journal in zip(hub_ids, journals, strict=True):
            replayed, printed = (
                [{name: value for name, value in line.items() if name not in lacking} for line in lines]
                for lines in (await self.replayed(journal), self.printed(hub_id))
            )
            if all(hub.said("hub.stopped") for hub in self._run_by(hub_id)):
                assert replayed == printed
            else:
                # Killed: the printed lines may lack the last (and the next hub's begin with the ends it wrote).
                assert [line for line in replayed if line in printed] == printed
            _check_ends(replayed)
        for process in self.processes:
            errors = [line for line in process.lines if line.get("level") in ("error", "critical")]
            if process in self.hubs:
                # A disk that other work keeps busy is no fault of the hub's, and it has said so.
                errors = [
                    line
                    for line in errors
                    if line["event"] not in {"journal.stalled", *hub_errors}
                    and line.get("eventType") != "journalStalled"
                ]
            said = (process.name, errors, process.errors)
            assert said == (process.name, [], []), said
        return await self.replayed(*journals)


def _check_ends(lines: Sequence[Line]) -> None:
    """Every session and connection starts once and ends once, in this order."""
    seen: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        kind = str(line["eventType"])
        if "Connection" in kind:
            name: tuple[str, ...] = (
                line["consumerSideSpnSessionId"],
                line["providerSideSpnSessionId"],
                line["spnConnectionId"],
            )
        else:
            name = (line["spnSessionId"],)
        assert seen[name] == (0 if kind.startswith("start") else 1), line
        seen[name] += 1
    assert set(seen.values()) <= {2}

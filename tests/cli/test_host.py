"""``spnagent run``: many agents in one process, their HTTP, and reloads under traffic."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer

from spnhub.agent_settings import ConsumerSettings, ProcessSettings, ProviderSettings
from spnhub.cli.host_file import HostFile, read_host
from spnhub.cli.options import Reader, takes
from spnhub.settings import SettingsError
from spnhub.transport.system.socket_address import TcpAddress, UnixAddress
from tests.cli.processes import Program, Site
from tests.support.forked import begin
from tests.support.tcp import Ending, TcpPeer, TcpServer


class Host:
    """A file of agents, with certificates beside it."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.site = site
        self.file = folder / "agent.toml"
        self.folder = folder
        self.above = f'hub-url = "https://localhost:{site.port}"\ntrust = "{folder}/ca.pem"\nlog-level = "debug"\n'
        self.agents: dict[str, str] = {}
        (folder / "ca.pem").write_bytes(site.authority.certificate)
        for role in ("consumer", "provider"):
            credentials = site.authority.client(role)
            (folder / f"{role}.pem").write_bytes(credentials.certificate)
            (folder / f"{role}.key").write_bytes(credentials.key)

    def agent(self, name: str, service: int, **more: Any) -> None:
        role = name.partition(".")[0]
        given = {
            "service-urn": f"urn:chip-in:service:r:h:s{service}",
            "certificate": f"{self.folder}/{role}.pem",
            "certificate-key": f"{self.folder}/{role}.key",
            **more,
        }
        self.agents[name] = f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())

    def write(self) -> str:
        self.file.write_text(self.above + "".join(self.agents.values()))
        return f"--config={self.file}"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    site = Site(tmp_path)
    yield Host(tmp_path, site)
    await site.close()


def read(argument: str) -> HostFile:
    """What ``spnagent run`` makes of a file."""
    found: list[HostFile] = []
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command()
    @takes(ProcessSettings, "SPN_")
    def command(_: typer.Context, read: Reader[ProcessSettings]) -> int:
        found.append(read_host(read))
        return 0

    typer.main.get_command(app).main([argument, "--log-format=json"], standalone_mode=False)
    return found[0]


@pytest.mark.outside
async def test_file(host: Host) -> None:
    """What stands above is for all, what an agent has of its own wins, and each kind of value has its type."""
    host.above += "idle-timeout = 12\nhealth-check = 'tcp'\nops = '127.0.0.1:0'\n"
    host.agent("consumer.web", 0, listen=["127.0.0.1:0", "unix:/run/web.sock"], **{"idle-timeout": 9.5})
    host.agent("provider.db", 1, forward="unix:/run/db", weight=7, **{"health-check": "off"})
    host.agent('provider."two.words"', 2, forward_address="127.0.0.1:9")
    found = read(host.write())
    assert found.process == ProcessSettings(ops="127.0.0.1:0", log_level="debug", log_format="json")
    assert list(found.agents) == ["consumer.web", "provider.db", "provider.two.words"]
    web, db, two = found.agents.values()
    assert isinstance(web, ConsumerSettings) and isinstance(db, ProviderSettings) and isinstance(two, ProviderSettings)
    assert web.bind_address == (TcpAddress("127.0.0.1", 0), UnixAddress("/run/web.sock"))
    assert (web.endpoint.limits.idle_timeout, db.endpoint.limits.idle_timeout) == (9.5, 12)
    assert (db.forward_address, db.weight, db.health) == (UnixAddress("/run/db"), 7, None)
    assert two.health is not None and two.service_urn.endswith("s2")


@pytest.mark.outside
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[consumer.web]\nlsten = ":80"\n', r"agent.toml:5: \[consumer.web\] lsten is unknown; did you mean listen\?"),
        ("[consumr.web]\n", r"agent.toml:4: consumr is unknown; did you mean consumer\?"),
        (
            '[consumer]\nlisten = ":80"\n',
            r"agent.toml:5: \[consumer\] listen has no name above it",
        ),
        ("consumer = 1\n", r"agent.toml:4: consumer is no table: it is written \[consumer.NAME\]"),
        ("[consumer.web]\n", r"agent.toml:4: \[consumer.web\] service-urn is missing"),
        ("[provider.a]\nweight = 'x'\n", r"agent.toml:5: \[provider.a\] weight: 'x' is not a whole number"),
        ("[provider.a]\nweight = -1\n", r"agent.toml:5: \[provider.a\] weight: -1 is not between"),
        ("[provider.a]\nlisten = ':1'\n", r"agent.toml:5: \[provider.a\] listen is unknown"),
        ("[provider.a]\nlog-level = 'debug'\n", r"agent.toml:5: \[provider.a\] log-level is unknown"),
        ("instance-id = 'a'\n[provider.a]\n", "agent.toml:4: instance-id is unknown"),
        ("[consumer.a]\nlisten=':1'\nbind-address=':2'\n", r"\[consumer.a\] bind-address and .*listen are both given"),
        ("", r"agent.toml: holds no agent: neither \[consumer.NAME\] nor \[provider.NAME\]"),
        ("[provider.a]\nsuspect-after = 30\nservice-urn='x'\n", r"agent.toml:4: \[provider.a\] certificate is missing"),
    ],
)
async def test_faults_are_named(host: Host, text: str, message: str) -> None:
    """By file, line, table and key."""
    argument = host.write()
    host.file.write_text(host.file.read_text() + text)
    with pytest.raises(SettingsError, match=message):
        read(argument)


@pytest.mark.outside
async def test_files_of_certificates(host: Host) -> None:
    """They are read for each agent, and what is wrong with one is named with its table."""
    host.agent("consumer.web", 0, listen=":0", certificate="/nowhere.pem")
    with pytest.raises(SettingsError, match=r"agent.toml:6: \[consumer.web\] certificate: '/nowhere.pem' is"):
        read(host.write())


async def exchange(address: Any, server: TcpServer, text: bytes) -> tuple[TcpPeer, TcpPeer]:
    """A client through the agents, and the server's end of its connection."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM)
    sock.connect(address)
    client = TcpPeer(sock)
    await client.send(text)
    while True:
        accepted = await server.accept()
        try:
            assert await accepted.receive(len(text)) == text
        except (ConnectionResetError, EOFError):  # it was a check of the server
            accepted.close()
        else:
            return client, accepted


async def check(host: Host, *words: str) -> tuple[int, dict[str, tuple[list[str], bool]]]:
    """What ``spnagent check`` says: its status, and for each agent its faults, and whether it had a session."""
    process = await begin("spnagent", "check", f"--config={host.file}", "--json", *words, env=os.environ)
    output, _ = await process.communicate()
    assert process.returncode is not None
    agents = json.loads(output)["agents"]
    return process.returncode, {one["name"]: (one["faults"], one["session"] is not None) for one in agents}


def tcp_address(line: dict[str, Any]) -> tuple[str, int]:
    name, _, port = line["addresses"][0].rpartition(":")
    return name, int(port)


@pytest.mark.system
async def test_a_changed_file_is_read(host: Host) -> None:
    """As files of certificates are: without a signal; what can't be used is said once and changes nothing."""
    host.above += "certificate-interval = 0.2\n"
    host.agent("consumer.web", 0, listen="127.0.0.1:0")
    agents = await Program.start("spnagent", "run", host.write())
    host.site.programs.append(agents)
    await agents.line("agent.listening", agent="consumer.web")
    sound = host.file.read_text()
    host.file.write_text(sound + "[consumer.web")
    await agents.line("agent.reload_failed")
    host.file.unlink()
    host.agent("consumer.db", 1, listen="127.0.0.1:0")
    host.write()
    assert (await agents.line("agent.reloaded"))["added"] == ["consumer.db"]
    await agents.line("agent.listening", agent="consumer.db")
    assert len([line for line in agents.lines if line["event"] == "agent.reload_failed"]) == 1


@pytest.mark.system
async def test_life(host: Host) -> None:
    """Two consumers, two providers; a reload under traffic cuts nothing, and each answer says what is so."""
    await host.site.hub()
    with contextlib.ExitStack() as stack:
        one, two = stack.enter_context(TcpServer()), stack.enter_context(TcpServer())
        path = f"{host.folder}/web.sock"
        host.agent("consumer.web", 0, listen=[f"unix:{path}", "127.0.0.1:0"])
        host.agent("consumer.db", 1, listen="127.0.0.1:0")
        host.agent("provider.web", 0, forward=f"127.0.0.1:{one.address[1]}", **{"health-check": "tcp"})
        host.agent("provider.db", 1, forward=f"127.0.0.1:{two.address[1]}")
        manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        manager.bind(f"{host.folder}/notify")
        # Its queue holds no more than ten.
        told: list[str] = []
        asyncio.get_running_loop().add_reader(manager, lambda: told.append(manager.recv(4096).decode()))
        stack.callback(asyncio.get_running_loop().remove_reader, manager)
        environment = {"NOTIFY_SOCKET": f"{host.folder}/notify"}
        agents = await Program.start("spnagent", "run", host.write(), "--ops=127.0.0.1:0", environment=environment)
        host.site.programs.append(agents)
        for name in host.agents:
            await agents.line("agent.ready", agent=name)
        url = (await agents.line("ops.ready"))["url"]
        async with httpx2.AsyncClient(base_url=url, trust_env=False) as http:
            assert (await http.get("/readyz")).text == "ready\n"
            first, at_one = await exchange(path, one, b"by unix")
            db = tcp_address(await agents.line("agent.listening", agent="consumer.db"))
            second, at_two = await exchange(db, two, b"by tcp")
            status = {found["name"]: found for found in (await http.get("/status")).json()["agents"]}
            assert list(status) == list(host.agents)
            assert [found["state"] for found in status.values()] == 4 * ["ready"]
            assert [found["connections"] for found in status.values()] == 4 * [1]
            assert [len(found["sessions"]) for found in status.values()] == 4 * [1]
            assert status["provider.web"]["healthy"] and "healthy" not in status["provider.db"]
            assert status["consumer.db"]["bytesToHub"] == 6 and status["consumer.web"]["certificate"]["days"] > 1
            numbers = (await http.get("/metrics")).text
            labels = 'agent="consumer.web",role="consumer",service_urn="urn:chip-in:service:r:h:s0"'
            assert f"spnagent_ready{{{labels}}} 1.0" in numbers
            assert 'spnagent_bytes_total{agent="provider.db",direction="from_hub"' in numbers
            assert f"spnagent_certificate_expiry_days{{{labels}}}" in numbers
            assert (await http.get("/status", headers={"Host": "evil.example"})).status_code == 421

            # Another timeout for one, another weight for another, one more, and one away.
            host.agent("consumer.web", 0, listen=[f"unix:{path}", "127.0.0.1:0"], **{"idle-timeout": 11})
            host.agent("provider.db", 1, forward=f"127.0.0.1:{two.address[1]}", weight=5)
            host.agent("consumer.new", 1, listen="127.0.0.1:0")
            del host.agents["consumer.db"]
            host.write()
            before = len(agents.lines)
            agents.send(signal.SIGHUP)
            reloaded = await agents.line("agent.reloaded", after=before)
            assert (reloaded["added"], reloaded["removed"]) == (["consumer.new"], ["consumer.db"])
            assert sorted(reloaded["changed"]) == ["consumer.web", "provider.db"]
            await agents.line("agent.ready", after=before, agent="consumer.web")
            await agents.line("agent.ready", after=before, agent="consumer.new")
            third, at_three = await exchange(path, one, b"by the new one")
            new = tcp_address(await agents.line("agent.listening", agent="consumer.new"))
            fourth, at_four = await exchange(new, two, b"by one more")
            for client, server in ((first, at_one), (second, at_two), (third, at_three), (fourth, at_four)):
                await server.send(b"still here")
                assert await client.receive(10) == b"still here"
                client.finish()
                assert await server.receive_all() == (b"", Ending.FIN)
                server.close()
                assert await client.receive_all() == (b"", Ending.FIN)
                client.close()
            await agents.line("agent.stopped", agent="consumer.db")
            unmoved = [line for line in agents.lines[before:] if line.get("agent") in {"provider.web", "provider.db"}]
            assert not [line["event"] for line in unmoved if line["event"].startswith(("session", "agent"))]
            status = {found["name"]: found for found in (await http.get("/status")).json()["agents"]}
            assert list(status) == ["consumer.web", "consumer.new", "provider.web", "provider.db"]
            assert status["provider.db"]["weight"] == 5 and Path(path).is_socket()

            # The check has sessions of its own beside those that run.
            assert await check(host) == (0, {name: ([], True) for name in status})

            # A file that can't be used changes nothing; one that can names a service that there isn't.
            host.file.write_text("nonsense = 1\n")
            agents.send(signal.SIGHUP)
            failed = await agents.line("agent.reload_failed")
            assert failed["reason"] == f"{host.file}:1: nonsense is unknown"
            host.agent("consumer.new", 999, listen="127.0.0.1:0")
            host.write()
            agents.send(signal.SIGHUP)
            assert (await agents.line("agent.failed", agent="consumer.new"))["reason"]
            answer = await http.get("/readyz")
            assert answer.status_code == 503 and answer.text.startswith("consumer.new: ")
            port = one.address[1]
            one.close()
            await agents.line("health.down", agent="provider.web")
            assert "provider.web: health check tcp failed" in (await http.get("/readyz")).text
            assert (await http.get("/healthz")).status_code == 200
            exit_status, found = await check(host, "--fail-days=5000")
            assert exit_status == 1 and not found["consumer.new"][1]
            (fault, expiry) = found["provider.web"][0]
            assert fault == f"server 127.0.0.1:{port}: 127.0.0.1 port {port}: Connection refused"
            assert expiry.startswith("certificate CN=provider expires in ")
        agents.send(signal.SIGTERM)
        assert await agents.end() == 0 and agents.errors == ""
        # What it sent before its end is there.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        facts = [line for message in told for line in message.splitlines()]
        assert told[0] == "STATUS=waits for a session"
        assert told[1] == "READY=1\nSTATUS=4 agents are ready"
        assert facts.count("RELOADING=1") == 3 and facts.count("READY=1") >= 3
        assert any(fact.startswith("STATUS=consumer.new: ") for fact in facts)
        assert "STOPPING=1" in facts
        assert not Path(path).exists()

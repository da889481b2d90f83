"""What the system knows of a name, and DNS: files first, TTLs, slow and missing families, failures."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.rcode
import dns.rdatatype
import pytest

from spnhub.transport.system import dns_client, name_lookup
from spnhub.transport.system.name_lookup import LookupFailed, NameAnswer, NoAddress, ask_getaddrinfo, ask_system
from tests.support.dns_server import DnsServer

pytestmark = pytest.mark.system

HOST = "db.test"
A, AAAA = dns.rdatatype.A, dns.rdatatype.AAAA


class System:
    """A system of the test's own: its files, its DNS server, and what ``getaddrinfo`` says."""

    def __init__(self, folder: Path, server: DnsServer) -> None:
        self.server = server
        self.hosts, self.nsswitch, self.resolv = (folder / name for name in ("hosts", "nsswitch", "resolv"))
        self.hosts.write_text("127.0.0.1 localhost\n10.9.9.9 Filed.test alias # not.test\n")
        self.nsswitch.write_text("passwd: files\nhosts: files dns # as usual\n")
        self.resolv.write_text("nameserver 127.0.0.1\nsearch corp.test\n")
        self.asked: list[str] = []
        """Names that ``getaddrinfo`` was asked for."""
        self.found: list[str] = []
        self.bound = 30.0
        """Seconds that DNS is asked for at most."""

    def getaddrinfo(self, host: str, port: int | None, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return self._getaddrinfo(host, port, **options)
        self.asked.append(host)
        if not self.found:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [entry for ip in self.found for entry in self._getaddrinfo(ip, port, **options)]

    _getaddrinfo = staticmethod(socket.getaddrinfo)


@pytest.fixture
async def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[System]:
    async with DnsServer() as server:
        server.ttl = 77
        system = System(tmp_path, server)
        port = int(server.address.rpartition(":")[2])

        class Resolver(dns.asyncresolver.Resolver):
            def __init__(self, filename: str) -> None:
                super().__init__(filename)
                self.port = port
                self.lifetime = system.bound

        monkeypatch.setattr(dns.asyncresolver, "Resolver", Resolver)
        # A busy machine's answers take their time.
        for module, name in ((name_lookup, "PATIENCE"), (dns_client, "RESOLUTION_DELAY"), (dns_client, "LATE_A")):
            monkeypatch.setattr(module, name, 30.0)
        for name in ("HOSTS", "NSSWITCH", "RESOLV"):
            monkeypatch.setattr(name_lookup, name, getattr(system, name.lower()))
        monkeypatch.setattr(socket, "getaddrinfo", system.getaddrinfo)
        for name in name_lookup.SETTINGS:
            monkeypatch.delenv(name, raising=False)
        yield system


async def test_dns(system: System) -> None:
    """Both families at once, IPv6 first, with their TTL; the system isn't asked."""
    system.server.set(HOST, ["10.0.0.1", "2001:db8::1"])
    assert await ask_system(HOST) == NameAnswer(("2001:db8::1", "10.0.0.1"), 77, ordered=False)
    assert (system.server.asked, system.asked) == ({A: 1, AAAA: 1}, [])


async def test_search_list(system: System) -> None:
    """Names without a dot are looked for in the system's domains."""
    system.server.set("db.corp.test", ["10.0.0.1"])
    assert (await ask_system("db")).addresses == ("10.0.0.1",)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "web.localhost", "filed.TEST", "alias"])
async def test_files_come_first(system: System, host: str) -> None:
    """What /etc/hosts has is the system's affair, in its order; so is localhost."""
    system.found = ["10.9.9.9", "10.9.9.8"]
    assert await ask_system(host) == NameAnswer(("10.9.9.9", "10.9.9.8"), 5.0, ordered=True)
    assert (system.server.asked, system.asked) == ({}, [host])


async def test_a_comment_is_no_name(system: System) -> None:
    """Of /etc/hosts."""
    system.server.set("not.test", ["10.0.0.1"])
    assert not (await ask_system("not.test")).ordered


@pytest.mark.parametrize(
    "sources", ["files mdns4_minimal [NOTFOUND=return] dns", "files resolve [!UNAVAIL=return] dns", "sss files", "db"]
)
async def test_other_sources_are_the_systems_affair(system: System, sources: str) -> None:
    """What they would say, DNS may not know."""
    system.nsswitch.write_text(f"hosts:\t{sources}\n")
    system.found = ["10.9.9.9"]
    assert (await ask_system(HOST)).addresses == ("10.9.9.9",)
    assert system.server.asked == {}


@pytest.mark.parametrize("missing", ["hosts", "nsswitch", "resolv"])
async def test_missing_files(system: System, missing: str) -> None:
    """Neither hosts nor nsswitch.conf need be there; without resolv.conf the system is asked."""
    getattr(system, missing).unlink()
    system.server.set(HOST, ["10.0.0.1"])
    system.found = ["10.0.0.1"]
    assert (await ask_system(HOST)).addresses == ("10.0.0.1",)
    assert bool(system.asked) is (missing == "resolv")


async def test_settings_of_the_environment(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """They change what the system asks."""
    monkeypatch.setenv("RES_OPTIONS", "no-aaaa")
    system.found = ["10.9.9.9"]
    assert (await ask_system(HOST)).ordered


@pytest.mark.parametrize(
    ("family", "addresses"), [(AAAA, ("10.0.0.1",)), (A, ("2001:db8::1",))], ids=["no AAAA", "no A"]
)
@pytest.mark.parametrize("how", ["silent", "failing"])
async def test_a_family_that_is_not_answered(
    system: System,
    family: dns.rdatatype.RdataType,
    addresses: tuple[str, ...],
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It isn't waited for long, and what is missing is asked for again soon."""
    for name in ("RESOLUTION_DELAY", "LATE_A"):
        monkeypatch.setattr(dns_client, name, 0.05)
    system.server.set(HOST, ["10.0.0.1", "2001:db8::1"])
    if how == "silent":
        system.server.late[family] = 60
    else:
        system.server.fail[family] = dns.rcode.SERVFAIL
    assert await ask_system(HOST) == NameAnswer(addresses, 5.0, ordered=False)
    assert system.asked == []


async def test_no_such_name(system: System) -> None:
    """DNS knows that there is none; the system has the last word."""
    with pytest.raises(NoAddress, match="None of DNS query names exist"):
        await ask_system(HOST)
    assert system.asked == [HOST]
    system.found = ["10.9.9.9"]
    assert (await ask_system(HOST)).addresses == ("10.9.9.9",)
    system.server.set(HOST, [])
    system.found = []
    with pytest.raises(NoAddress, match="no address"):
        await ask_system(HOST)


async def test_servers_that_fail(system: System) -> None:
    """That says nothing about the name."""
    system.server.set(HOST, ["10.0.0.1"])
    system.server.fail = dict.fromkeys((A, AAAA), dns.rcode.SERVFAIL)
    with pytest.raises(LookupFailed, match="SERVFAIL") as failure:
        await ask_system(HOST)
    assert not isinstance(failure.value, NoAddress)


async def test_servers_that_are_silent(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may know better: whoever answers first."""
    monkeypatch.setattr(name_lookup, "PATIENCE", 0.05)
    system.bound = 0.5
    system.server.set(HOST, ["10.0.0.1"])
    system.server.silent = {A, AAAA}
    with pytest.raises(LookupFailed, match="expired"):
        await ask_system(HOST)
    system.found = ["10.9.9.9"]
    assert (await ask_system(HOST)).addresses == ("10.9.9.9",)


@pytest.mark.parametrize("host", ["x" * 64, "a..b", ""])
async def test_what_is_no_name(system: System, host: str) -> None:
    """DNS can't be asked for it."""
    assert system.found == []
    with pytest.raises(LookupFailed):
        await ask_system(host)


async def test_a_hanging_system_keeps_no_thread_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's own threads are free, and the process can end."""
    release = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        release.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    waiting = [asyncio.ensure_future(ask_getaddrinfo(f"{number}.test")) for number in range(40)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(lambda: 7) == 7
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "look-up")
    finally:
        release.set()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    ("host", "loads"),
    [("127.0.0.1", False), ("::1", False), ("localhost", False), ("web.localhost.", False), ("server.example", True)],
)
def test_dns_is_loaded_in_the_beginning_where_it_may_be_asked(host: str, loads: bool) -> None:
    """Neither beside traffic, nor for nothing: importing it takes a tenth of a second of CPU."""
    code = (
        "import sys; import spnhub.cli.agent; from spnhub.transport.system.name_lookup import load_dns;"
        f"before = 'dns.resolver' in sys.modules; load_dns([{host!r}]); print(before, 'dns.asyncquery' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", str(loads)]

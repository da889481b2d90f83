"""Certificates that change on disk: read beside the loop, told once, and never worse than what is in use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spnhub.pki import Authority
from spnhub.pki import IssuedCredentials as Pair
from spnhub.transport import pem
from spnhub.transport.endpoint.session import credentials as module
from spnhub.transport.endpoint.session.credentials import (
    Credentials,
    CredentialsChange,
    CredentialsSource,
    CredentialsWatch,
)
from spnhub.transport.endpoint.session.system_roots import system_roots
from spnhub.transport.errors import ConfigurationError
from tests.transport.test_chains import padded

AUTHORITY = Authority.create()
NOW = datetime.now(UTC).replace(microsecond=0)


class Files:
    """Certificate, key and trust in a folder."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key, self.trust = folder / "tls.crt", folder / "tls.key", folder / "ca.crt"
        self.trust.write_bytes(AUTHORITY.certificate)
        self.write(AUTHORITY.client("me"))

    def write(self, pair: Pair) -> None:
        self.certificate.write_bytes(pair.certificate)
        self.key.write_bytes(pair.key)

    def source(self) -> CredentialsSource:
        return CredentialsSource(self.certificate, str(self.key), f" {self.trust}\n", "hub.test", ("spn/1",))


class Bench:
    """A watch of files, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.files = Files(folder)
        self.changes: list[Credentials] = []
        self.told: list[tuple[str, str]] = []
        self.wall = NOW
        source = self.files.source()
        self.watch = CredentialsWatch(source, source.read(), self.changes.append, self._tell, lambda: self.wall)

    def _tell(self, change: CredentialsChange) -> None:
        self.told.append((change.kind, change.detail))

    async def refresh(self) -> list[str]:
        """What is told of what is there now."""
        before = len(self.told)
        await self.watch.refresh()
        return [kind for kind, _ in self.told[before:]]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Files that are in order."""
    monkeypatch.setattr(module, "ATTEMPT_PAUSE", 0.01)
    return Bench(tmp_path)


def test_what_is_read(tmp_path: Path) -> None:
    """As files, as text, as bytes; the dates are those of all that is presented."""
    files = Files(tmp_path)
    found = files.source().read()
    certificate, key, trust = files.certificate.read_bytes(), files.key.read_bytes(), AUTHORITY.certificate
    texts = CredentialsSource(certificate.decode(), key, trust.decode().replace("\n", "\\n"), "hub.test", ("spn/1",))
    assert texts.read() == found
    assert (files.source().from_files, texts.from_files) == (True, False)
    policy = found.policy
    assert (policy.certificate_chain, policy.private_key, policy.trust) == (certificate, key, trust)
    (leaf,) = pem.load_chain(certificate)
    assert (found.subject, found.begin, found.end) == ("CN=me", leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    assert "PRIVATE" not in repr(found)


async def test_renewed(bench: Bench) -> None:
    """Once for each change; what is laid out in another way is no change."""
    assert await bench.refresh() == []
    bench.files.certificate.write_bytes(bench.files.certificate.read_bytes().replace(b"\n", b"\r\n") + b"\n# comment")
    assert await bench.refresh() == []
    bench.files.write(AUTHORITY.client("me"))
    assert await bench.refresh() == ["renewed"]
    assert await bench.refresh() == []
    bench.files.trust.write_bytes(AUTHORITY.certificate + Authority.create("next").certificate)
    assert await bench.refresh() == ["renewed"]
    assert bench.changes[-1] == bench.watch.current
    assert len(bench.changes) == 2


def chain_too_large(files: Files) -> None:
    large, _ = padded(pem.CHAIN_LIMIT + 1)
    files.write(Pair(large.chain, large.key))


def folder_instead(files: Files) -> None:
    files.trust.unlink()
    files.trust.mkdir()


DAMAGE: dict[str, tuple[Callable[[Files], object], str]] = {
    "half written": (lambda f: f.key.write_bytes(AUTHORITY.client("x").key), "certificate_key doesn't belong to the"),
    "truncated": (
        lambda f: f.certificate.write_bytes(AUTHORITY.certificate[:99]),
        "holds a PEM block that is cut short",
    ),
    "empty": (lambda f: f.key.write_bytes(b""), "certificate_key: the value holds no PEM"),
    "missing": (lambda f: f.trust.unlink(), "is neither PEM text nor a readable file: No such file"),
    "a folder": (folder_instead, "is no regular file any more"),
    "no trust": (lambda f: f.trust.write_bytes(b"# nothing yet\n"), "holds no PEM"),
    "too large": (chain_too_large, "takes 65532 bytes in a handshake with its chain; the bound is 65531"),
    "expired": (lambda f: f.write(AUTHORITY.client("me", expired=True)), "has expired by the clock here"),
    "early": (lambda f: f.write(AUTHORITY.client("me", not_yet_valid=True)), "is not valid yet by the clock here"),
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_unusable(bench: Bench, what: str) -> None:
    """Told once, as long as it is the same; the last that could be used stays, until another can."""
    before, mine = bench.watch.current, bench.files.certificate.read_bytes()
    key = bench.files.key.read_bytes()
    damage, reason = DAMAGE[what]
    damage(bench.files)
    assert await bench.refresh() == ["unusable"]
    assert await bench.refresh() == []
    assert reason in bench.told[-1][1]
    assert bench.watch.current is before
    if bench.files.trust.is_dir():
        bench.files.trust.rmdir()
    bench.files.trust.write_bytes(AUTHORITY.certificate)
    bench.files.write(Pair(mine, key))
    assert await bench.refresh() == ["usable"]
    assert bench.changes == []


async def test_a_pair_that_is_replaced_while_it_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one is there a moment before the other: nobody needs to hear of it."""
    bench.files.certificate.write_bytes((pair := AUTHORITY.client("me")).certificate)
    original = module.read_pem

    def read(value: module.Pem, name: str, *, secret: bool = False) -> bytes:
        found = original(value, name, secret=secret)
        if secret:
            bench.files.key.write_bytes(pair.key)
        return found

    monkeypatch.setattr(module, "read_pem", read)
    assert await bench.refresh() == ["renewed"]


async def test_early_ones_are_taken_in_time(bench: Bench) -> None:
    """When they become valid, or the ones in use end."""
    begin = NOW + timedelta(hours=1)
    bench.files.write(AUTHORITY.client("me", begin=begin))
    assert await bench.refresh() == ["unusable"]
    bench.wall = begin
    assert await bench.refresh() == ["renewed"]


async def test_the_end_comes_near(bench: Bench) -> None:
    """Told once a day from a week before on, and when it is over; a wrong clock changes nothing of what is in use."""
    begin, end = NOW - timedelta(days=300), NOW + timedelta(days=7, seconds=1)
    bench.files.write(AUTHORITY.client("me", begin=begin, end=end))
    assert await bench.refresh() == ["renewed"]
    bench.wall += timedelta(seconds=2)
    for day in (6, 5, 4, 3, 2):
        assert [await bench.refresh(), await bench.refresh()] == [["expiring"], []]
        assert bench.told[-1][1].endswith(f"expires in {day} days by the clock here")
        bench.wall += timedelta(days=1)
    assert [await bench.refresh(), await bench.refresh()] == [["expiring"], []]
    assert bench.told[-1][1].endswith("expires within two days by the clock here")
    bench.wall += timedelta(days=2)
    assert [await bench.refresh(), await bench.refresh()] == [["expiring"], []]
    assert bench.told[-1][1].endswith("has expired by the clock here")


async def test_the_end_of_a_short_life(bench: Bench) -> None:
    """Of ten days a week is most: a quarter counts."""
    bench.files.write(AUTHORITY.client("me", begin=NOW - timedelta(days=7), end=NOW + timedelta(days=3)))
    assert await bench.refresh() == ["renewed"]
    bench.wall += timedelta(hours=13)
    assert await bench.refresh() == ["expiring"]


async def test_a_file_system_that_doesnt_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up one handshake for a bounded time, and none that follow; what it says at last counts."""
    monkeypatch.setattr(module, "READ_BOUND", 0.05)
    answer, reads = threading.Event(), 0
    original = module.read_pem

    def slow(value: module.Pem, name: str, *, secret: bool = False) -> bytes:
        nonlocal reads
        reads += 1
        answer.wait(10)
        return original(value, name, secret=secret)

    monkeypatch.setattr(module, "read_pem", slow)
    bench.files.write(AUTHORITY.client("me"))
    loop = asyncio.get_running_loop()
    assert await bench.refresh() == ["unusable"]
    began = loop.time()
    for _ in range(20):
        assert await bench.refresh() == []
    assert (loop.time() - began < 5, reads) == (True, 1)
    answer.set()
    while not bench.changes:
        await asyncio.sleep(0.01)
    assert [kind for kind, _ in bench.told] == ["unusable", "renewed"]
    assert await bench.refresh() == []


async def test_a_system_without_room_for_a_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in use stays, and it is tried again."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    bench.files.write(AUTHORITY.client("me"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert await bench.refresh() == ["unusable"]
    assert bench.told[-1][1] == "certificates can't be read: can't start new thread"
    assert await bench.refresh() == ["renewed"]


@pytest.mark.parametrize("days", [-40, -2, 0, 2, 28, 31])
def test_near_its_dates(tmp_path: Path, days: int) -> None:
    """Where a day more or less would matter, or our own clock says that it isn't valid."""
    files = Files(tmp_path)
    assert files.source().read().near_its_dates(NOW + timedelta(days=days)) is (days not in (2, 28))


def test_the_first_time(tmp_path: Path) -> None:
    """What can't be used at the beginning is the caller's to hear."""
    files = Files(tmp_path)
    files.key.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="certificate_key: the value holds no PEM"):
        files.source().read()


def test_system_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the file that the environment names, as far as they can be used; read anew when it has changed."""
    bundle = tmp_path / "bundle.crt"
    other = Authority.create("other")
    bundle.write_bytes(
        b"# roots\n" + AUTHORITY.certificate + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert system_roots() == AUTHORITY.certificate
    bundle.write_bytes(AUTHORITY.certificate + other.certificate)
    assert system_roots() == AUTHORITY.certificate + other.certificate

"""The engines that tests run on, each as a kit (:mod:`tests.support.engine_pair`); the native one where it is built."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from spnhub.pki import Authority
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.engine import Engine, Limits
from spnhub.transport.native_engine import why_not
from tests.support.engine_pair import Credentials, Kit, MakesEngines
from tests.support.fake_engine import FakeEngine, FakeWire, fake_ca, fake_certificate

__all__ = [
    "ENGINES",
    "REAL",
    "class_of",
    "each",
    "each_name",
    "make_real",
    "new_aioquic",
    "new_fake",
    "new_native",
    "on_auto_first",
    "on_both_engines",
]


def new_fake() -> Kit:
    """The one in memory."""
    wire = FakeWire()
    return Kit(
        name="fake",
        make=lambda limits, *, reset_key=None: FakeEngine(wire, limits, reset_key),
        server=Credentials(fake_certificate("CN=hub.test", "servers"), b"key"),
        client=Credentials(fake_certificate("CN=alice", "clients"), b"key"),
        stranger=Credentials(fake_certificate("CN=mallory", "others"), b"key"),
        client_ca=fake_ca("clients"),
        trust=fake_ca("servers"),
        repeats=True,
    )


@functools.cache
def _authorities() -> tuple[Authority, Authority, Authority]:
    return Authority.create("servers"), Authority.create("clients"), Authority.create("others")


def _real_kit(name: str, make: MakesEngines) -> Kit:
    servers, clients, others = _authorities()
    server, client, stranger = servers.server("hub.test"), clients.client("alice"), others.client("mallory")
    return Kit(
        name=name,
        make=make,
        server=Credentials(server.certificate, server.key),
        client=Credentials(client.certificate, client.key),
        stranger=Credentials(stranger.certificate, stranger.key),
        client_ca=clients.certificate,
        trust=servers.certificate,
    )


def new_aioquic() -> Kit:
    """The reference."""
    return _real_kit("aioquic", AioquicEngine)


def new_native() -> Kit:
    """The native one, the same each time."""
    from spnhub.transport.native_engine.engine import NativeEngine

    seeds = itertools.count()

    def make(limits: Limits, *, reset_key: bytes | None = None) -> Engine:
        return NativeEngine(limits, reset_key=reset_key, seed=next(seeds).to_bytes(32))

    return _real_kit("native", make)


def class_of(name: str) -> Any:
    """A real engine's class, by its name."""
    if name == "aioquic":
        return AioquicEngine
    from spnhub.transport.native_engine.engine import NativeEngine

    return NativeEngine


def make_real(name: str, limits: Limits, **more: Any) -> Engine:
    """An engine by its name, with whatever its constructor takes."""
    engine: Engine = class_of(name)(limits, **more)
    return engine


REAL: dict[str, Callable[[], Kit]] = {"aioquic": new_aioquic, "native": new_native}
ENGINES: dict[str, Callable[[], Kit]] = {"fake": new_fake, **REAL}


def each(engines: Mapping[str, Callable[[], Any]]) -> list[Any]:
    """Parameters of a fixture: functions that make kits, skipped with the reason where one isn't built."""
    return [pytest.param(engines[str(one.id)], id=one.id, marks=one.marks) for one in each_name(engines)]


def each_name(engines: Iterable[str]) -> list[Any]:
    """The same of their names."""
    missing = why_not()
    skipped = [] if missing is None else [pytest.mark.skip(reason=missing)]
    return [pytest.param(name, id=name, marks=skipped if name == "native" else []) for name in engines]


on_both_engines = pytest.mark.parametrize("engine", each_name(REAL))
"""Of tests with real processes, the part that aioquic is tried with, too: all others are in a world on ``auto``."""

on_auto_first = pytest.mark.parametrize("engine", ["auto", pytest.param("aioquic", marks=pytest.mark.prove)])
"""Likewise of those that take long: aioquic's turn is ``make prove``."""

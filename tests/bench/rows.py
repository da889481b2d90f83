"""The rows of `make bench` by name, and what is aimed at. One row: one function that gives figures of one subject."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from tests.bench import pauses, starts, traffic, weight
from tests.bench.load import Figures
from tests.bench.tunnel import Subject, Tunnel

__all__ = ["ROWS", "Aim", "Row", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    seconds: float = 3.0
    """Of each load."""
    idle: int = 1000
    """Connections whose weight is measured; ten times as many are beside a transfer."""
    sessions: int = 100
    conversations: int = 100

    def __post_init__(self) -> None:
        if min(self.seconds, self.idle, self.sessions, self.conversations) <= 0:
            raise ValueError("every size is more than nothing")


@dataclass(frozen=True)
class Aim:
    """What a figure is, and what is promised of it."""

    title: str
    unit: str
    high: bool = False
    """Whether more is better."""
    times: float | None = None
    """Native is to be so many times better than aioquic in the same run."""
    native: float | None = None
    """Native is to be at most this (``high``: at least)."""
    aioquic: float | None = None

    def bound(self, engine: str) -> float | None:
        """The bound for an engine."""
        return {"native": self.native, "aioquic": self.aioquic}.get(engine)

    def holds(self, value: float, bound: float) -> bool:
        """Whether a figure keeps a bound."""
        return value >= bound if self.high else value <= bound

    def better(self, value: float, than: float) -> float:
        """How many times better one figure is than another."""
        worse, more = (than, value) if self.high else (value, than)
        return more / worse if worse else float("inf")


@dataclass(frozen=True)
class Row:
    """``running`` measures a tunnel that is there, or direct TCP; ``alone`` a subject that it starts itself."""

    name: str
    aims: dict[str, Aim] = field(hash=False)
    running: Callable[[Tunnel, Sizes], Awaitable[Figures]] | None = None
    alone: Callable[[Subject, Sizes], Awaitable[Figures]] | None = None


def _bulk(what: str) -> dict[str, Aim]:
    return {
        "MB_s": Aim(f"bulk {what}, one connection", "MB/s", high=True, times=21),
        "hub_s_GiB": Aim(f"bulk {what}, hub", "CPU s/GiB", times=24),
        "provider_s_GiB": Aim(f"bulk {what}, provider's agent", "CPU s/GiB"),
        "consumer_s_GiB": Aim(f"bulk {what}, consumer's agent", "CPU s/GiB"),
    }


def _many(what: str) -> dict[str, Aim]:
    return {
        "MB_s": Aim(f"100 at once {what}", "MB/s", high=True),
        "evenness": Aim(f"100 at once {what}, slowest over fastest", "", high=True, native=0.7),
        "hub_s_GiB": Aim(f"100 at once {what}, hub", "CPU s/GiB"),
    }


def _echo(what: str, times: float) -> dict[str, Aim]:
    return {
        "p50_ms": Aim(f"echo {what}, p50", "ms", times=times),
        "p99_ms": Aim(f"echo {what}, p99", "ms"),
    }


def _opens(what: str, per_s: float | None, times: float | None, aioquic: float) -> dict[str, Aim]:
    return {
        "per_s": Aim(f"open, echo, close, {what}", "1/s", high=True, times=per_s),
        "hub_s_1000": Aim(f"the same, {what}, hub", "CPU s/1,000", times=times, aioquic=aioquic),
    }


def _http(what: str, times: float) -> dict[str, Aim]:
    return {
        "per_s": Aim(f"HTTP, 10 KiB, {what}", "1/s", high=True, times=times),
        "p99_ms": Aim(f"HTTP {what}, p99", "ms"),
    }


def _pauses(what: str, bound: float) -> dict[str, Aim]:
    return {"p50_s": Aim(f"{what}, p50", "s"), "p99_s": Aim(f"{what}, p99", "s", native=bound)}


ROWS: Final = {
    row.name: row
    for row in (
        Row("bulk.down", _bulk("down"), lambda tunnel, sizes: traffic.bulk(tunnel, sizes.seconds)),
        Row("bulk.up", _bulk("up"), lambda tunnel, sizes: traffic.bulk(tunnel, sizes.seconds, up=True)),
        Row("many.down", _many("down"), lambda tunnel, sizes: traffic.bulk(tunnel, sizes.seconds, 100)),
        Row("many.up", _many("up"), lambda tunnel, sizes: traffic.bulk(tunnel, sizes.seconds, 100, up=True)),
        Row("echo.idle", _echo("idle", 2.6), lambda tunnel, sizes: traffic.echo(tunnel, sizes.seconds / 2)),
        Row(
            "echo.beside",
            {
                **_echo("beside bulk", 10),
                "MB_s": Aim("bulk meanwhile", "MB/s", high=True),
                "hub_wait_ms": Aim("the hub waits for a core meanwhile, each time", "ms"),
                "provider_wait_ms": Aim("the same, provider's agent", "ms"),
                "consumer_wait_ms": Aim("the same, consumer's agent", "ms"),
            },
            lambda tunnel, sizes: traffic.echo_beside(tunnel, sizes.seconds),
        ),
        Row(
            "opens.50",
            _opens("50 at once", 3.2, 4.7, 0.5),
            lambda tunnel, sizes: traffic.opens(tunnel, sizes.seconds, 50),
        ),
        Row(
            "opens.1",
            _opens("one after the other", None, None, 2),
            lambda tunnel, sizes: traffic.opens(tunnel, sizes.seconds, 1),
        ),
        Row("http.keep", _http("keep-alive", 7), lambda tunnel, sizes: traffic.http(tunnel, sizes.seconds, keep=True)),
        Row(
            "http.close",
            _http("without keep-alive", 3.5),
            lambda tunnel, sizes: traffic.http(tunnel, sizes.seconds, keep=False),
        ),
        Row(
            "rss",
            {
                "hub_MiB": Aim("memory at start, hub", "MiB", native=55),
                "provider_MiB": Aim("memory at start, provider's agent", "MiB", native=45),
                "consumer_MiB": Aim("memory at start, consumer's agent", "MiB", native=45),
            },
            alone=lambda subject, _: weight.at_start(subject),
        ),
        Row(
            "idle",
            {
                "hub_KiB": Aim("hub's memory for each idle connection", "KiB", native=6),
                "provider_KiB": Aim("the same, provider's agent", "KiB"),
                "consumer_KiB": Aim("the same, consumer's agent", "KiB"),
            },
            alone=lambda subject, sizes: weight.idle_connections(subject, sizes.idle),
        ),
        Row(
            "beside.idle",
            {"ratio": Aim("hub's bytes per CPU second beside many idle, over alone", "", high=True, native=0.95)},
            alone=lambda subject, sizes: weight.beside_idle(subject, sizes.idle * 10, sizes.seconds),
        ),
        Row(
            "sessions",
            {
                "hub_KiB": Aim("hub's memory for each session", "KiB", native=32),
                "hub_ms": Aim("a session's set-up, hub", "CPU ms", native=1.5),
            },
            alone=lambda subject, sizes: weight.sessions(subject, sizes.sessions),
        ),
        Row(
            "start.together",
            {"seconds": Aim("all started at once, until the first byte", "s", native=1.5)},
            alone=lambda subject, _: starts.together(subject),
        ),
        Row(
            "start.agent",
            {
                "consumer_s": Aim("a consumer's agent, start until the first byte", "s", native=0.4),
                "provider_s": Aim("a provider's agent, start until the first byte", "s", native=0.4),
            },
            alone=lambda subject, _: starts.agents(subject),
        ),
        Row(
            "restart",
            {
                **_pauses("after a lone hub's restart, from hub.ready until it flows", 0.5),
                "ready_s": Aim("hub, start until hub.ready", "s"),
            },
            alone=lambda subject, sizes: pauses.restart(subject, sizes.conversations),
        ),
        Row(
            "update",
            _pauses("rolling update, pause", 0.1),
            alone=lambda subject, sizes: pauses.update(subject, sizes.conversations * 2),
        ),
        Row(
            "kill",
            _pauses("kill -9 with a second hub, pause", 0.5),
            alone=lambda subject, sizes: pauses.kill(subject, sizes.conversations * 2),
        ),
    )
}

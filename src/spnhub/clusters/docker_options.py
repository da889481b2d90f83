"""``options`` of a service on Docker: the few of ``docker run`` that change how it is reached and what it may use.

What gives a container power over its host (``--privileged``, ``--volume``, ``--device``, ``--pid`` and so on) is not
among them: the right to edit an inventory must not make anyone root on the hub's host. Counterpart:
:mod:`spnhub.clusters.docker_engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

__all__ = ["parse_options"]


def parse_options(words: Iterable[str]) -> dict[str, Any]:
    """Keyword arguments for ``containers.create`` of the Docker SDK.

    Each word is an option as ``docker run`` takes it: ``--network=web``, ``--network`` followed by ``web`` as the next
    word, or both in one word, ``-p 8080:80``.

    :raises ValueError: an option is unknown here or faulty; the text names it.
    """
    flat = [part for word in words for part in word.split()]
    settings: dict[str, Any] = {}
    while flat:
        word = flat.pop(0)
        name, equals, value = word.partition("=")
        if name not in _OPTIONS:
            raise ValueError(f"option {name!r} is none of {', '.join(sorted(_OPTIONS))}")
        if not equals:
            if not flat:
                raise ValueError(f"option {name!r} has no value")
            value = flat.pop(0)
        keyword, take = _OPTIONS[name]
        try:
            settings[keyword] = take(settings.get(keyword), value)
        except ValueError as error:
            raise ValueError(f"option {name!r}: {error}") from None
    return settings


def _text(_: Any, value: str) -> str:
    if not value:
        raise ValueError("has no value")
    return value


def _network(_: Any, value: str) -> str:
    if value.startswith("container:"):
        raise ValueError("the network of another container can't be shared")
    return _text(None, value)


def _publish(ports: dict[str, Any] | None, value: str) -> dict[str, Any]:
    """``[address:]host port:container port[/protocol]``."""
    outer, _, inner = value.rpartition(":")
    address, _, port = outer.rpartition(":")
    number, _, protocol = inner.partition("/")
    if not (port.isdecimal() and number.isdecimal()) or protocol not in {"", "tcp", "udp", "sctp"}:
        raise ValueError(f"{value!r} is not [ADDRESS:]PORT:PORT[/PROTOCOL]")
    binding = (address.strip("[]"), int(port)) if address else int(port)
    return (ports or {}) | {f"{number}/{protocol or 'tcp'}": binding}


def _pair(separator: str) -> Callable[[dict[str, str] | None, str], dict[str, str]]:
    def take(pairs: dict[str, str] | None, value: str) -> dict[str, str]:
        name, found, rest = value.partition(separator)
        if not found or not name:
            raise ValueError(f"{value!r} is not NAME{separator}VALUE")
        return (pairs or {}) | {name: rest}

    return take


def _cpus(_: Any, value: str) -> int:
    return round(float(value) * 1_000_000_000)


def _more(values: list[str] | None, value: str) -> list[str]:
    return [*(values or []), _text(None, value)]


_OPTIONS: Final[dict[str, tuple[str, Callable[[Any, str], Any]]]] = {
    "--network": ("network", _network),
    "--net": ("network", _network),
    "--publish": ("ports", _publish),
    "-p": ("ports", _publish),
    "--add-host": ("extra_hosts", _pair(":")),
    "--dns": ("dns", _more),
    "--hostname": ("hostname", _text),
    "-h": ("hostname", _text),
    "--user": ("user", _text),
    "-u": ("user", _text),
    "--workdir": ("working_dir", _text),
    "-w": ("working_dir", _text),
    "--entrypoint": ("entrypoint", _text),
    "--memory": ("mem_limit", _text),
    "-m": ("mem_limit", _text),
    "--cpus": ("nano_cpus", _cpus),
    "--label": ("labels", _pair("=")),
    "-l": ("labels", _pair("=")),
}
